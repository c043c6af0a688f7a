#include "runtime/base/status.h"

#include <stdio.h>
#include <string.h>

static void make_printable(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++)
        if (*p < 0x20 || *p == 0x7f) *p = '?';
}

hw_status hw_fail_va(hw_error *err, hw_status status, const char *format, va_list args)
{
    if (!err) return status;
    vsnprintf(err->message, sizeof err->message, format, args);
    make_printable(err->message);
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
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    make_printable(err->message);
    if (n >= 0 && (size_t)n < sizeof err->message)
        snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s", said);
    return status;
}

int hw_exit_code(hw_status status)
{
    switch (status) {
    case HW_OK: return 0;
    case HW_ERR_FAILED: return 1;
    case HW_ERR_INVALID:
    case HW_ERR_UNSUPPORTED: return 2;
    case HW_ERR_MODEL: return 3;
    case HW_ERR_NO_MEMORY: return 4;
    case HW_ERR_RANK: return 5;
    case HW_ERR_DEVICE: return 6;
    }
    return 1;
}
