/* One rank, no communication. comm.c does not call the operations of a single rank. */
#include <stdlib.h>

#include "parallel/comm_ops.h"

static hw_status create(void **state, hw_ranks *ranks, hw_error *err)
{
    *state = NULL;
    *ranks = (hw_ranks){.rank = 0,
                        .n_ranks = 1,
                        .job_rank = hw_comm_launched_rank(),
                        .n_sharing = 1,
                        .host_of = calloc(1, sizeof(int))};
    return ranks->host_of ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "communicator: no memory");
}

static void destroy(void *state) { (void)state; }
/* A single rank forms one group, or none. */
static hw_status split(void **out, const hw_comm_ops **ops, hw_ranks *ranks, void *state, const int *host_of,
                       int color, int key, hw_error *err)
{
    (void)state, (void)host_of, (void)key;
    *out = NULL;
    *ops = &hw_comm_self_ops;
    *ranks = (hw_ranks){.n_ranks = 0};
    return color == HW_NO_GROUP ? HW_OK : create(out, ranks, err);
}

static void abort_job(void *state, int exit_code) { (void)state, (void)exit_code; }

const hw_comm_ops hw_comm_self_ops = {
    .name = "self", .create = create, .destroy = destroy, .abort = abort_job, .split = split};
