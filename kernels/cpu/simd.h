/* Sixteen float32 lanes, three times over: AVX-512, AVX2 with FMA, and plain C. The ops in this folder are
 * written on it once and compiled once per instruction set; since every lane operation is one IEEE operation
 * (or exact), all three give the same bits.
 *
 * Everything here is `static inline`: a shared inline function compiled for AVX-512 could be the copy that
 * the linker keeps for all. */
#ifndef HW_KERNELS_CPU_SIMD_H
#define HW_KERNELS_CPU_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "runtime/base/dtype.h"

enum { HW_LANES = 16, HW_LINE_BYTES = 64 };

#define HW_INLINE static inline __attribute__((always_inline, unused))

/* Each of the three headers gives:
 *   v16                                   sixteen lanes
 *   v16_set1 v16_load v16_store           any alignment
 *   v16_load_n v16_store_n v16_keep_n     the first n lanes, 0..16; others: 0 (load, keep), untouched (memory)
 *   v16_add v16_sub v16_mul v16_div v16_sqrt
 *   v16_fma(a, b, c)                      a * b + c, rounded once
 *   v16_min(a, b)                         a < b ? a : b: a NaN in `b` comes through, one in `a` does not
 *   v16_max(a, b)                         a > b ? a : b: likewise
 *   v16_pick_lt(a, b, x, y)               a < b ? x : y, lane by lane
 *   v16_abs
 *   v16_pow2(n)                           2^n for whole n in -126 .. 127
 *   v16_sum                               lanes added as a tree of fixed shape: i with i + 8, then + 4, + 2,
 *                                         + 1
 *   v16_max_lane                          likewise a tree of a > b ? a : b
 *   v16_any_not_less(a, limit)            bit i set: a[i] >= limit, or a[i] is NaN
 *   v16_turn(r)                           r[16]: lane j of row i becomes lane i of row j
 *   v16_bf16_even v16_bf16_odd            of sixteen pairs, which were loaded like floats
 *   v16_load_bf16 v16_load_f16            sixteen neighbours; with _n the first n
 *   v16_store_bf16_n v16_store_f16_n      rounded to nearest, ties to even
 *   v16_store_upper_2(p, a, b)            the upper 16 bits of each lane of a, then of b
 *   v16_stream                            a store past the caches, to a 64-byte boundary; v16_stream_end makes those of this
 *                                         thread visible before what it stores afterwards */
#if defined(HW_SIMD_AVX512)
#include "kernels/cpu/simd_avx512.h"
#elif defined(HW_SIMD_AVX2)
#include "kernels/cpu/simd_avx2.h"
#elif defined(HW_SIMD_GENERIC)
#include "kernels/cpu/simd_generic.h"
#else
#error "this file is compiled once per instruction set, see kernels/CMakeLists.txt"
#endif

/* The names of one instruction set's functions: HW_CPU_FN(matmul) is hw_cpu_avx512_matmul. */
#define HW_CPU_PASTE_(isa, name) hw_cpu_##isa##_##name
#define HW_CPU_PASTE(isa, name)  HW_CPU_PASTE_(isa, name)
#define HW_CPU_FN(name)          HW_CPU_PASTE(HW_SIMD_NAME, name)

HW_INLINE v16 v16_zero(void) { return v16_set1(0.0f); }

/* `n` neighbours of a cache or weight type, n in 1 .. 16. `dtype` is a constant where this is called in a
 * loop. */
HW_INLINE v16 v16_load_as(hw_dtype dtype, const void *p, int n)
{
    if (n == HW_LANES) {
        if (dtype == HW_BF16) return v16_load_bf16(p);
        if (dtype == HW_F16) return v16_load_f16(p);
        return v16_load(p);
    }
    if (dtype == HW_BF16) return v16_load_bf16_n(p, n);
    if (dtype == HW_F16) return v16_load_f16_n(p, n);
    return v16_load_n(p, n);
}

HW_INLINE void v16_store_as(hw_dtype dtype, void *p, v16 v, int n)
{
    if (dtype == HW_BF16) v16_store_bf16_n(p, v, n);
    else if (dtype == HW_F16) v16_store_f16_n(p, v, n);
    else v16_store_n(p, v, n);
}

#endif
