/* Memory that the ranks of one host have in common: two buffers and a flag for each rank. Anybody reads, only
 * the owner writes. What may be read when is for the user (comm_shm.c) to say, in phases: a rank publishes
 * that it has come to a phase, and others wait for it.
 *
 * The memory is a memfd: it has no name, and is gone with the last process that maps it however that ends. */
#ifndef HW_PARALLEL_WINDOW_H
#define HW_PARALLEL_WINDOW_H

#include <stddef.h>
#include <stdint.h>

#include "parallel/comm_ops.h"

typedef struct hw_window hw_window;

/* Collective over the ranks of `mpi` (comm_mpi.h): the ranks of every host get a window, in their order.
 * Every rank has the same verdict. Errors: HW_ERR_UNSUPPORTED when a rank's memory cannot be mapped by
 * another, as in containers that do not see each other's processes; HW_ERR_NO_MEMORY. */
hw_status hw_window_create(hw_window **out, void *mpi, const hw_ranks *ranks, hw_error *err);
void hw_window_destroy(hw_window *w); /* NULL is fine; Local */

/* Local. A buffer (0 or 1) of the i-th rank of this host: HW_SHM_PIECE_BYTES (traffic_model.h), 64-byte aligned. */
char *hw_window_buffer(const hw_window *w, int i, int buffer);

/* Local. What this rank wrote before is seen by whoever waits for `phase`. Phases ascend, from 1. */
void hw_window_publish(hw_window *w, uint64_t phase);

/* Local. Returns when the i-th rank of this host has come to `phase`. Spins for a moment, then leaves the
 * core to others between looks, so that more ranks than cores work. `idle` is called now and then meanwhile;
 * NULL: nothing is. */
void hw_window_await(hw_window *w, int i, uint64_t phase, void (*idle)(void *user), void *user);

#endif
