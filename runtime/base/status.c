#include "runtime/base/status.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Bytes of the well-formed UTF-8 character at `p`; 0 for overlong forms, surrogates and truncated characters. */
static size_t utf8_character(const unsigned char *p)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = *p < 0x80 ? 1 : *p >> 5 == 6 ? 2 : *p >> 4 == 14 ? 3 : *p >> 3 == 30 ? 4 : 0;
    uint32_t c = n > 1 ? *p & (0x7fu >> n) : *p;
    for (size_t i = 1; i < n; i++) {
        if (p[i] >> 6 != 2) return 0; /* the terminating zero is none of these */
        c = c << 6 | (p[i] & 0x3fu);
    }
    return n && c >= smallest[n] && c <= 0x10ffff && c >> 11 != 0x1b ? n : 0;
}

/* Terminals interpret control characters, U+0080 to U+009F as well as those of ASCII. */
static void make_printable(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p;) {
        size_t n = utf8_character(p);
        if (n == 1 && (*p < 0x20 || *p == 0x7f)) n = 0;
        if (n == 2 && p[0] == 0xc2 && p[1] < 0xa0) n = 0;
        if (!n) *p = '?';
        p += n ? n : 1;
    }
}

hw_status hw_fail_va(hw_error *err, hw_status status, const char *format, va_list args)
{
    if (!err) return status;
    vsnprintf(err->message, sizeof err->message, format, args);
    make_printable(err->message);
    err->rank = -1;
    return status;
}

hw_status hw_fail(hw_error *err, hw_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    hw_fail_va(err, status, format, args);
    va_end(args);
    return status;
}

hw_status hw_context(hw_error *err, hw_status status, const char *format, ...)
{
    if (status == HW_OK || !err) return status;
    char said[HW_ERROR_CAPACITY];
    memcpy(said, err->message, sizeof said);
    size_t kept =
        strlen(said) < sizeof said / 2 ? strlen(said) : sizeof said / 2; /* leaves room for a long context */
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message - kept - 2, format, args);
    va_end(args);
    size_t n = strlen(err->message);
    n += (size_t)snprintf(err->message + n, sizeof err->message - n, ": ");
    strncpy(err->message + n, said, sizeof err->message - n - 1);
    err->message[sizeof err->message - 1] = '\0';
    make_printable(err->message);
    return status;
}

int hw_exit_code(hw_status status)
{
    switch (status) {
    case HW_OK: return 0;
    case HW_ERR_CANCELLED:
    case HW_ERR_FAILED: return 1;
    case HW_ERR_INVALID:
    case HW_ERR_UNSUPPORTED: return 2;
    case HW_ERR_MODEL: return 3;
    case HW_ERR_CACHE_FULL:
    case HW_ERR_NO_MEMORY: return 4;
    case HW_ERR_RANK: return 5;
    case HW_ERR_DEVICE: return 6;
    }
    return 1;
}
