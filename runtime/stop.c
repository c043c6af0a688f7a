#include "runtime/stop.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/unicode.h"

struct hw_stop {
    char **strings;
    int n;
    char *held; /* text held back, after the text returned by the last call */
    size_t n_given, n_held, capacity;
};

hw_status hw_stop_create(hw_stop **out, const char *const *strings, int n, hw_error *err)
{
    *out = NULL;
    hw_stop *s = calloc(1, sizeof *s);
    if (s) s->strings = calloc((size_t)n + 1, sizeof *s->strings);
    hw_status st = s && s->strings ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "stop strings: no memory");
    for (int i = 0; i < n && !st; i++) {
        size_t length = strlen(strings[i]);
        if (!length) st = hw_fail(err, HW_ERR_INVALID, "a stop string is empty");
        else if (hw_utf8_valid_prefix(strings[i], length) < length)
            st = hw_fail(err, HW_ERR_INVALID, "stop string %d is not UTF-8: byte 0x%02x at offset %zu", i + 1,
                         (unsigned char)strings[i][hw_utf8_valid_prefix(strings[i], length)],
                         hw_utf8_valid_prefix(strings[i], length));
        else if (!(s->strings[s->n++] = strdup(strings[i])))
            st = hw_fail(err, HW_ERR_NO_MEMORY, "stop strings: no memory");
    }
    if (st) hw_stop_destroy(s);
    else *out = s;
    return st;
}

void hw_stop_destroy(hw_stop *s)
{
    if (!s) return;
    for (int i = 0; s->strings && i < s->n; i++) free(s->strings[i]);
    free(s->strings);
    free(s->held);
    free(s);
}

/* The length of the longest suffix of the text that is a prefix of a stop string. */
static size_t unsure(const hw_stop *s, const char *text, size_t n)
{
    size_t longest = 0;
    for (int i = 0; i < s->n; i++) {
        size_t most = strlen(s->strings[i]) - 1;
        for (size_t k = most < n ? most : n; k > longest; k--)
            if (!memcmp(text + n - k, s->strings[i], k)) longest = k;
    }
    return longest;
}

hw_status hw_stop_push(hw_stop *s, const char *text, size_t n, const char **out, size_t *n_out, bool *stopped,
                       hw_error *err)
{
    *stopped = false;
    /* Drop the text returned by the last call. */
    if (s->n_held) memmove(s->held, s->held + s->n_given, s->n_held);
    s->n_given = 0;
    if (s->n_held + n > s->capacity || !s->held) {
        size_t capacity = 2 * (s->n_held + n) + 64;
        char *held = realloc(s->held, capacity);
        if (!held) return hw_fail(err, HW_ERR_NO_MEMORY, "stop strings: no memory for %zu bytes", capacity);
        s->held = held;
        s->capacity = capacity;
    }
    if (n) memcpy(s->held + s->n_held, text, n);
    size_t total = s->n_held + n, first = total, first_end = total + 1;
    for (int i = 0; i < s->n; i++) {
        size_t length = strlen(s->strings[i]);
        const char *found = memmem(s->held, total, s->strings[i], length);
        if (!found) continue;
        size_t begin = (size_t)(found - s->held), end = begin + length;
        if (end > first_end || (end == first_end && begin >= first)) continue;
        first = begin, first_end = end;
        *stopped = true;
    }
    s->n_given = *stopped ? first : total - unsure(s, s->held, total);
    s->n_held = *stopped ? 0 : total - s->n_given;
    *out = s->held;
    *n_out = s->n_given;
    return HW_OK;
}

void hw_stop_finish(hw_stop *s, const char **out, size_t *n_out)
{
    *out = s->held ? s->held + s->n_given : "";
    *n_out = s->n_held;
    s->n_given += s->n_held;
    s->n_held = 0;
}
