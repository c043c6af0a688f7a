/* Runs short commands in parallel, each for a bounded time, and captures their output. */
#ifndef HW_LAUNCH_CLUSTER_RUN_PARALLEL_H
#define HW_LAUNCH_CLUSTER_RUN_PARALLEL_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"

/* Plain; start with {.words = ...}; hw_parallel_runs_free. */
typedef struct hw_parallel_run {
    char *const *words; /* ends with NULL; words[0] is searched in PATH. Borrowed */
    char *out, *err;    /* its output, at most a megabyte of each, zero-terminated */
    size_t n_out, n_err;
    int exit_code;  /* 128 + n after signal n, 127 if it cannot be started */
    bool timed_out; /* it was killed with all its children */
    double seconds;
} hw_parallel_run;

/* Local. Runs the commands [n], at most 64 at a time, until each has ended or has printed nothing for `patience_s`
 * seconds. Their standard input is empty. A command that fails is not an error. Errors: HW_ERR_FAILED (no more processes
 * or pipes), HW_ERR_NO_MEMORY. */
hw_status hw_run_parallel(hw_parallel_run *runs, int n, double patience_s, hw_error *err);
void hw_parallel_runs_free(hw_parallel_run *runs, int n);

#endif
