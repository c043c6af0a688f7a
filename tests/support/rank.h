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

/* Counts what does not hold, and says so of the first ten. `size`: of the thing that was tried. */
static void expect(bool good, const char *what, size_t size)
{
    if (good) return;
    if (n_wrong++ < 10) fprintf(stderr, "rank %d of %d: %s (%zu)\n", rank, n_ranks, what, size);
}

/* Ends the job when a call fails that should not. */
static void must(hw_status st, const hw_error *err)
{
    if (!st) return;
    fprintf(stderr, "rank %d of %d: %s\n", rank, n_ranks, err->message);
    hw_comm_abort(comm, 3);
    exit(3);
}

#endif
