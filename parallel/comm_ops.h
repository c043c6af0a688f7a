/* The interface of a collective backend. To add one: fill this table in comm_<name>.c and name it in comm.c. */
#ifndef HW_PARALLEL_COMM_OPS_H
#define HW_PARALLEL_COMM_OPS_H

#include "parallel/comm.h"

/* What a backend learns about the ranks when it is created. */
typedef struct hw_ranks {
    int rank, n_ranks;
    int job_rank;  /* of this rank: its number among all ranks that were started */
    int *host_of;  /* [n_ranks] the lowest rank on each rank's host; from malloc, the communicator frees it */
    int n_sharing; /* consecutive ranks that add in shared memory; 1: messages only */
} hw_ranks;

/* Called only with more than one rank and, except for `send` and `receive`, with more than zero bytes. A backend
 * reports every message to another rank to the meter (hw_meter_send). */
typedef struct hw_comm_ops hw_comm_ops;
struct hw_comm_ops {
    const char *name;
    hw_status (*create)(void **state, hw_ranks *ranks, hw_error *err);
    void (*destroy)(void *state);
    hw_status (*all_reduce)(void *state, hw_meter *meter, void *buffer, size_t count, hw_dtype type,
                            hw_reduce op, hw_error *err);
    hw_status (*all_gather)(void *state, hw_meter *meter, const void *send, size_t n_bytes, void *recv,
                            hw_error *err);
    hw_status (*broadcast)(void *state, hw_meter *meter, void *buffer, size_t n_bytes, int root,
                           hw_error *err);
    hw_status (*send)(void *state, hw_meter *meter, const void *buffer, size_t n_bytes, int to,
                      hw_error *err);
    hw_status (*receive)(void *state, void *buffer, size_t capacity, size_t *n_bytes, int from,
                         hw_error *err);
    hw_status (*wait_idle)(void *state, hw_meter *meter, hw_error *err); /* hw_comm_wait_idle */
    void (*abort)(void *state, int exit_code);

    /* Collective. Creates a state *out, with its operations *ops, for the ranks of `state` with this color, ordered by key
     * and then by rank. `host_of` is for the ranks of `state`. HW_NO_GROUP: ranks->n_ranks is 0. On HW_OK the caller owns
     * *out, which it destroys before `state`, and ranks->host_of. When this rank fails, others may have succeeded. */
    hw_status (*split)(void **out, const hw_comm_ops **ops, hw_ranks *ranks, void *state, const int *host_of,
                       int color, int key, hw_error *err);
};

extern const hw_comm_ops hw_comm_self_ops, hw_comm_shm_ops, hw_comm_mpi_ops;

/* Collective. Makes a communicator of a backend's `state`, of which it takes ownership even on failure. Errors:
 * HW_ERR_NO_MEMORY, on all ranks. */
hw_status hw_comm_wrap(hw_comm **out, const hw_comm_ops *ops, void *state, hw_ranks ranks, hw_error *err);

/* Collective. Puts shared memory in front of `mpi`, a state of hw_comm_mpi_ops with these ranks. On HW_OK
 * *state is one of hw_comm_shm_ops, owns `mpi`, and ranks->n_sharing says how many ranks share. On failure `mpi` is
 * unchanged, and the error is the same on all ranks: HW_ERR_UNSUPPORTED where the placement of ranks on hosts does
 * not allow it or memory cannot be shared. */
hw_status hw_comm_shm_adopt(void **state, void *mpi, hw_ranks *ranks, hw_error *err);

#endif
