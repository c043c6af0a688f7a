/* What a collective backend provides. To add one: fill this table in comm_<name>.c and name it in comm.c. */
#ifndef HW_PARALLEL_COMM_OPS_H
#define HW_PARALLEL_COMM_OPS_H

#include "parallel/comm.h"

/* What a backend finds out about the ranks when it is created. */
typedef struct hw_ranks {
    int rank, n_ranks;
    int job_rank;  /* of this rank: its number among all that were started */
    int *host_of;  /* [n_ranks] the lowest rank on each rank's host; from malloc, the communicator frees it */
    int n_sharing; /* neighbours by number that add in memory they have in common; 1: all goes by message */
} hw_ranks;

/* Only called with more than one rank, and but for `send` and `receive` with more than zero bytes. Every message to another rank is told to the
 * meter (hw_meter_send). */
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
    void (*abort)(void *state, int exit_code);

    /* Collective. A state for the ranks of `state` with this color, by key and then by rank, with what is used to carry it out. `host_of`:
     * of the ranks of `state`. HW_NO_GROUP: ranks->n_ranks is 0. On HW_OK the caller owns *out and ranks->host_of, and destroys
     * it before `state`. Others may have made theirs when this one fails. */
    hw_status (*split)(void **out, const hw_comm_ops **ops, hw_ranks *ranks, void *state, const int *host_of,
                       int color, int key, hw_error *err);
};

extern const hw_comm_ops hw_comm_self_ops, hw_comm_shm_ops, hw_comm_mpi_ops;

/* Collective. A communicator of what a backend's `create` gave, which it owns also when it fails: HW_ERR_NO_MEMORY, then on
 * all ranks. */
hw_status hw_comm_wrap(hw_comm **out, const hw_comm_ops *ops, void *state, hw_ranks ranks, hw_error *err);

/* Collective. Puts shared memory in front of `mpi`, a state of hw_comm_mpi_ops with these ranks. On HW_OK
 * *state is one of hw_comm_shm_ops, owns `mpi`, and ranks->n_sharing says how many share. Else `mpi` is as
 * before, with the same error on all ranks: HW_ERR_UNSUPPORTED where the ranks' places on the hosts do not
 * allow it or memory cannot be shared. */
hw_status hw_comm_shm_adopt(void **state, void *mpi, hw_ranks *ranks, hw_error *err);

#endif
