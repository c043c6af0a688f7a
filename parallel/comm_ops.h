/* What a collective backend provides. To add one: fill this table in comm_<name>.c and name it in comm.c. */
#ifndef HW_PARALLEL_COMM_OPS_H
#define HW_PARALLEL_COMM_OPS_H

#include <stdint.h>

#include "parallel/comm.h"

/* Each adds the bytes that it sends to other ranks to *sent. Only called with more than one rank and more than zero bytes. */
typedef struct hw_comm_ops {
    const char *name;
    hw_status (*create)(void **state, int *rank, int *n_ranks, int *n_local_ranks, hw_error *err);
    void (*destroy)(void *state);
    hw_status (*all_reduce)(void *state, void *buffer, size_t count, hw_dtype type, hw_reduce op,
                            uint64_t *sent, hw_error *err);
    hw_status (*all_gather)(void *state, const void *send, size_t n_bytes, void *recv, uint64_t *sent,
                            hw_error *err);
    hw_status (*broadcast)(void *state, void *buffer, size_t n_bytes, int root, uint64_t *sent,
                           hw_error *err);
    void (*abort)(void *state, int exit_code);
} hw_comm_ops;

extern const hw_comm_ops hw_comm_self_ops, hw_comm_mpi_ops;

#endif
