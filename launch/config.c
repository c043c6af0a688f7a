#include "launch/config.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch/nearest.h"

/* Where a value goes, and what to call the file. */
typedef struct place {
    const hw_yaml *y;
    char *base;         /* what offsets are from: the hw_config, or a host of it */
    const char *inside; /* what comes before the keys: "", "cache.", "cluster.hosts[]." */
    hw_error *err;
} place;

/* ---- what is wrong */

static hw_status refuse_value(const place *p, const hw_setting *s, const hw_yaml_node *n)
{
    static const char *const kinds[] = {"", "a list", "a mapping"};
    char wanted[200], found[64];
    const char *hint = "";
    if (n->kind == HW_YAML_SEQUENCE && !n->first) snprintf(found, sizeof found, "an empty list");
    else if (n->kind != HW_YAML_SCALAR) snprintf(found, sizeof found, "%s", kinds[n->kind]);
    else if (hw_yaml_is_null(n)) snprintf(found, sizeof found, "empty");
    else snprintf(found, sizeof found, "%s%.40s%s", n->plain ? "'" : "\"", n->text, n->plain ? "'" : "\"");
    const bool is_text =
        s->type == HW_SETTING_TEXT || s->type == HW_SETTING_TEXTS || s->type == HW_SETTING_VARIABLES;
    if (is_text && hw_yaml_is_truth(n)) hint = "; YAML reads this word as true or false: put it in quotes";
    else if (is_text && hw_yaml_is_number(n)) hint = "; this is a number: put it in quotes";
    else if (s->type == HW_SETTING_FLAG && hw_yaml_is_truth(n))
        hint = "; not every reader of YAML takes it for one of them";
    else if (n->kind == HW_YAML_SCALAR && !n->plain && !is_text && s->type < HW_SETTING_TEXTS)
        hint = "; leave the quotes out";
    return hw_fail(p->err, HW_ERR_INVALID, "%s:%d:%d: %s is %s, wanted %s%s", hw_yaml_name(p->y), n->line,
                   n->column, s->path, found, hw_setting_wanted(s, wanted, sizeof wanted), hint);
}

/* ---- values */

static bool is_word(const hw_yaml_node *n, const char *word)
{
    return n->kind == HW_YAML_SCALAR && n->plain && !strcmp(n->text, word);
}

/* Decimal digits alone: 010 is eight to some readers and ten to others, 1_000 and 1:30 are numbers to some.
 */
static bool is_whole(const char *text)
{
    const char *digits = text + (*text == '-');
    return *digits && !digits[strspn(digits, "0123456789")] && (*digits != '0' || !digits[1]);
}

static bool to_whole(const hw_yaml_node *n, double min, double max, int64_t *out)
{
    if (!n->plain || !is_whole(n->text)) return false;
    errno = 0;
    *out = strtoll(n->text, NULL, 10);
    return !errno && (double)*out >= min && (double)*out <= max;
}

static bool to_number(const hw_yaml_node *n, double min, double max, float *out)
{
    char *end;
    if (!hw_yaml_is_number(n) || n->text[strspn(n->text, "+-.0123456789eE")]) return false;
    double x = strtod(n->text, &end);
    *out = (float)x;
    return !*end && x >= min && x <= max;
}

static bool to_bytes(const hw_yaml_node *n, uint64_t *out)
{
    static const char units[] = "KMGT";
    char *end;
    if (!n->plain || *n->text < '1' || *n->text > '9') return false;
    errno = 0;
    unsigned long long bytes = strtoull(n->text, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;
    const int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    if (errno || (*end && (!unit || end[1])) || bytes > UINT64_MAX >> shift) return false;
    *out = (uint64_t)bytes << shift;
    return true;
}

static const hw_named_value *find_choice(const hw_setting *s, const hw_yaml_node *n)
{
    for (const hw_named_value *c = s->choices; c->name; c++)
        if (is_word(n, c->name)) return c;
    return NULL;
}

/* A number where a text belongs is refused: 1e3 and 010 would come out as they were written, and that is not
 * what YAML says of them. */
static bool is_text(const hw_yaml_node *n)
{
    return n->kind == HW_YAML_SCALAR && *n->text &&
           !(hw_yaml_is_null(n) || hw_yaml_is_truth(n) || hw_yaml_is_number(n));
}

static bool set_scalar(const hw_setting *s, const hw_yaml_node *n, char *at)
{
    const hw_named_value *choice;
    int64_t whole;
    switch (s->type) {
    case HW_SETTING_TEXT: return is_text(n) && (*(const char **)(void *)at = n->text);
    case HW_SETTING_WORD: return (choice = find_choice(s, n)) && (*(const char **)(void *)at = choice->name);
    case HW_SETTING_CHOICE:
        if ((choice = find_choice(s, n))) memcpy(at, &choice->value, sizeof choice->value);
        return choice;
    case HW_SETTING_FLAG: *(bool *)at = is_word(n, "true"); return is_word(n, "true") || is_word(n, "false");
    case HW_SETTING_WHOLE:
        if (!to_whole(n, s->min, s->max, &whole)) return false;
        *(int *)(void *)at = (int)whole;
        return true;
    case HW_SETTING_SEED:
        if (!to_whole(n, 0, INFINITY, &whole)) return false;
        *(uint64_t *)(void *)at = (uint64_t)whole;
        return true;
    case HW_SETTING_BYTES: return to_bytes(n, (uint64_t *)(void *)at);
    case HW_SETTING_NUMBER: return to_number(n, s->min, s->max, (float *)(void *)at);
    case HW_SETTING_TEXTS:
    case HW_SETTING_VARIABLES:
    case HW_SETTING_HOSTS: break;
    }
    return false;
}

/* NAME or NAME=VALUE */
static bool is_variable(const char *text)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";
    const size_t n = strspn(text, letters);
    return n && (*text < '0' || *text > '9') && (!text[n] || text[n] == '=');
}

static hw_status read_texts(const place *p, const hw_setting *s, const hw_yaml_node *n)
{
    const char **texts = (const char **)(void *)(p->base + s->offset);
    int *count = (int *)(void *)(p->base + s->given);
    if (n->kind != HW_YAML_SEQUENCE) return refuse_value(p, s, n);
    *count = 0;
    for (const hw_yaml_node *c = n->first; c; c = c->next) {
        if (!is_text(c) || (s->type == HW_SETTING_VARIABLES && !is_variable(c->text)))
            return refuse_value(p, s, c);
        if (*count >= (int)s->max)
            return hw_fail(p->err, HW_ERR_INVALID, "%s:%d:%d: %s has more than %d entries",
                           hw_yaml_name(p->y), c->line, c->column, s->path, (int)s->max);
        texts[(*count)++] = c->text;
    }
    return HW_OK;
}

static hw_status read_mapping(const place *p, const hw_yaml_node *n);

static hw_status read_hosts(const place *p, const hw_setting *s, const hw_yaml_node *n)
{
    hw_host *hosts = (hw_host *)(void *)(p->base + s->offset);
    int *count = (int *)(void *)(p->base + s->given);
    if (n->kind != HW_YAML_SEQUENCE || !n->first) return refuse_value(p, s, n);
    *count = 0;
    for (const hw_yaml_node *c = n->first; c; c = c->next) {
        if (*count >= (int)s->max || c->kind != HW_YAML_MAPPING)
            return hw_fail(p->err, HW_ERR_INVALID,
                           "%s:%d:%d: %s: wanted at most %d hosts, each as \"- {name: node1, slots: 4}\"",
                           hw_yaml_name(p->y), c->line, c->column, s->path, (int)s->max);
        hw_host *host = &hosts[(*count)++];
        *host = (hw_host){.name = "localhost", .slots = 1};
        const place inside = {p->y, (char *)host, "cluster.hosts[].", p->err};
        hw_status st = read_mapping(&inside, c);
        if (st) return st;
        /* A comma would be another host to mpirun, a dash in front an option. */
        if (host->name[strspn(host->name,
                              "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")] ||
            *host->name == '-')
            return hw_fail(p->err, HW_ERR_INVALID,
                           "%s:%d:%d: \"%.60s\" is no host name: wanted letters, digits, dots and dashes",
                           hw_yaml_name(p->y), c->line, c->column, host->name);
        for (int i = 0; i + 1 < *count; i++)
            if (!strcmp(hosts[i].name, host->name))
                return hw_fail(p->err, HW_ERR_INVALID,
                               "%s:%d:%d: host \"%.60s\" is here a second time; give it more slots instead",
                               hw_yaml_name(p->y), c->line, c->column, host->name);
    }
    return HW_OK;
}

static hw_status read_value(const place *p, const hw_setting *s, const hw_yaml_node *n)
{
    if (s->type == HW_SETTING_TEXTS || s->type == HW_SETTING_VARIABLES) return read_texts(p, s, n);
    if (s->type == HW_SETTING_HOSTS) return read_hosts(p, s, n);
    if (s->has_auto && is_word(n, "auto")) return HW_OK;
    if (n->kind != HW_YAML_SCALAR || !set_scalar(s, n, p->base + s->offset)) return refuse_value(p, s, n);
    if (s->given) *(bool *)(p->base + s->given) = true;
    return HW_OK;
}

/* ---- keys */

static bool is_section(const char *path)
{
    const size_t n = strlen(path);
    for (int i = 0; i < hw_n_settings; i++)
        if (!strncmp(hw_settings[i].path, path, n) && hw_settings[i].path[n] == '.') return true;
    return false;
}

static hw_status read_entry(const place *p, const hw_yaml_node *n)
{
    char path[96], hint[400];
    /* No key is that long; a longer one is cut and then not known. */
    snprintf(path, sizeof path, "%s%.60s", p->inside, n->key);
    const bool one_word = !strpbrk(n->key, ".[");
    for (int i = 0; i < hw_n_settings && one_word; i++)
        if (!strcmp(hw_settings[i].path, path)) return read_value(p, &hw_settings[i], n);
    if (!one_word || !is_section(path))
        return hw_fail(p->err, HW_ERR_INVALID, "%s:%d:%d: there is no setting %s; %s", hw_yaml_name(p->y),
                       n->key_line, n->key_column, path,
                       hw_nearest_setting(path, p->inside, hint, sizeof hint));
    if (n->kind == HW_YAML_SCALAR && hw_yaml_is_null(n)) return HW_OK; /* all its settings are comments */
    if (n->kind != HW_YAML_MAPPING)
        return hw_fail(p->err, HW_ERR_INVALID, "%s:%d:%d: %s has settings below it, as in \"%s: {%s}\"",
                       hw_yaml_name(p->y), n->line, n->column, path, path,
                       hw_nearest_example(path, hint, sizeof hint));
    strcat(path, ".");
    const place inside = {p->y, p->base, path, p->err};
    return read_mapping(&inside, n);
}

static hw_status read_mapping(const place *p, const hw_yaml_node *n)
{
    hw_status st = HW_OK;
    for (const hw_yaml_node *c = n->first; c && !st; c = c->next) st = read_entry(p, c);
    return st;
}

/* ---- the whole */

hw_status hw_config_parse(hw_config *c, const char *text, size_t n_bytes, const char *name, hw_error *err)
{
    hw_status st = hw_yaml_parse(&c->document, text, n_bytes, name, err);
    if (st) return st;
    const hw_yaml_node *root = hw_yaml_root(c->document);
    const place top = {c->document, (char *)c, "", err};
    if (!root) return HW_OK;
    if (root->kind != HW_YAML_MAPPING)
        return hw_fail(err, HW_ERR_INVALID, "%s:%d:%d: wanted sections with settings, as in \"model:\"", name,
                       root->line, root->column);
    st = read_mapping(&top, root);
    c->args.engine.dummy = !strcmp(c->args.load_format, "dummy");
    return st;
}

void hw_config_free(hw_config *c)
{
    hw_yaml_close(c->document);
    c->document = NULL;
}

/* ---- files */

static hw_status read_all(char *text, size_t *n_bytes, int fd, const char *path, hw_error *err)
{
    ssize_t got = 1;
    *n_bytes = 0;
    while (got && *n_bytes <= HW_YAML_MAX_BYTES) {
        got = read(fd, text + *n_bytes, HW_YAML_MAX_BYTES + 1 - *n_bytes);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return hw_fail(err, HW_ERR_INVALID, "configuration %s: cannot read: %s", path, strerror(errno));
        *n_bytes += (size_t)got;
    }
    return HW_OK;
}

hw_status hw_config_read(char **text, size_t *n_bytes, const char *path, hw_error *err)
{
    struct stat info;
    *text = NULL;
    *n_bytes = 0;
    /* Not waiting for the other end of a pipe that somebody named. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return hw_fail(err, HW_ERR_INVALID, "configuration %s: %s", path, strerror(errno));
    hw_status st = HW_OK;
    if (fstat(fd, &info) || !S_ISREG(info.st_mode))
        st = hw_fail(err, HW_ERR_INVALID, "configuration %s: not a file; wanted a YAML file", path);
    /* One byte more than is allowed: the parser then says that it is too many. */
    if (!st && !(*text = malloc(HW_YAML_MAX_BYTES + 1)))
        st = hw_fail(err, HW_ERR_NO_MEMORY, "configuration %s: no memory", path);
    if (!st) st = read_all(*text, n_bytes, fd, path, err);
    close(fd);
    if (!st) return HW_OK;
    free(*text);
    *text = NULL;
    return st;
}
