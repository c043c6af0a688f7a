/* Rows of activations as bfloat16 terms, for products with bfloat16 weights: see hw_matmul in kernels.h. */
#ifndef HW_KERNELS_CPU_BF16_SPLIT_H
#define HW_KERNELS_CPU_BF16_SPLIT_H

#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/matrix_unit.h"
#include "kernels/cpu/simd.h"

/* Inputs are arranged in the blocks of the weight, cut by cut, padded with zeros at the end of a cut. Multiply-adds take
 * float32:
 *   [n_rows, n_blocks, n_terms, HW_BLOCK]
 * and matrix units bfloat16, in tiles of up to 16 rows:
 *   [n_tiles, n_blocks, n_terms, rows of a tile, HW_BLOCK] */

/* x = low + middle + high, exactly: high = top 16 bits of x; middle = top 16 bits of x - high; low = the rest. Infinities
 * and NaN have only `high`, because their differences would be NaN; x + x ensures that the top half of a NaN is a NaN. */
HW_INLINE void hw_bf16_split_split(v16 term[3], v16 x)
{
    const v16 size = v16_abs(x), infinity = v16_set1(INFINITY);
    v16 high = v16_bf16_odd(x), rest = v16_sub(x, high);
    if (v16_any_not_less(size, infinity)) {
        high = v16_pick_lt(size, infinity, high, v16_add(x, x));
        rest = v16_pick_lt(size, infinity, rest, v16_zero());
    }
    v16 middle = v16_bf16_odd(rest);
    term[0] = v16_sub(rest, middle), term[1] = middle, term[2] = high;
}

/* For one term: numbers below 2^-126 become zeros before they are rounded, as in the processor's own conversion. */
HW_INLINE v16 hw_bf16_split_flush(v16 x)
{
    return v16_pick_lt(v16_abs(x), v16_set1(0x1p-126f), v16_zero(), x);
}

/* The only term, rounded to nearest. */
HW_INLINE v16 hw_bf16_split_round(v16 x)
{
    uint16_t half[HW_LANES];
    v16_store_bf16_n(half, hw_bf16_split_flush(x), HW_LANES);
    return v16_load_bf16(half);
}

HW_INLINE v16 hw_bf16_split_load(const float *x, size_t i, size_t n)
{
    if (i + HW_LANES <= n) return v16_load(x + i);
    return i < n ? v16_load_n(x + i, (int)(n - i)) : v16_zero();
}

/* Stores three terms of a row's block. They are truncated, not rounded, to 16 bits: the bits lost of the lowest term are
 * below 2^-126, and would be flushed anyway. */
HW_INLINE void hw_bf16_split_put_three(uint16_t *to, size_t next, v16 a, v16 b)
{
    v16 left[3], right[3];
    hw_bf16_split_split(left, a), hw_bf16_split_split(right, b);
    for (size_t i = 0; i < 3; i++) v16_store_upper_2(to + i * next, left[i], right[i]);
}

HW_INLINE void hw_bf16_split_put_one(uint16_t *to, v16 a, v16 b)
{
#if defined(__AVX512BF16__)
    const __m512bh both = _mm512_cvtne2ps_pbh(b, a);
    memcpy(to, &both, sizeof both);
#else
    v16_store_bf16_n(to, hw_bf16_split_flush(a), HW_LANES);
    v16_store_bf16_n(to + HW_LANES, hw_bf16_split_flush(b), HW_LANES);
#endif
}

/* Puts every four inputs of a block into the order 2 0 3 1. */
HW_INLINE void hw_bf16_split_cross(uint16_t *block)
{
    typedef uint16_t halves __attribute__((vector_size(32)));
    for (int i = 0; i < 2; i++) {
        halves h;
        memcpy(&h, block + i * HW_LANES, sizeof h);
        h = __builtin_shufflevector(h, h, 2, 0, 3, 1, 6, 4, 7, 5, 10, 8, 11, 9, 14, 12, 15, 13);
        memcpy(block + i * HW_LANES, &h, sizeof h);
    }
}

/* Blocks [first, end) of a tile of `rows` rows, of which `there` exist; the others become zeros.
 *   to [end - first, n_terms, rows, HW_BLOCK]   x [there, n_in]
 * `three` and `crossed` are constants at each call. */
HW_INLINE void hw_bf16_split_put_tile(uint16_t *to, const float *x, const hw_weight *w, size_t rows,
                                      size_t there, size_t first, size_t end, bool three, bool crossed)
{
    const size_t n_terms = three ? 3 : 1, next = rows * HW_BLOCK;
    int cut = 0;
    for (size_t b = first; b < end; b++, to += n_terms * next) {
        while (b >= w->first_block[cut + 1]) cut++;
        const size_t begin = w->dims.cuts[cut] + (b - w->first_block[cut]) * HW_BLOCK;
        const size_t n = w->dims.cuts[cut + 1] - begin;
        const float *from = x + begin;
        uint16_t *at = to;
        for (size_t r = 0; r < there; r++, at += HW_BLOCK, from += w->dims.n_in) {
            const v16 left = hw_bf16_split_load(from, 0, n), right = hw_bf16_split_load(from, HW_LANES, n);
            if (three) hw_bf16_split_put_three(at, next, left, right);
            else hw_bf16_split_put_one(at, left, right);
            for (size_t i = 0; i < (crossed ? n_terms : 0); i++) hw_bf16_split_cross(at + i * next);
        }
        for (size_t r = there; r < rows; r++, at += HW_BLOCK)
            for (size_t i = 0; i < n_terms; i++) memset(at + i * next, 0, HW_BLOCK * sizeof *at);
    }
}

/* One row as float32.   to [n_blocks, n_terms, HW_BLOCK] */
HW_INLINE void hw_bf16_split_put_row(float *to, const float *x, const hw_weight *w, bool three)
{
    for (int c = 0; c < HW_N_CUTS; c++) {
        const size_t begin = w->dims.cuts[c], n = w->dims.cuts[c + 1] - begin;
        for (size_t b = w->first_block[c]; b < w->first_block[c + 1]; b++, to += (three ? 3 : 1) * HW_BLOCK)
            for (size_t i = 0; i < HW_BLOCK; i += HW_LANES) {
                v16 term[3] = {hw_bf16_split_load(x + begin, (b - w->first_block[c]) * HW_BLOCK + i, n)};
                if (three) hw_bf16_split_split(term, term[0]);
                else term[0] = hw_bf16_split_round(term[0]);
                for (int k = 0; k < (three ? 3 : 1); k++) v16_store(to + k * HW_BLOCK + i, term[k]);
            }
    }
}

#endif
