/* Memory shared by the ranks of one host: two buffers and a flag for each rank. All ranks read, only the owner
 * writes. The user (comm_shm.c) orders reads and writes by phases: a rank publishes that it has reached a phase, and
 * others wait for that.
 *
 * The memory is a memfd: it has no name, and is freed when the last process that maps it ends, however it ends. */
#ifndef HW_PARALLEL_WINDOW_H
#define HW_PARALLEL_WINDOW_H

#include <stddef.h>
#include <stdint.h>

#include "parallel/comm_ops.h"

typedef struct hw_window hw_window;

/* Collective over the ranks of `mpi` (comm_mpi.h): the ranks of every host get a window, in their order.
 * Every rank gets the same status. Errors: HW_ERR_UNSUPPORTED when a rank cannot map the memory of
 * another, as in containers that do not see each other's processes; HW_ERR_NO_MEMORY. */
hw_status hw_window_create(hw_window **out, void *mpi, const hw_ranks *ranks, hw_error *err);
void hw_window_destroy(hw_window *w); /* NULL is fine; Local */

/* Local. A buffer (0 or 1) of the i-th rank of this host: HW_SHM_PIECE_BYTES (traffic_model.h), 64-byte aligned. */
char *hw_window_buffer(const hw_window *w, int i, int buffer);

/* Local. Makes earlier writes of this rank visible to ranks that wait for `phase`. Phases ascend, from 1. */
void hw_window_publish(hw_window *w, uint64_t phase);

/* Local. Returns when the i-th rank of this host has reached `phase`. Spins briefly, then yields the core between
 * polls, so that more ranks than cores can run. Calls `idle` (may be NULL) from time to time meanwhile. */
void hw_window_await(hw_window *w, int i, uint64_t phase, void (*idle)(void *user), void *user);

#endif
