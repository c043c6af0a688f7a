/* What comm_shm.c takes from comm_mpi.c beside its operations: MPI between hosts, and for getting to know
 * each other. `state` is what hw_comm_mpi_ops.create made. */
#ifndef HW_PARALLEL_COMM_MPI_H
#define HW_PARALLEL_COMM_MPI_H

#include "parallel/comm_ops.h"

/* Collective. all [n_ranks, n_bytes]: what every rank gave as `mine` [n_bytes]. Set-up: not metered. */
hw_status hw_mpi_tell(void *state, const void *mine, size_t n_bytes, void *all, hw_error *err);

/* Local. [n_ranks] the number in the job of each rank, which is how the meter knows them. Borrowed. */
const int *hw_mpi_job_ranks(const void *state);

/* Collective. A state for the ranks whose number has this rank's remainder by `stride`, in their order. On HW_OK the caller owns *out
 * (hw_comm_mpi_ops.destroy), and destroys it before `state`. */
hw_status hw_mpi_every(void **out, void *state, int stride, hw_error *err);

/* Collective. The same for the first n ranks; NULL on the others. */
hw_status hw_mpi_first(void **out, void *state, int n, hw_error *err);

/* Local. Lets MPI go on with messages that it has taken but not yet sent off. */
void hw_mpi_progress(void *state);

#endif
