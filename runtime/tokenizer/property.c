#include "runtime/tokenizer/property.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <ctype.h>
#include <pcre2.h>
#include <stdio.h>

#include "runtime/tokenizer/unicode.h"

/* Code points where versions of Unicode differ: beyond are private characters, tags and what is not assigned. */
enum { N_PROBED = 0x40000 };

/* ---- tables: a run is its first code point << 8 | what it is of */

enum {
#define CATEGORY(name) CATEGORY_##name,
#define SCRIPT(name)
#define C(first, name)
#define S(first, name)
#include "runtime/tokenizer/unicode_tables.def"
};

enum {
#define CATEGORY(name)
#define SCRIPT(name) SCRIPT_##name,
#define C(first, name)
#define S(first, name)
#include "runtime/tokenizer/unicode_tables.def"
    N_SCRIPTS
};

static const uint32_t category_runs[] = {
#define CATEGORY(name)
#define SCRIPT(name)
#define C(first, name) (uint32_t)(first) << 8 | CATEGORY_##name,
#define S(first, name)
#include "runtime/tokenizer/unicode_tables.def"
};

static const uint32_t script_runs[] = {
#define CATEGORY(name)
#define SCRIPT(name)
#define C(first, name)
#define S(first, name) (uint32_t)(first) << 8 | SCRIPT_##name,
#include "runtime/tokenizer/unicode_tables.def"
};

static const struct {
    const char *name, *exact,
        *loose; /* for PCRE2 from 10.40 on \p{Han} is the script's extensions, \p{sc:Han} the script */
} scripts[] = {
#define CATEGORY(name)
#define SCRIPT(name) {#name, "\\p{sc:" #name "}", "\\p{" #name "}"},
#define C(first, name)
#define S(first, name)
#include "runtime/tokenizer/unicode_tables.def"
};

#define BIT(name) (UINT32_C(1) << CATEGORY_##name)
static const uint32_t CASED = BIT(Lu) | BIT(Ll) | BIT(Lt), LETTERS = CASED | BIT(Lm) | BIT(Lo),
                      MARKS = BIT(Mn) | BIT(Mc) | BIT(Me);

static const struct {
    const char *name, *other, *pcre2;
    uint32_t categories;
} categories[] = {
    {"L", "Letter", "\\p{L}", LETTERS},
    {"LC", "Cased_Letter", "\\p{L&}", CASED},
    {"Lu", "Uppercase_Letter", "\\p{Lu}", BIT(Lu)},
    {"Ll", "Lowercase_Letter", "\\p{Ll}", BIT(Ll)},
    {"Lt", "Titlecase_Letter", "\\p{Lt}", BIT(Lt)},
    {"Lm", "Modifier_Letter", "\\p{Lm}", BIT(Lm)},
    {"Lo", "Other_Letter", "\\p{Lo}", BIT(Lo)},
    {"M", "Mark", "\\p{M}", MARKS},
    {"Mn", "Nonspacing_Mark", "\\p{Mn}", BIT(Mn)},
    {"Mc", "Spacing_Mark", "\\p{Mc}", BIT(Mc)},
    {"Me", "Enclosing_Mark", "\\p{Me}", BIT(Me)},
    {"N", "Number", "\\p{N}", BIT(Nd) | BIT(Nl) | BIT(No)},
    {"Nd", "Decimal_Number", "\\p{Nd}", BIT(Nd)},
    {"Nl", "Letter_Number", "\\p{Nl}", BIT(Nl)},
    {"No", "Other_Number", "\\p{No}", BIT(No)},
    {"P", "Punctuation", "\\p{P}", BIT(Pc) | BIT(Pd) | BIT(Ps) | BIT(Pe) | BIT(Pi) | BIT(Pf) | BIT(Po)},
    {"Pc", "Connector_Punctuation", "\\p{Pc}", BIT(Pc)},
    {"Pd", "Dash_Punctuation", "\\p{Pd}", BIT(Pd)},
    {"Ps", "Open_Punctuation", "\\p{Ps}", BIT(Ps)},
    {"Pe", "Close_Punctuation", "\\p{Pe}", BIT(Pe)},
    {"Pi", "Initial_Punctuation", "\\p{Pi}", BIT(Pi)},
    {"Pf", "Final_Punctuation", "\\p{Pf}", BIT(Pf)},
    {"Po", "Other_Punctuation", "\\p{Po}", BIT(Po)},
    {"S", "Symbol", "\\p{S}", BIT(Sm) | BIT(Sc) | BIT(Sk) | BIT(So)},
    {"Sm", "Math_Symbol", "\\p{Sm}", BIT(Sm)},
    {"Sc", "Currency_Symbol", "\\p{Sc}", BIT(Sc)},
    {"Sk", "Modifier_Symbol", "\\p{Sk}", BIT(Sk)},
    {"So", "Other_Symbol", "\\p{So}", BIT(So)},
    {"Z", "Separator", "\\p{Z}", BIT(Zs) | BIT(Zl) | BIT(Zp)},
    {"Zs", "Space_Separator", "\\p{Zs}", BIT(Zs)},
    {"Zl", "Line_Separator", "\\p{Zl}", BIT(Zl)},
    {"Zp", "Paragraph_Separator", "\\p{Zp}", BIT(Zp)},
    {"C", "Other", "\\p{C}", BIT(Cc) | BIT(Cf) | BIT(Cs) | BIT(Co) | BIT(Cn)},
    {"Cc", "Control", "\\p{Cc}", BIT(Cc)},
    {"Cf", "Format", "\\p{Cf}", BIT(Cf)},
    {"Co", "Private_Use", "\\p{Co}", BIT(Co)},
    {"Cn", "Unassigned", "\\p{Cn}", BIT(Cn)},
};

/* ---- names */

static size_t skip(const char *s, size_t n, size_t i)
{
    while (i < n && strchr(" -_", s[i])) i++;
    return i;
}

static bool same_name(const char *a, size_t n_a, const char *b)
{
    const size_t n_b = strlen(b);
    size_t i = skip(a, n_a, 0), j = skip(b, n_b, 0);
    while (i < n_a && j < n_b && tolower((unsigned char)a[i]) == tolower((unsigned char)b[j])) {
        i = skip(a, n_a, i + 1);
        j = skip(b, n_b, j + 1);
    }
    return i == n_a && j == n_b;
}

bool hw_property_find(hw_property *out, const char *name, size_t n)
{
    if (memchr(name, 0, n)) return false;
    for (size_t i = 0; i < sizeof categories / sizeof *categories; i++)
        if (same_name(name, n, categories[i].name) || same_name(name, n, categories[i].other)) {
            *out = (hw_property){.categories = categories[i].categories, .pcre2 = {categories[i].pcre2}};
            return true;
        }
    for (int i = 0; i < N_SCRIPTS; i++)
        if (same_name(name, n, scripts[i].name)) {
            *out = (hw_property){.script = i, .pcre2 = {scripts[i].exact, scripts[i].loose}};
            return true;
        }
    return false;
}

bool hw_property_depends_on_case(const hw_property *p)
{
    return !p->categories || p->categories & (LETTERS | MARKS);
}

/* ---- characters */

static bool holds(const hw_property *p, uint32_t run)
{
    return p->categories ? p->categories >> (run & 255) & 1 : (int)(run & 255) == p->script;
}

static uint32_t category_bit(uint32_t cp)
{
    size_t low = 0, high = sizeof category_runs / sizeof *category_runs;
    while (high - low > 1) {
        const size_t middle = (low + high) / 2;
        if (category_runs[middle] >> 8 <= cp) low = middle;
        else high = middle;
    }
    return UINT32_C(1) << (category_runs[low] & 255);
}

bool hw_is_word(uint32_t cp)
{
    if (category_bit(cp) & (LETTERS | MARKS | BIT(Nd) | BIT(Nl) | BIT(Pc))) return true;
    /* The two joiners, and the circled and squared letters: symbols that Unicode counts as alphabetic. */
    return cp == 0x200C || cp == 0x200D || (cp >= 0x24B6 && cp <= 0x24E9) ||
           (cp >= 0x1F130 && cp <= 0x1F149) || (cp >= 0x1F150 && cp <= 0x1F169) ||
           (cp >= 0x1F170 && cp <= 0x1F189);
}

/* Ranges of code points, as they are found. Surrogates, which expressions cannot name, are left out at an end. */
typedef struct ranges {
    hw_bytes *out; /* NULL: only counts */
    hw_error *err;
    hw_status status;
    size_t n;
} ranges;

static void add_range(ranges *r, uint32_t first, uint32_t end)
{
    char text[40];
    uint32_t last = end - 1;
    r->n++;
    if (!r->out || r->status) return;
    if (last >= 0xD800 && last < 0xE000) last = 0xD7FF;
    const int n = snprintf(text, sizeof text, "\\x{%x}-\\x{%x}", first, last);
    r->status = hw_bytes_append(r->out, text, (size_t)n, r->err);
}

/* All code points that have the property, or have not. */
static void list_all(ranges *r, const hw_property *p, bool wanted)
{
    const uint32_t *runs = p->categories ? category_runs : script_runs;
    const size_t n = p->categories ? sizeof category_runs / sizeof *category_runs
                                   : sizeof script_runs / sizeof *script_runs;
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && holds(p, runs[end]) == wanted) end++;
        if (end > i) add_range(r, runs[i] >> 8, end < n ? runs[end] >> 8 : 0x110000);
        i = end > i ? end : i + 1;
    }
}

/* Those below N_PROBED that are in `a` and not in `b`. */
static void list_difference(ranges *r, const bool *a, const bool *b)
{
    for (uint32_t cp = 0; cp < N_PROBED;) {
        uint32_t end = cp;
        while (end < N_PROBED && a[end] && !b[end]) end++;
        if (end > cp) add_range(r, cp, end);
        cp = end > cp ? end : cp + 1;
    }
}

/* ---- what PCRE2 thinks */

static pcre2_code *compile(const char *property)
{
    char expression[80];
    int code;
    PCRE2_SIZE at;
    snprintf(expression, sizeof expression, "%s++", property);
    return pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at,
                         NULL);
}

/* Every character below N_PROBED. */
static size_t all_characters(char *text)
{
    size_t n = 0;
    for (uint32_t cp = 0; cp < N_PROBED; cp++)
        if (cp < 0xD800 || cp >= 0xE000) n += hw_utf8_encode(cp, text + n);
    return n;
}

/* has [N_PROBED] becomes what PCRE2 finds by that name: nothing for a name that it does not know. */
static hw_status probe(bool *has, const hw_property *p, const char **name, hw_error *err)
{
    pcre2_code *code = NULL;
    pcre2_match_data *data = NULL;
    char *text = malloc((size_t)N_PROBED * 4);
    *name = NULL;
    for (int i = 0; i < 2 && !code && p->pcre2[i]; i++)
        if ((code = compile(p->pcre2[i]))) *name = p->pcre2[i];
    if (code) data = pcre2_match_data_create(1, NULL);
    if (text && data) {
        const size_t n = all_characters(text);
        pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
        for (size_t at = 0; pcre2_match(code, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, data, NULL) > 0;) {
            const PCRE2_SIZE *match = pcre2_get_ovector_pointer(data);
            uint32_t cp;
            for (size_t i = match[0]; i < match[1]; has[cp] = true) i += hw_utf8_first(text + i, &cp);
            at = match[1];
        }
    }
    const bool failed = !text || (code && !data);
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    free(text);
    return failed ? hw_fail(err, HW_ERR_NO_MEMORY, "tokenizer: no memory for a pattern") : HW_OK;
}

static void mark(bool *has, const hw_property *p)
{
    const uint32_t *runs = p->categories ? category_runs : script_runs;
    for (uint32_t cp = 0, i = 0; cp < N_PROBED; cp++) {
        while (runs[i + 1] >> 8 <= cp) i++;
        has[cp] = holds(p, runs[i]) && !(cp >= 0xD800 && cp < 0xE000);
    }
}

/* ours, theirs [N_PROBED]. */
static hw_status write_items(hw_bytes *out, const hw_property *p, bool negated, const bool *ours,
                             const bool *theirs, const char *name, hw_error *err)
{
    ranges counted = {.err = err}, written = {.out = out, .err = err};
    list_difference(&counted, negated ? ours : theirs, negated ? theirs : ours);
    if (!name || counted.n) {
        list_all(&written, p, !negated);
        return written.status;
    }
    hw_status st = hw_bytes_append(out, negated ? "\\P" : "\\p", 2, err);
    if (!st) st = hw_bytes_append(out, name + 2, strlen(name + 2), err);
    if (st) return st;
    list_difference(&written, negated ? theirs : ours, negated ? ours : theirs);
    return written.status;
}

hw_status hw_property_write(hw_bytes *out, const hw_property *p, bool negated, hw_error *err)
{
    const char *name = NULL;
    bool *const ours = calloc(2 * N_PROBED, sizeof *ours);
    if (!ours) return hw_fail(err, HW_ERR_NO_MEMORY, "tokenizer: no memory for a pattern");
    hw_status st = probe(ours + N_PROBED, p, &name, err);
    mark(ours, p);
    if (!st) st = write_items(out, p, negated, ours, ours + N_PROBED, name, err);
    free(ours);
    return st;
}
