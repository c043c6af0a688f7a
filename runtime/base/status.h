/* Status codes and error messages.
 *
 * Every function that can fail returns an hw_status and takes an `hw_error *` last. The first function to
 * notice writes the message; callers may put context in front of it, never replace it. Library code does not
 * print, exit or abort: `launch/` turns a status into a line on standard error and an exit code. */
#ifndef HW_RUNTIME_BASE_STATUS_H
#define HW_RUNTIME_BASE_STATUS_H

#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In ascending order of severity: when several ranks fail at once, hw_comm_agree takes the largest. */
typedef enum hw_status {
    HW_OK = 0,
    HW_ERR_CANCELLED,   /* a rank or the caller cancelled; the message with the cause is elsewhere */
    HW_ERR_FAILED,      /* the environment: output closed, disk full */
    HW_ERR_INVALID,     /* an invalid argument, option or setting */
    HW_ERR_UNSUPPORTED, /* something that this build does not support */
    HW_ERR_MODEL,       /* model files: missing, damaged, or of an unknown kind */
    HW_ERR_CACHE_FULL,  /* no blocks left in the KV cache; found on all ranks alike */
    HW_ERR_NO_MEMORY,   /* host or device memory */
    HW_ERR_RANK,        /* another rank died or is stuck */
    HW_ERR_DEVICE,      /* a device or a collective library failed: a reason why others find a rank missing */
} hw_status;

enum { HW_ERROR_CAPACITY = 1024 };

/* Plain: the caller owns it, usually on its stack, and reads it when a call has failed. A call may fail
 * without writing to it: initialise it with {.rank = -1}. */
typedef struct hw_error {
    char message[HW_ERROR_CAPACITY]; /* UTF-8, no newline at the end; "" if there is none */
    int rank; /* the rank of the job that failed; -1: unknown, or all ranks alike. Code uses this field, never a
                 rank named in the message */
} hw_error;

/* Local. Writes the message, sets the rank to -1, and returns `status`, for use in a return statement.
 * `err` may be NULL. Control characters and broken UTF-8 in the formatted text (they can come from a hostile file) are
 * replaced by '?'. */
hw_status hw_fail(hw_error *err, hw_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));
hw_status hw_fail_va(hw_error *err, hw_status status, const char *format, va_list args)
    __attribute__((format(printf, 3, 0), cold));

/* Local. Puts "context: " in front of a message that was already written. If both do not fit, the context is cut
 * off, not the message. The rank is kept. Does nothing when `status` is HW_OK. Returns `status`. */
hw_status hw_context(hw_error *err, hw_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));

/* Local. The process exit code for a status: 0 done, 1 failed, 2 usage or configuration, 3 model files, 4
 * memory, 5 a rank, 6 device. */
int hw_exit_code(hw_status status);

#ifdef __cplusplus
}
#endif
#endif
