/* Random numbers of every type, and bounds on rounding errors: for the self-test and for tests. */
#ifndef HW_KERNELS_SELFTEST_NOISE_H
#define HW_KERNELS_SELFTEST_NOISE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/dtype.h"

/* Half a unit in the last place of a number of size 1: the largest error of rounding to the type. */
static inline double hw_half_ulp(hw_dtype t)
{
    return t == HW_F16 ? 0x1p-11 : t == HW_BF16 ? 0x1p-8 : 0x1p-24;
}

/* float16 has no exponents below 2^-14, so small numbers are rounded to multiples of 2^-24. */
static inline double hw_least_step(hw_dtype t) { return t == HW_F16 ? 0x1p-24 : 1e-30; }

/* A sum of n float32 products in several chains has an error below n / 8 units of 2^-24 of the sum of their
 * magnitudes: below 4e-6 for up to 3000 products, because errors of several chains rarely all have one sign. */
static inline double hw_sum_slack(size_t n) { return n > 3000 ? 4e-6 * (double)n / 3000 : 4e-6; }

/* The allowed difference of a number of the type: `slack` before it is rounded, then half a unit, and 0.1 % for the
 * rounding of the limit itself. */
static inline double hw_allowed(hw_dtype t, double size, double slack)
{
    return 1.001 * hw_half_ulp(t) * (size + slack) + slack + hw_least_step(t);
}

/* Knuth's linear congruential generator, with the upper bits folded into the lower ones. */
static inline uint64_t hw_noise_bits(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state ^ *state >> 33;
}

/* In [-1, 1). */
static inline float hw_noise_uniform(uint64_t *state)
{
    return (float)(int32_t)(hw_noise_bits(state) >> 16) * 0x1p-31f;
}

/* Rounds numbers [n] to values of the type. */
static inline void hw_noise_round(float *x, size_t n, hw_dtype type)
{
    for (size_t i = 0; i < n && type != HW_F32; i++) {
        uint32_t kept;
        hw_convert(&kept, type, &x[i], HW_F32, 1);
        hw_convert(&x[i], HW_F32, &kept, type, 1);
    }
}

/* Numbers [n] of the type in -scale .. scale. */
static inline void hw_noise_fill(uint64_t *state, float *x, size_t n, hw_dtype type, float scale)
{
    for (size_t i = 0; i < n; i++) x[i] = scale * hw_noise_uniform(state);
    hw_noise_round(x, n, type);
}

#endif
