/* Short commands that are run side by side, each for a bounded time, and what they print. */
#ifndef HW_LAUNCH_CLUSTER_RUN_PARALLEL_H
#define HW_LAUNCH_CLUSTER_RUN_PARALLEL_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"

/* Plain; start with {.words = ...}; hw_parallel_runs_free. */
typedef struct hw_parallel_run {
    char *const *words; /* ends with NULL; words[0] is looked up in PATH. Borrowed */
    char *out, *err;    /* what it printed, at most a megabyte of each, zero-terminated */
    size_t n_out, n_err;
    int exit_code;  /* 128 + n after signal n, 127 when it cannot be started */
    bool timed_out; /* it had not ended, and was killed with all its children */
    double seconds;
} hw_parallel_run;

/* Local. Runs the commands [n], at most 64 at a time, until each has ended or has printed nothing for `patience_s` seconds. They read nothing.
 * That one fails is no error. Errors: HW_ERR_FAILED (no more processes or pipes), HW_ERR_NO_MEMORY. */
hw_status hw_run_parallel(hw_parallel_run *runs, int n, double patience_s, hw_error *err);
void hw_parallel_runs_free(hw_parallel_run *runs, int n);

#endif
