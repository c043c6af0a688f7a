/* A few threads that share loops. One pool, one caller at a time; the caller is thread 0 and takes part.
 *
 * Not OpenMP: its runtime takes the spinning policy from the environment only, and a rank cannot know whether
 * its neighbours leave it a core. Idle threads here pause for moments, then yield, then sleep after about a
 * millisecond, so that more threads than cores work, if slowly. */
#ifndef HW_KERNELS_CPU_POOL_H
#define HW_KERNELS_CPU_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"

typedef struct hw_pool hw_pool;

/* Items [begin, end) of a loop, on one of the threads. */
typedef void hw_pool_fn(void *arg, size_t begin, size_t end);

enum { HW_POOL_MAX_THREADS = 1024 };

/* Local. On HW_OK the caller owns *out. Errors: HW_ERR_NO_MEMORY when a thread cannot be started. */
hw_status hw_pool_create(hw_pool **out, int n_threads, hw_error *err);
void hw_pool_destroy(hw_pool *pool); /* NULL is fine */

/* Local, from the thread that created the pool. Keeps its threads, the caller among them, on these
 * processors, any on any: on a machine that others use too, a thread that may not leave its core makes all
 * wait when somebody else has it (measured: steps 1.3 times as long). The caller's own freedom comes back
 * when the pool is destroyed. False when the system refuses; then all are free. */
bool hw_pool_pin(hw_pool *pool, const int *cpus, int n_cpus);

/* Local. Calls fn until every item of [0, n_items) has been passed once, `grain` or fewer at a time, and
 * returns when all are done. Which thread gets which items depends on their speed: results must not depend on
 * it. Allocates nothing. */
void hw_pool_for(hw_pool *pool, size_t n_items, size_t grain, hw_pool_fn *fn, void *arg);

/* Local. Which of its pool's threads the caller is, for memory that every thread has its own of: 1 .. n_threads - 1 on those
 * that a pool has started, 0 on all others. Loops are not nested: a pool's thread is no caller of another pool. */
int hw_pool_thread(void);

#endif
