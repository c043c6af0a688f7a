/* From Oniguruma's Ruby dialect to PCRE2's. */
#include "runtime/tokenizer/pattern.h"

#include "runtime/tokenizer/property.h"

/* PCRE2's own \s has one code point more than Unicode's White_Space (U+180E), so \s is spelled out, inside
 * a class and outside. */
#define SPACES                                                                                               \
    "\\x09-\\x0d\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{"     \
    "3000}"
#define NOT_SPACES                                                                                           \
    "\\x00-\\x08\\x0e-\\x1f\\x21-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{"   \
    "2027}"                                                                                                  \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"

typedef struct translator {
    const char *p, *end;
    const char *where;
    int depth; /* of groups around p */
    int caseless; /* the depth from which on case does not matter; 0: it does; -1: in all of the expression it does not */
    hw_bytes *out;
    hw_error *err;
} translator;

static hw_status refuse(translator *t, const char *what)
{
    return hw_fail(t->err, HW_ERR_MODEL, "%s: the expression uses %s, which PCRE2 would read differently",
                   t->where, what);
}

static hw_status copy(translator *t, size_t n)
{
    hw_status st = hw_bytes_append(t->out, t->p, n, t->err);
    t->p += n;
    return st;
}

static hw_status put(translator *t, const char *text)
{
    return hw_bytes_append(t->out, text, strlen(text), t->err);
}

static bool ahead(const translator *t, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(t->end - t->p) >= n && !memcmp(t->p, text, n);
}

/* Oniguruma sees a property as it is outside of a class, whether case matters or not, and all cases of its characters within
 * one; PCRE2 sees all cases either way, so that classes are left to properties where that makes no difference. */
static hw_status put_property(translator *t, const hw_property *p, bool negated, bool in_class)
{
    const bool folds = t->caseless && hw_property_depends_on_case(p);
    if (in_class && folds) return refuse(t, "such a property in a class where case does not matter");
    if (in_class) return hw_property_write(t->out, p, negated, t->err);
    hw_status st = put(t, folds ? "(?-i:[" : "[");
    if (!st && negated) st = put(t, "^");
    if (!st) st = hw_property_write(t->out, p, false, t->err);
    return st ? st : put(t, folds ? "])" : "]");
}

/* At \p or \P. Without braces Oniguruma takes the p for itself. */
static hw_status property(translator *t, bool in_class)
{
    const char *name = t->p + 3, *close;
    bool negated = t->p[1] == 'P';
    hw_property p;
    if (t->end - t->p < 4 || t->p[2] != '{') return refuse(t, "\\p without braces");
    if (!(close = memchr(name, '}', (size_t)(t->end - name))))
        return refuse(t, "a brace that does not close");
    if (*name == '^') negated = !negated, name++;
    if (!hw_property_find(&p, name, (size_t)(close - name)))
        return hw_fail(t->err, HW_ERR_MODEL,
                       "%s: the expression uses \\p{%.*s}; known are general categories and scripts",
                       t->where, (int)(close - name < 60 ? close - name : 60), name);
    t->p = close + 1;
    return put_property(t, &p, negated, in_class);
}

static hw_status digits(translator *t, bool in_class)
{
    const bool negated = t->p[1] == 'D';
    hw_property p;
    hw_property_find(&p, "Nd", 2);
    t->p += 2;
    return put_property(t, &p, negated, in_class);
}

/* In a class, at a backslash: whether a '-' stands before it that is neither first nor escaped. */
static bool ends_range(const translator *t) { return t->p[-1] == '-' && !strchr("[^\\", t->p[-2]); }

/* At a backslash. Of the letters, only those pass that mean the same in both dialects. */
static hw_status escape(translator *t, bool in_class)
{
    if (t->end - t->p < 2) return refuse(t, "a backslash at its end");
    char c = t->p[1], what[] = "\\?";
    if (c == 's' || c == 'S') {
        t->p += 2;
        if (in_class) return put(t, c == 's' ? SPACES : NOT_SPACES);
        return put(t, c == 's' ? "[" SPACES "]" : "[^" SPACES "]");
    }
    if (strchr("pPdD", c)) {
        if (in_class && ends_range(t)) return refuse(t, "a range that ends in a property");
        return c == 'p' || c == 'P' ? property(t, in_class) : digits(t, in_class);
    }
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '1' && c <= '9');
    if (letter && !strchr("nrtfxae", c)) {
        what[1] = c;
        return refuse(t, what);
    }
    size_t length = (unsigned char)c < 0x80 ? 2 : 1;
    if (c == 'x' && t->end - t->p > 2 && t->p[2] == '{') {
        const char *close = memchr(t->p, '}', (size_t)(t->end - t->p));
        if (!close) return refuse(t, "a brace that does not close");
        length = (size_t)(close - t->p) + 1;
    }
    return copy(t, length);
}

/* At a '['. Ruby nests classes and intersects them; PCRE2 takes both for plain characters. */
static hw_status char_class(translator *t)
{
    hw_status st = copy(t, ahead(t, "[^") ? 2 : 1);
    if (!st && ahead(t, "]")) return refuse(t, "']' first in a class");
    while (!st) {
        if (t->p == t->end) return refuse(t, "a class that does not end");
        if (*t->p == ']') return copy(t, 1);
        if (*t->p == '[') return refuse(t, "a class in a class");
        if (ahead(t, "&&")) return refuse(t, "&& in a class");
        st = *t->p == '\\' ? escape(t, true) : copy(t, 1);
    }
    return st;
}

static hw_status group(translator *t)
{
    static const char *const known[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    if (ahead(t, "(*")) return refuse(t, "(*");
    t->depth++;
    if (!ahead(t, "(?")) return copy(t, 1);
    if (ahead(t, "(?i:") && !t->caseless) t->caseless = t->depth;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (ahead(t, known[i])) return copy(t, strlen(known[i]));
    return refuse(t, "an unusual (? group");
}

static hw_status end_group(translator *t)
{
    if (t->caseless == t->depth) t->caseless = 0;
    if (t->depth > 0) t->depth--; /* PCRE2 refuses the one too many */
    return copy(t, 1);
}

hw_status hw_pattern_translate(hw_bytes *out, const char *regex, size_t n, const char *where, hw_error *err)
{
    translator t = {.p = regex, .end = regex + n, .where = where, .out = out, .err = err};
    hw_status st = HW_OK;
    if (ahead(&t, "(?i)")) { /* elsewhere Ruby lets it reach over the alternatives that follow */
        t.caseless = -1;
        st = copy(&t, 4);
    }
    while (!st && t.p < t.end) {
        switch (*t.p) {
        case '\\': st = escape(&t, false); break;
        case '[': st = char_class(&t); break;
        case '(': st = group(&t); break;
        case ')': st = end_group(&t); break;
        case '^':
        case '$': st = refuse(&t, "^ or $ (which are ends of lines in one, of the text in the other)"); break;
        case '{': st = ahead(&t, "{,") ? refuse(&t, "{,n}") : copy(&t, 1); break;
        case '}': st = ahead(&t, "}+") || ahead(&t, "}?") ? refuse(&t, "}+ or }?") : copy(&t, 1); break;
        case '\0': st = refuse(&t, "a zero byte"); break;
        default: st = copy(&t, 1);
        }
    }
    return st;
}
