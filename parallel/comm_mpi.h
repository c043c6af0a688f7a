/* What comm_shm.c needs of comm_mpi.c besides its operations: MPI between hosts and during set-up. `state` comes
 * from hw_comm_mpi_ops.create. */
#ifndef HW_PARALLEL_COMM_MPI_H
#define HW_PARALLEL_COMM_MPI_H

#include "parallel/comm_ops.h"

/* Collective. all [n_ranks, n_bytes]: the `mine` [n_bytes] of every rank. For set-up: not metered. */
hw_status hw_mpi_tell(void *state, const void *mine, size_t n_bytes, void *all, hw_error *err);

/* Local. [n_ranks] the number of each rank in the job, which the meter uses. Borrowed. */
const int *hw_mpi_job_ranks(const void *state);

/* Collective. A state for the ranks that equal this rank modulo `stride`, in their order. On HW_OK the caller owns *out
 * (hw_comm_mpi_ops.destroy), and destroys it before `state`. */
hw_status hw_mpi_every(void **out, void *state, int stride, hw_error *err);

/* Collective. The same for the first n ranks; NULL on the others. */
hw_status hw_mpi_first(void **out, void *state, int n, hw_error *err);

/* Local. Lets MPI make progress on messages that it has accepted but not yet sent. */
void hw_mpi_progress(void *state);

#endif
