#include "runtime/tokenizer/unicode.h"

#include <utf8proc.h>

int hw_utf8_step(const char *s, size_t n, uint32_t *cp)
{
    const unsigned char *p = (const unsigned char *)s;
    unsigned char c = p[0], low = 0x80, high = 0xBF;
    int length;
    uint32_t value;
    if (c < 0x80) {
        *cp = c;
        return 1;
    }
    if (c < 0xC2 || c > 0xF4) return -1;
    if (c < 0xE0) length = 2, value = c & 0x1F;
    else if (c < 0xF0) length = 3, value = c & 0x0F;
    else length = 4, value = c & 0x07;
    /* The second byte alone decides about overlong forms, surrogates and code points beyond U+10FFFF. */
    if (c == 0xE0) low = 0xA0;
    else if (c == 0xED) high = 0x9F;
    else if (c == 0xF0) low = 0x90;
    else if (c == 0xF4) high = 0x8F;
    for (int i = 1; i < length; i++) {
        if ((size_t)i == n) return 0;
        if (p[i] < low || p[i] > high) return -i;
        value = value << 6 | (p[i] & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    *cp = value;
    return length;
}

size_t hw_utf8_valid_prefix(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t word;
        while (n - i >= sizeof word) {
            memcpy(&word, s + i, sizeof word);
            if (word & 0x8080808080808080u) break;
            i += sizeof word;
        }
        if (i == n) break;
        uint32_t cp;
        int step = hw_utf8_step(s + i, n - i, &cp);
        if (step <= 0) break;
        i += (size_t)step;
    }
    return i;
}

size_t hw_utf8_encode(uint32_t cp, char out[4])
{
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)cp, (utf8proc_uint8_t *)out);
}

size_t hw_utf8_first(const char *s, uint32_t *cp) { return (size_t)hw_utf8_step(s, hw_utf8_length(*s), cp); }

size_t hw_utf8_last(const char *s, size_t n, uint32_t *cp)
{
    size_t i = n - 1;
    while (i > 0 && ((unsigned char)s[i] & 0xC0) == 0x80) i--;
    return hw_utf8_first(s + i, cp);
}

bool hw_is_space(uint32_t cp)
{
    return (cp >= 0x09 && cp <= 0x0D) || cp == 0x20 || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F ||
           cp == 0x3000;
}
