/* One monotonic clock, in nanoseconds, for timings and deadlines. */
#ifndef HW_RUNTIME_BASE_CLOCK_H
#define HW_RUNTIME_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t hw_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline double hw_seconds_since(uint64_t start_ns) { return (double)(hw_clock_ns() - start_ns) * 1e-9; }

/* A cheaper clock for spans of microseconds: ticks of the processor's time-stamp counter where there is one,
 * else nanoseconds. The length of a tick is found by reading both clocks over a longer span. */
static inline uint64_t hw_clock_ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return hw_clock_ns();
#endif
}

#endif
