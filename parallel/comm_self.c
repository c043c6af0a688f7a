/* One rank: nothing crosses. comm.c does not call the operations of a single rank. */
#include "parallel/comm_ops.h"

static hw_status create(void **state, int *rank, int *n_ranks, int *n_local_ranks, hw_error *err)
{
    int launched = hw_comm_launched_ranks();
    *state = NULL;
    *rank = 0;
    *n_ranks = *n_local_ranks = 1;
    if (launched > 1)
        return hw_fail(
            err, HW_ERR_INVALID,
            "collectives \"self\" is for one rank, but %d were started; use \"mpi\", or run without mpirun",
            launched);
    return HW_OK;
}

static void destroy(void *state) { (void)state; }
static void abort_job(void *state, int exit_code) { (void)state, (void)exit_code; }

const hw_comm_ops hw_comm_self_ops = {
    .name = "self", .create = create, .destroy = destroy, .abort = abort_job};
