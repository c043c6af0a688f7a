/* A pool of threads that share loops. One caller at a time; the caller takes part as thread 0.
 *
 * OpenMP is not used because its runtime reads the spinning policy from the environment only, and a rank cannot know
 * whether other ranks leave it a core. Idle threads of this pool spin briefly, then yield, then sleep after about a
 * millisecond, so that more threads than cores still work, if slowly. */
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

/* Local, from the thread that created the pool. Binds its threads, including the caller, to this set of processors. They
 * may move within the set: on a shared machine, a thread bound to a single core makes all wait when another process uses
 * that core (measured: steps 1.3 times as long). The caller's affinity is restored when the pool is destroyed. False when
 * the system refuses; then no thread is bound. */
bool hw_pool_pin(hw_pool *pool, const int *cpus, int n_cpus);

/* Local. Calls fn until every item of [0, n_items) has been passed once, at most `grain` at a time, and returns when all
 * are done. The assignment of items to threads depends on timing; results must not depend on it. Allocates nothing. */
void hw_pool_for(hw_pool *pool, size_t n_items, size_t grain, hw_pool_fn *fn, void *arg);

/* Local. The caller's index in its pool, for per-thread memory: 1 .. n_threads - 1 on threads started by a pool, 0 on all
 * others. Loops must not be nested: a thread of a pool may not call another pool. */
int hw_pool_thread(void);

#endif
