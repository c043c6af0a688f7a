#include "launch/settings/settings.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/settings/suggest.h"
#include "launch/settings/yaml.h"

/* ---- fields */

static bool is_text(const hw_setting *s) { return s->type <= HW_SETTING_FOLDER; }
static bool is_list(const hw_setting *s)
{
    return s->type == HW_SETTING_TEXTS || s->type == HW_SETTING_VARIABLES;
}
static bool has_auto(const hw_setting *s)
{
    return s->fallback && !strcmp(s->fallback, "auto") && !s->choices;
}

/* Of a list: all of it, with the count behind it. Hosts are config.c's. */
static size_t size_of(const hw_setting *s)
{
    switch (s->type) {
    case HW_SETTING_FLAG: return sizeof(bool);
    case HW_SETTING_CHOICE:
    case HW_SETTING_WHOLE: return sizeof(int);
    case HW_SETTING_SEED:
    case HW_SETTING_BYTES: return sizeof(uint64_t);
    case HW_SETTING_FLOAT: return sizeof(float);
    case HW_SETTING_DOUBLE: return sizeof(double);
    case HW_SETTING_TEXTS:
    case HW_SETTING_VARIABLES: return (size_t)s->max * sizeof(char *) + sizeof(int);
    case HW_SETTING_HOSTS: return 0;
    default: return sizeof(char *);
    }
}

static int *count_of(const hw_setting *s, void *values)
{
    return (int *)(void *)((char *)values + s->offset + (size_t)s->max * sizeof(char *));
}

static uint64_t bit_of(const hw_setting_group *g, size_t offset)
{
    for (int i = 0; i < g->n; i++)
        if (g->rows[i].offset == offset) return (uint64_t)1 << i;
    return 0;
}

bool hw_setting_is_given(const hw_setting_group *g, const void *values, size_t offset)
{
    return ((const hw_given *)values)->value & bit_of(g, offset);
}

static void record(const hw_setting_group *g, const hw_setting *s, void *values, bool automatic)
{
    hw_given *given = values;
    const uint64_t bit = bit_of(g, s->offset);
    if (!g->recorded) return;
    given->value = automatic ? given->value & ~bit : given->value | bit;
    given->automatic = automatic ? given->automatic | bit : given->automatic & ~bit;
}

void hw_settings_defaults(const hw_setting_group *g, void *values)
{
    for (int i = 0; i < g->n; i++) {
        const hw_setting *s = &g->rows[i];
        memset((char *)values + s->offset, 0, size_of(s));
        if (s->fallback && !has_auto(s) && !is_list(s)) /* the default of a list is [] */
            hw_setting_take(g, s, values, s->fallback, HW_WORD_ARGUMENT);
    }
    if (g->recorded) *(hw_given *)values = (hw_given){0};
}

/* ---- words */

/* Decimal digits alone: 010 is eight to some readers and ten to others, 1_000 and 1:30 are numbers to some. */
static bool to_whole(const char *word, double min, double max, int64_t *out)
{
    const char *digits = word + (*word == '-');
    if (!*digits || digits[strspn(digits, "0123456789")] || (*digits == '0' && digits[1])) return false;
    errno = 0;
    *out = strtoll(word, NULL, 10);
    return !errno && (double)*out >= min && (double)*out <= max;
}

static bool to_number(const char *word, double min, double max, double *out)
{
    char *end;
    if (!hw_yaml_is_number(word) || word[strspn(word, "+-.0123456789eE")]) return false;
    *out = strtod(word, &end);
    return !*end && *out >= min && *out <= max;
}

/* Bytes, or K, M, G or T of them, in powers of 1024 as memory is counted. */
static bool to_bytes(const char *word, uint64_t *out)
{
    static const char units[] = "KMGT";
    char *end;
    if (*word < '1' || *word > '9') return false;
    errno = 0;
    unsigned long long bytes = strtoull(word, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;
    const int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    if (errno || (*end && (!unit || end[1])) || bytes > UINT64_MAX >> shift) return false;
    *out = (uint64_t)bytes << shift;
    return true;
}

/* A number without quotes where a text belongs is refused: 1e3 and 010 would come out as they were written, and that
 * is not what YAML and JSON say of them. */
static bool to_text(const hw_setting *s, const char *word, hw_word_kind kind)
{
    if (kind == HW_WORD_PLAIN)
        return !(hw_yaml_is_null(word) || hw_yaml_is_truth(word) || hw_yaml_is_number(word));
    return strlen(word) >= (size_t)s->min;
}

/* NAME or NAME=VALUE */
static bool is_variable(const char *text)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
    const size_t n = strspn(text, letters);
    return n && (*text < '0' || *text > '9') && (!text[n] || text[n] == '=');
}

static bool add_text(const hw_setting *s, void *values, const char *word, hw_word_kind kind)
{
    const char **texts = (const char **)(void *)((char *)values + s->offset);
    int *n = count_of(s, values);
    if (*n >= (int)s->max || !to_text(s, word, kind)) return false;
    if (s->type == HW_SETTING_VARIABLES && !is_variable(word)) return false;
    texts[(*n)++] = word;
    return true;
}

static const hw_named_value *find_choice(const hw_setting *s, const char *word)
{
    const hw_named_value *c = s->choices;
    while (c->name && strcmp(word, c->name)) c++;
    return c->name ? c : NULL;
}

static bool to_choice(const hw_setting *s, const char *word, char *at)
{
    const hw_named_value *choice = find_choice(s, word);
    if (choice) memcpy(at, &choice->value, sizeof choice->value);
    return choice;
}

static bool to_flag(const char *word, hw_word_kind kind, bool *out)
{
    const bool argument = kind == HW_WORD_ARGUMENT;
    *out = !strcmp(word, "true") || (argument && !strcmp(word, "on"));
    return *out || !strcmp(word, "false") || (argument && !strcmp(word, "off"));
}

/* A word without quotes into a field that is no text. */
static bool set_plain(const hw_setting *s, const char *word, hw_word_kind kind, char *at)
{
    int64_t whole;
    double x = 0;
    bool ok = false;
    switch (s->type) {
    case HW_SETTING_FLAG: return to_flag(word, kind, (bool *)at);
    case HW_SETTING_BYTES: return to_bytes(word, (uint64_t *)(void *)at);
    case HW_SETTING_WHOLE:
        if ((ok = to_whole(word, s->min, s->max, &whole))) *(int *)(void *)at = (int)whole;
        return ok;
    case HW_SETTING_SEED:
        if ((ok = to_whole(word, s->min, INFINITY, &whole))) *(uint64_t *)(void *)at = (uint64_t)whole;
        return ok;
    case HW_SETTING_DOUBLE:
        if ((ok = to_number(word, s->min, s->max, &x))) *(double *)(void *)at = x;
        return ok;
    case HW_SETTING_FLOAT: /* what only a double tells from 0 would come out as 0, which is greedy or off */
        ok = to_number(word, s->min, s->max, &x) && (x == 0 || (float)x != 0);
        if (ok) *(float *)(void *)at = (float)x;
        return ok;
    default: return false;
    }
}

static bool set_text(const hw_setting *s, const char *word, hw_word_kind kind, char *at)
{
    if (s->type == HW_SETTING_WORD && kind != HW_WORD_ARGUMENT && !find_choice(s, word)) return false;
    if (s->type != HW_SETTING_WORD && !to_text(s, word, kind)) return false;
    *(const char **)(void *)at = word;
    return true;
}

bool hw_setting_take(const hw_setting_group *g, const hw_setting *s, void *values, const char *word,
                     hw_word_kind kind)
{
    char *at = (char *)values + s->offset;
    const bool plain = kind == HW_WORD_PLAIN || (kind == HW_WORD_ARGUMENT && !is_text(s));
    const bool automatic = has_auto(s) && (plain || !is_text(s)) && !strcmp(word, "auto");
    bool ok = true;
    if (automatic) memset(at, 0, size_of(s));
    else if (is_list(s)) ok = add_text(s, values, word, kind);
    else if (s->type == HW_SETTING_CHOICE) ok = to_choice(s, word, at);
    else if (is_text(s) || s->type == HW_SETTING_WORD) ok = set_text(s, word, kind, at);
    else ok = plain && set_plain(s, word, kind, at);
    if (ok) record(g, s, values, automatic);
    return ok;
}

/* ---- what is wrong */

/* The choice after `c` that has a value of its own. */
static const hw_named_value *next_choice(const hw_setting *s, const hw_named_value *c)
{
    const int value = c++->value;
    while (s->type == HW_SETTING_CHOICE && c->name && c->value == value) c++;
    return c;
}

/* "auto, a, b or c" */
static void list_choices(const hw_setting *s, char *text, size_t size)
{
    size_t n = 0;
    for (const hw_named_value *c = s->choices; c->name && n < size; c = next_choice(s, c))
        n += (size_t)snprintf(text + n, size - n, "%s%s",
                              c == s->choices           ? ""
                              : next_choice(s, c)->name ? ", "
                                                        : " or ",
                              c->name);
}

char *hw_setting_wanted(const hw_setting *s, hw_word_kind kind, char *text, size_t size)
{
    const bool argument = kind == HW_WORD_ARGUMENT;
    const char *either = has_auto(s) && !(argument && is_text(s)) ? "auto, or " : "";
    const char *number = s->unit ? "" : "a number from ";
    const char *blank = s->unit ? " " : "", *unit = s->unit ? s->unit : "";
    switch (s->type) {
    case HW_SETTING_TEXT:
    case HW_SETTING_FOLDER: snprintf(text, size, "%sa text", either); break;
    case HW_SETTING_WORD:
    case HW_SETTING_CHOICE: list_choices(s, text, size); break;
    case HW_SETTING_FLAG: snprintf(text, size, argument ? "on or off" : "true or false"); break;
    case HW_SETTING_SEED: snprintf(text, size, "a whole number%s", s->min < 0 ? "" : " from 0 on"); break;
    case HW_SETTING_BYTES: snprintf(text, size, "%sbytes, as 1073741824, 1024M or 1G", either); break;
    case HW_SETTING_WHOLE:
    case HW_SETTING_FLOAT:
    case HW_SETTING_DOUBLE:
        snprintf(text, size, "%s%s%.10g to %.10g%s%s", either, number, s->min, s->max, blank, unit);
        break;
    case HW_SETTING_TEXTS:
        if (argument) snprintf(text, size, "a text");
        else snprintf(text, size, "a list of at most %.0f texts", s->max);
        break;
    case HW_SETTING_VARIABLES:
        snprintf(text, size, "a list of at most %.0f of NAME and NAME=VALUE", s->max);
        break;
    case HW_SETTING_HOSTS: snprintf(text, size, "a list of 1 to %.0f hosts", s->max); break;
    }
    return text;
}

/* The way out of common mistakes with quotes. */
static const char *hint_of(const hw_setting *s, const char *word, hw_word_kind kind)
{
    const bool text = is_text(s) || is_list(s);
    if (kind == HW_WORD_QUOTED && !text && s->type != HW_SETTING_WORD && s->type != HW_SETTING_CHOICE)
        return "; leave the quotes out";
    if (kind != HW_WORD_PLAIN) return "";
    if (text && hw_yaml_is_truth(word))
        return "; without quotes this word is true or false: put it in quotes";
    if (text && hw_yaml_is_number(word)) return "; this is a number: put it in quotes";
    if (s->type == HW_SETTING_FLAG && hw_yaml_is_truth(word))
        return "; YAML parsers disagree about this word";
    return "";
}

hw_status hw_setting_refuse(const hw_setting *s, void *values, const char *where, const char *name,
                            const char *word, hw_word_kind kind, const char *found, hw_error *err)
{
    char wanted[200], text[64];
    if (word && is_list(s) && *count_of(s, values) >= (int)s->max)
        return hw_fail(err, HW_ERR_INVALID, "%s%s has more than %.0f entries", where, name, s->max);
    const char *quote = kind == HW_WORD_QUOTED ? "\"" : "'";
    if (word)
        snprintf(text, sizeof text, "%s%.40s%s%s", quote, word, quote,
                 !*word || (kind == HW_WORD_PLAIN && hw_yaml_is_null(word)) ? " (empty)" : "");
    return hw_fail(err, HW_ERR_INVALID, "%s%s is %s, wanted %s%s", where, name, word ? text : found,
                   hw_setting_wanted(s, kind, wanted, sizeof wanted), word ? hint_of(s, word, kind) : "");
}

/* ---- JSON */

static hw_status take_json(const hw_setting_group *g, const hw_setting *s, void *values, const char *name,
                           const json_t *value, hw_error *err)
{
    static const char *const found[] = {[JSON_OBJECT] = "an object",
                                        [JSON_ARRAY] = "a list",
                                        [JSON_STRING] = "a text with a zero byte (\\u0000) in it",
                                        [JSON_NULL] = "null"};
    char number[32];
    const char *word = NULL;
    const hw_word_kind kind = json_is_string(value) ? HW_WORD_QUOTED : HW_WORD_PLAIN;
    switch (json_typeof(value)) {
    case JSON_STRING:
        if (strlen(json_string_value(value)) == json_string_length(value)) word = json_string_value(value);
        break;
    case JSON_TRUE: word = "true"; break;
    case JSON_FALSE: word = "false"; break;
    case JSON_INTEGER:
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        word = number;
        break;
    case JSON_REAL: /* 0.8 as it was written where 15 digits do, else the whole double */
        snprintf(number, sizeof number, "%.15g", json_real_value(value));
        if (strtod(number, NULL) != json_real_value(value))
            snprintf(number, sizeof number, "%.17g", json_real_value(value));
        word = number;
        break;
    default: break;
    }
    if (word && hw_setting_take(g, s, values, word, kind)) return HW_OK;
    return hw_setting_refuse(s, values, "", name, word, kind, word ? NULL : found[json_typeof(value)], err);
}

static hw_status no_such_setting(const hw_setting_group *g, const char *name, hw_error *err)
{
    const char *known[64];
    char hint[400];
    int n = 0;
    for (int i = 0; i < g->n; i++)
        if (g->rows[i].path) known[n++] = strrchr(g->rows[i].path, '.') + 1;
    return hw_fail(err, HW_ERR_INVALID, "there is no setting %.60s; %s", name,
                   hw_suggest_hint(name, known, n, hint, sizeof hint));
}

hw_status hw_setting_from_json(const hw_setting_group *g, void *values, const char *name, const json_t *value,
                               hw_error *err)
{
    const hw_setting *s = NULL;
    for (int i = 0; i < g->n && !s; i++)
        if (g->rows[i].path && !strcmp(strrchr(g->rows[i].path, '.') + 1, name)) s = &g->rows[i];
    if (!s) return no_such_setting(g, name, err);
    if (json_is_null(value)) return HW_OK;
    if (!is_list(s) || !json_is_array(value)) return take_json(g, s, values, name, value, err);
    hw_status st = HW_OK;
    for (size_t i = 0; i < json_array_size(value) && !st; i++)
        st = take_json(g, s, values, name, json_array_get(value, i), err);
    return st;
}

/* ---- sources over each other */

/* Greedy decoding has no use for what would have thinned out the candidates. */
static void leave_out_for_greedy(hw_request_settings *r)
{
#define BIT(field) bit_of(&hw_request_group, offsetof(hw_request_settings, sampling.field))
    if (!(r->given.value & BIT(temperature)) || r->sampling.temperature != 0) return;
    r->given.automatic |= (BIT(top_k) | BIT(top_p) | BIT(min_p)) & ~r->given.value;
#undef BIT
}

void hw_settings_inherit(const hw_setting_group *g, void *nearer, const void *farther)
{
    hw_given *mine = nearer;
    const hw_given *other = farther;
    if (g == &hw_request_group) leave_out_for_greedy(nearer);
    for (int i = 0; i < g->n; i++) {
        const uint64_t bit = (uint64_t)1 << i;
        const size_t offset = g->rows[i].offset;
        if ((mine->value | mine->automatic) & bit || !((other->value | other->automatic) & bit)) continue;
        memcpy((char *)nearer + offset, (const char *)farther + offset, size_of(&g->rows[i]));
        mine->value |= other->value & bit;
        mine->automatic |= other->automatic & bit;
    }
}

/* ---- ranks that must agree */

uint64_t hw_hash(uint64_t hash, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) hash = (hash ^ p[i]) * 1099511628211u;
    return hash;
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    return text ? hw_hash(hash, text, strlen(text) + 1) : hash;
}

static uint64_t hash_row(const hw_setting *s, const char *at, uint64_t hash)
{
    const char *const *texts = (const char *const *)(const void *)at;
    if (is_text(s) || s->type == HW_SETTING_WORD) return hash_text(hash, *texts);
    if (!is_list(s)) return hw_hash(hash, at, size_of(s));
    for (int i = 0; i < *(const int *)(const void *)(texts + (size_t)s->max); i++)
        hash = hash_text(hash, texts[i]);
    return hash;
}

uint64_t hw_settings_hash(const hw_setting_group *g, const void *values, uint64_t hash)
{
    const hw_given *given = values;
    for (int i = 0; i < g->n; i++) {
        if (!(g->rows[i].traits & HW_SAME)) continue;
        const bool automatic = g->recorded && has_auto(&g->rows[i]) && !(given->value >> i & 1);
        hash = hw_hash(hash, &automatic, sizeof automatic);
        hash = hash_row(&g->rows[i], (const char *)values + g->rows[i].offset, hash);
    }
    return hash;
}
