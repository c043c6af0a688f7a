/* What programs of several ranks that check collectives share: who they are, and what to do when something is
 * wrong. Include it once in a program. */
#ifndef HW_TESTS_SUPPORT_RANK_H
#define HW_TESTS_SUPPORT_RANK_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "parallel/comm.h"

static hw_comm *comm;
static int rank, n_ranks, n_wrong;

/* Makes `comm`, or ends the process. */
__attribute__((unused)) static void start(const char *backend)
{
    hw_error err;
    if (hw_comm_create(&comm, backend, &err)) fprintf(stderr, "%s\n", err.message), exit(3);
    rank = hw_comm_rank(comm);
    n_ranks = hw_comm_n_ranks(comm);
}

/* Ends `comm`. The exit code: 1 on all ranks when something did not hold on one of them. */
static int finish(void)
{
    const hw_status st = hw_comm_agree(comm, n_wrong ? HW_ERR_FAILED : HW_OK, NULL);
    hw_comm_destroy(comm);
    return st ? 1 : 0;
}

/* Counts what does not hold, and says so of the first ten. `size`: of the thing that was tried; 0: of none. */
__attribute__((unused)) static void expect(bool good, const char *what, size_t size)
{
    if (good || n_wrong++ >= 10) return;
    fprintf(stderr, "rank %d of %d: %s", rank, n_ranks, what);
    fprintf(stderr, size ? " (%zu)\n" : "\n", size);
}

/* Ends the job when a call fails that should not. */
__attribute__((unused)) static void must(hw_status st, const hw_error *err)
{
    if (!st) return;
    fprintf(stderr, "rank %d of %d: %s\n", rank, n_ranks, err->message);
    hw_comm_abort(comm, 3);
    exit(3);
}

#endif
