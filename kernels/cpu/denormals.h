/* Makes this thread treat numbers below 2^-126 as zeros, as matrix units do. */
#ifndef HW_KERNELS_CPU_DENORMALS_H
#define HW_KERNELS_CPU_DENORMALS_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* From here to hw_denormals_restore operands and results of float32 arithmetic are flushed to zeros of their
 * sign. */
static inline uint64_t hw_denormals_flush(void)
{
#if defined(__x86_64__)
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040); /* FTZ and DAZ */
    return before;
#elif defined(__aarch64__)
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" ::"r"(before | UINT64_C(1) << 24)); /* FZ */
    return before;
#else
    return 0; /* kept: a difference below 2^-126 */
#endif
}

static inline void hw_denormals_restore(uint64_t before)
{
#if defined(__x86_64__)
    _mm_setcsr((unsigned)before);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" ::"r"(before));
#else
    (void)before;
#endif
}

#endif
