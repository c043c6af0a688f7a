/* From Oniguruma's Ruby dialect to PCRE2's. */
#include "runtime/tokenizer/pattern.h"

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
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '1' && c <= '9');
    if (letter && !strchr("dDpPnrtfxae", c)) {
        what[1] = c;
        return refuse(t, what);
    }
    size_t length = (unsigned char)c < 0x80 ? 2 : 1;
    if (strchr("pPx", c) && t->end - t->p > 2 && t->p[2] == '{') {
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
    if (!ahead(t, "(?")) return copy(t, 1);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (ahead(t, known[i])) return copy(t, strlen(known[i]));
    return refuse(t, "an unusual (? group");
}

hw_status hw_pattern_translate(hw_bytes *out, const char *regex, size_t n, const char *where, hw_error *err)
{
    translator t = {regex, regex + n, where, out, err};
    hw_status st = HW_OK;
    if (ahead(&t, "(?i)"))
        st = copy(&t, 4); /* elsewhere Ruby lets it reach over the alternatives that follow */
    while (!st && t.p < t.end) {
        switch (*t.p) {
        case '\\': st = escape(&t, false); break;
        case '[': st = char_class(&t); break;
        case '(': st = group(&t); break;
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
