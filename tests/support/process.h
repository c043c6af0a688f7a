/* Runs a program from a test and keeps everything that it wrote. Nothing passes through a shell, so arguments
 * arrive as they are. Local; one call at a time per thread. */
#ifndef HW_TESTS_SUPPORT_PROCESS_H
#define HW_TESTS_SUPPORT_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Plain: the caller owns it (hw_run_free). Texts are zero-terminated, never NULL, and may hold zeros before
 * their end. */
typedef struct hw_run_result {
    int exit_code;  /* as a shell says it: 127 not found, 128 + n killed by signal n */
    bool timed_out; /* the program was ended because `timeout_s` had passed */
    char *out, *err;
    size_t n_out, n_err; /* bytes */
} hw_run_result;

/* Runs argv[0] (looked up in PATH) with `argv` (NULL-terminated) and waits until it has ended. `stdin_text`
 * is what it reads; NULL is an empty input. When `timeout_s` seconds have passed, its whole process group
 * gets SIGTERM, and SIGKILL three seconds later. Background processes that it leaves behind in its group are
 * killed. Aborts when the system has no more pipes, processes or memory: a test cannot go on then. */
hw_run_result hw_run(const char *const argv[], const char *stdin_text, int timeout_s);

void hw_run_free(hw_run_result *r); /* NULL and {0} are fine */

/* Waits up to 20 s for a process that is not a child of ours. True when it has ended. */
bool hw_process_ends_soon(pid_t pid);

#endif
