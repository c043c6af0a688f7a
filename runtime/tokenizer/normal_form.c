/* Normal forms over utf8proc's tables. Its one-call functions are not used because they sort combining
 * marks by insertion: a long run of them, which anybody can send, would take quadratic time. */
#include <utf8proc.h>

#include "runtime/tokenizer/unicode.h"

/* True for a character that is itself in the form, begins a new cluster and never combines with what
 * stands before it: a text may be normalised piece by piece when every cut is in front of one. A range
 * that is missing here only costs time. */
static bool is_settled(uint32_t cp, hw_normal_form form)
{
    if (cp < 0x80) return true;
    if (form != HW_NFC) return false;
    return cp < 0x300 || (cp >= 0x400 && cp <= 0x482) || (cp >= 0x2010 && cp <= 0x20CF) ||
           (cp >= 0x3001 && cp <= 0x3029) || (cp >= 0x3030 && cp <= 0x3098) ||
           (cp >= 0x309B && cp <= 0x30FF) || (cp >= 0x3400 && cp <= 0x9FFF) ||
           (cp >= 0xAC00 && cp <= 0xD7A3) || (cp >= 0xFF01 && cp <= 0xFFEE) ||
           (cp >= 0x1F300 && cp <= 0x1FAFF);
}

/* A character whose properties are younger than the tables of Hugging Face's tokenizers: it stays as it is, and nothing is
 * composed with it or moved across it. None of them is settled. */
static bool is_unknown(uint32_t cp)
{
    static const struct {
        uint32_t first, last;
    } runs[] = {
#include "runtime/tokenizer/normal_form_unknown.def"
    };
    size_t low = 0, high = sizeof runs / sizeof *runs;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (runs[middle].last < cp) low = middle + 1;
        else high = middle;
    }
    return low < sizeof runs / sizeof *runs && runs[low].first <= cp;
}

static int utf8proc_options(hw_normal_form form)
{
    int options = form == HW_NFC || form == HW_NFKC ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
    return options | UTF8PROC_STABLE | (form == HW_NFKC || form == HW_NFKD ? UTF8PROC_COMPAT : 0);
}

static unsigned combining_class(utf8proc_int32_t cp)
{
    return (unsigned)utf8proc_get_property(cp)->combining_class;
}

/* Sorts one run of marks (no character of class 0 among them) by class; equal classes keep their order.
 * `spare` [n]. */
static void sort_marks(utf8proc_int32_t *marks, utf8proc_int32_t *spare, size_t n)
{
    size_t at[257] = {0};
    for (size_t i = 0; i < n; i++) at[(combining_class(marks[i]) & 255) + 1]++;
    for (int c = 0; c < 256; c++) at[c + 1] += at[c];
    for (size_t i = 0; i < n; i++) spare[at[combining_class(marks[i]) & 255]++] = marks[i];
    memcpy(marks, spare, n * sizeof *marks);
}

static void sort_all_marks(utf8proc_int32_t *chars, utf8proc_int32_t *spare, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t end = i;
        bool sorted = true;
        while (end < n && combining_class(chars[end])) {
            if (end > i && combining_class(chars[end - 1]) > combining_class(chars[end])) sorted = false;
            end++;
        }
        if (!sorted) sort_marks(chars + i, spare, end - i);
        i = end > i ? end : i + 1;
    }
}

static hw_status append_char(hw_bytes *out, utf8proc_int32_t cp, hw_error *err)
{
    char s[4];
    return hw_bytes_append(out, s, hw_utf8_encode((uint32_t)cp, s), err);
}

/* The slow way, for a stretch that needs it, of known characters. */
static hw_status normalize_known(hw_bytes *out, const char *text, size_t n, hw_normal_form form,
                                 hw_error *err)
{
    enum { WIDEST = 32 }; /* no character decomposes into more than 18 */
    int options = utf8proc_options(form), boundary = 0;
    hw_status st = HW_OK;
    size_t n_chars = 0, capacity = 0;
    utf8proc_int32_t *chars = NULL, *spare = NULL;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += hw_utf8_first(text + i, &cp);
        if (capacity - n_chars < WIDEST) {
            capacity = capacity * 2 + n / 2 + 2 * WIDEST;
            utf8proc_int32_t *grown = realloc(chars, capacity * sizeof *chars);
            if (!grown) goto no_memory;
            chars = grown;
        }
        utf8proc_ssize_t got =
            utf8proc_decompose_char((utf8proc_int32_t)cp, chars + n_chars, WIDEST, options, &boundary);
        if (got > 0 && got <= WIDEST) n_chars += (size_t)got;
    }
    if (!(spare = malloc((n_chars + 1) * sizeof *spare))) goto no_memory;
    sort_all_marks(chars, spare, n_chars);
    utf8proc_ssize_t left = utf8proc_normalize_utf32(chars, (utf8proc_ssize_t)n_chars, options);
    for (utf8proc_ssize_t i = 0; i < left && !st; i++) st = append_char(out, chars[i], err);
    goto done;
no_memory:
    st = hw_fail(err, HW_ERR_NO_MEMORY, "tokenizer: no memory to normalise %zu bytes of text", n);
done:
    free(chars);
    free(spare);
    return st;
}

static hw_status normalize_stretch(hw_bytes *out, const char *text, size_t n, hw_normal_form form,
                                   hw_error *err)
{
    hw_status st = HW_OK;
    size_t begin = 0; /* of known characters */
    for (size_t i = 0, length; i < n && !st; i += length) {
        uint32_t cp;
        length = hw_utf8_first(text + i, &cp);
        if (!is_unknown(cp)) continue;
        st = normalize_known(out, text + begin, i - begin, form, err);
        if (!st) st = hw_bytes_append(out, text + i, length, err);
        begin = i + length;
    }
    return st ? st : normalize_known(out, text + begin, n - begin, form, err);
}

hw_status hw_normalize(hw_bytes *out, const char *text, size_t n, hw_normal_form form, hw_error *err)
{
    hw_status st = HW_OK;
    size_t copied = 0; /* everything before it is in *out */
    size_t last = 0;   /* the latest settled character */
    for (size_t i = 0; i < n && !st;) {
        uint32_t cp;
        size_t length = hw_utf8_first(text + i, &cp);
        if (is_settled(cp, form)) {
            last = i;
            i += length;
            continue;
        }
        size_t end = i;
        while (end < n && (length = hw_utf8_first(text + end, &cp), !is_settled(cp, form))) end += length;
        if (last < copied) last = copied;
        st = hw_bytes_append(out, text + copied, last - copied, err);
        if (!st) st = normalize_stretch(out, text + last, end - last, form, err);
        copied = last = i = end;
    }
    return st ? st : hw_bytes_append(out, text + copied, n - copied, err);
}
