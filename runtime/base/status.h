/* What can go wrong, and how it is told.
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

/* Ordered by how much they outrank each other when several ranks fail at once: hw_comm_agree takes the
 * largest. */
typedef enum hw_status {
    HW_OK = 0,
    HW_ERR_CANCELLED,   /* a rank, or who asked, wanted no more; why is another one's message */
    HW_ERR_FAILED,      /* something in the world: output closed, disk full */
    HW_ERR_INVALID,     /* an argument, an option or a setting that makes no sense */
    HW_ERR_UNSUPPORTED, /* asked for something that this build does not have */
    HW_ERR_MODEL,       /* model files: missing, damaged, or of a kind that Headway does not know */
    HW_ERR_CACHE_FULL,  /* no blocks left in the KV cache; found on all ranks alike */
    HW_ERR_NO_MEMORY,   /* host or device memory */
    HW_ERR_DEVICE,      /* a device or a collective library failed */
    HW_ERR_RANK,        /* another rank died or is stuck */
} hw_status;

enum { HW_ERROR_CAPACITY = 1024 };

/* Plain: the caller owns it, usually on its stack, and reads it when a call has failed. A call that fails
 * without a word leaves it as it was: begin with {.rank = -1} where that can be. */
typedef struct hw_error {
    char message[HW_ERROR_CAPACITY]; /* UTF-8, no newline at the end; "" when nothing was said */
    int rank; /* of the job, whose error it is; -1: not known, or the same on all. What the message says of a
                 rank is for people, and decides nothing */
} hw_error;

/* Local. Writes the message, of no rank, and returns `status`, so that it can stand in a return statement.
 * `err` may be NULL. Control characters and broken UTF-8 in the formatted text (they can come from a hostile file) are
 * shown as '?'. */
hw_status hw_fail(hw_error *err, hw_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));
hw_status hw_fail_va(hw_error *err, hw_status status, const char *format, va_list args)
    __attribute__((format(printf, 3, 0), cold));

/* Local. Puts "context: " in front of a message that was already written. A context that is too long is cut
 * rather than the message. The rank stays. Does nothing when `status` is HW_OK. Returns `status`. */
hw_status hw_context(hw_error *err, hw_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));

/* Local. The process exit code for a status: 0 done, 1 failed, 2 usage or configuration, 3 model files, 4
 * memory, 5 a rank, 6 device. */
int hw_exit_code(hw_status status);

#ifdef __cplusplus
}
#endif
#endif
