#include "kernels/cpu/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clock.h"

enum { SPINS_BEFORE_YIELD = 200, NS_BEFORE_SLEEP = 1000 * 1000, THREAD_STACK_BYTES = 1 << 20 };

struct hw_pool {
    int n_workers; /* started threads, without the caller */
    pthread_t *workers;
    atomic_int n_begun; /* of them, for their numbers */
    bool pinned;
    pid_t caller;     /* thread 0, if pinned */
    cpu_set_t before; /* its previous affinity */

    /* The job: written by the caller before `epoch` moves, read by workers after. */
    hw_pool_fn *fn;
    void *arg;
    size_t n_items, grain;
    bool stop;

    _Alignas(64) atomic_uint epoch;     /* number of the job */
    _Alignas(64) atomic_size_t next;    /* first item not taken yet */
    _Alignas(64) atomic_int unfinished; /* workers that have not finished this job */
    _Alignas(64) atomic_int n_sleepers;
    pthread_mutex_t mutex; /* guards going to sleep */
    pthread_cond_t wake;
};

static _Thread_local int own_number;

int hw_pool_thread(void) { return own_number; }

static inline void cpu_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_items(hw_pool *pool)
{
    for (;;) {
        size_t begin = atomic_fetch_add_explicit(&pool->next, pool->grain, memory_order_relaxed);
        if (begin >= pool->n_items) return;
        size_t end = pool->n_items - begin < pool->grain ? pool->n_items : begin + pool->grain;
        pool->fn(pool->arg, begin, end);
    }
}

/* Waits for a job other than `seen`. Sleepers are counted before they look again, and the caller moves the
 * epoch before it looks for sleepers (both sequentially consistent): one of the two notices the other. */
static unsigned wait_for_job(hw_pool *pool, unsigned seen)
{
    unsigned now;
    for (int i = 0; i < SPINS_BEFORE_YIELD; i++) {
        if ((now = atomic_load_explicit(&pool->epoch, memory_order_acquire)) != seen) return now;
        cpu_pause();
    }
    uint64_t start = hw_clock_ns();
    while (hw_clock_ns() - start < NS_BEFORE_SLEEP) {
        if ((now = atomic_load_explicit(&pool->epoch, memory_order_acquire)) != seen) return now;
        sched_yield();
    }
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->n_sleepers, 1);
    while ((now = atomic_load(&pool->epoch)) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->n_sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
    return now;
}

static void *work(void *arg)
{
    hw_pool *pool = arg;
    own_number = 1 + atomic_fetch_add(&pool->n_begun, 1);
    for (unsigned seen = 0;;) {
        seen = wait_for_job(pool, seen);
        if (pool->stop) return NULL;
        take_items(pool);
        atomic_fetch_sub_explicit(&pool->unfinished, 1, memory_order_release);
    }
}

/* Lets the workers go; they read the job after they see the new epoch. */
static void announce(hw_pool *pool)
{
    atomic_fetch_add(&pool->epoch, 1);
    if (!atomic_load(&pool->n_sleepers)) return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

void hw_pool_for(hw_pool *pool, size_t n_items, size_t grain, hw_pool_fn *fn, void *arg)
{
    if (!n_items) return;
    if (!pool->n_workers || n_items <= grain) {
        for (size_t begin = 0; begin < n_items; begin += grain)
            fn(arg, begin, n_items - begin < grain ? n_items : begin + grain);
        return;
    }
    pool->fn = fn, pool->arg = arg, pool->n_items = n_items, pool->grain = grain;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->unfinished, pool->n_workers, memory_order_relaxed);
    announce(pool);
    take_items(pool);
    for (int i = 0; atomic_load_explicit(&pool->unfinished, memory_order_acquire); i++)
        if (i < SPINS_BEFORE_YIELD) cpu_pause();
        else sched_yield();
}

static hw_status start_workers(hw_pool *pool, int n_threads, hw_error *err)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    int failed = 0;
    for (int i = 0; i < n_threads - 1 && !failed; i++) {
        failed = pthread_create(&pool->workers[i], &attributes, work, pool);
        if (!failed) pool->n_workers++;
    }
    pthread_attr_destroy(&attributes);
    if (!failed) return HW_OK;
    return hw_fail(err, HW_ERR_NO_MEMORY, "device: thread %d of %d cannot be started: %s; use fewer threads",
                   pool->n_workers + 2, n_threads, strerror(failed));
}

hw_status hw_pool_create(hw_pool **out, int n_threads, hw_error *err)
{
    *out = NULL;
    hw_pool *pool = aligned_alloc(64, sizeof *pool);
    if (!pool) return hw_fail(err, HW_ERR_NO_MEMORY, "device: no memory for %zu bytes", sizeof *pool);
    memset(pool, 0, sizeof *pool);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->workers = calloc((size_t)n_threads, sizeof *pool->workers);
    hw_status st = pool->workers
                       ? start_workers(pool, n_threads, err)
                       : hw_fail(err, HW_ERR_NO_MEMORY, "device: no memory for %d threads", n_threads);
    if (st) {
        hw_pool_destroy(pool);
        return st;
    }
    *out = pool;
    return HW_OK;
}

static bool place_all(hw_pool *pool, const cpu_set_t *set)
{
    bool good = !sched_setaffinity(0, sizeof *set, set);
    for (int i = 0; i < pool->n_workers; i++)
        good = !pthread_setaffinity_np(pool->workers[i], sizeof *set, set) && good;
    return good;
}

bool hw_pool_pin(hw_pool *pool, const int *cpus, int n_cpus)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = 0; i < n_cpus; i++) CPU_SET(cpus[i], &set);
    if (sched_getaffinity(0, sizeof pool->before, &pool->before)) return false;
    pool->caller = gettid();
    pool->pinned = place_all(pool, &set);
    if (!pool->pinned) (void)place_all(pool, &pool->before);
    return pool->pinned;
}

void hw_pool_destroy(hw_pool *pool)
{
    if (!pool) return;
    pool->stop = true;
    announce(pool);
    for (int i = 0; i < pool->n_workers; i++) pthread_join(pool->workers[i], NULL);
    if (pool->pinned) (void)sched_setaffinity(pool->caller, sizeof pool->before, &pool->before);
    free(pool->workers);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}
