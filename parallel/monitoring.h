/* Open MPI's own count of what was sent between every pair of ranks, to compare with the meter's.
 *
 * Open MPI's `monitoring` component sits below all of MPI and counts every message. It distinguishes messages that
 * a program sends ("E" lines of its report) from those of MPI's own collectives ("I" lines). The backend `mpi`
 * sends everything with point-to-point calls, so the E lines must equal the meter to the byte; anything sent past
 * the meter would show. The component is enabled through the environment before MPI starts, and writes its report
 * when MPI ends (its MPI_T variables cannot be read in Open MPI 4.1).
 *
 *   start ── hw_comm_create ── the work ── collect ── hw_comm_destroy ── compare */
#ifndef HW_PARALLEL_MONITORING_H
#define HW_PARALLEL_MONITORING_H

#include <stdint.h>

#include "parallel/comm.h"

typedef struct hw_monitoring hw_monitoring;

/* Local, on every rank before MPI is initialised. On HW_OK the caller owns *out (hw_monitoring_destroy).
 * Errors: HW_ERR_FAILED when the folder for the reports cannot be created (in $TMPDIR or /tmp), HW_ERR_INVALID
 * when there is only one rank. */
hw_status hw_monitoring_start(hw_monitoring **out, hw_error *err);

/* Collective, and the last communication before hw_comm_destroy: every rank gets the counts of all meters, including
 * this exchange. */
hw_status hw_monitoring_collect(hw_monitoring *m, hw_comm *c, hw_error *err);

/* What one rank sent to another. */
typedef struct hw_pair {
    uint64_t metered_bytes, metered_messages; /* the meter's */
    uint64_t counted_bytes, counted_messages; /* Open MPI's, messages of the program */
    uint64_t internal_bytes,
        internal_messages; /* Open MPI's, messages of its own collectives: start and end of the program */
} hw_pair;

/* Local, after hw_comm_destroy, on every rank. Rank 0 waits for all reports, reads and removes them; `pairs`
 * [n_ranks, n_ranks] (from, to) are then borrowed from `m`. On other ranks *pairs is NULL. A difference is not an
 * error. Errors: HW_ERR_UNSUPPORTED when a report is missing: this MPI lacks the component, it is disabled
 * (--mca pml ob1 does that), or it wrote on a host whose files are not visible here. */
hw_status hw_monitoring_compare(hw_monitoring *m, const hw_pair **pairs, hw_error *err);

void hw_monitoring_destroy(hw_monitoring *m); /* NULL is fine */

#endif
