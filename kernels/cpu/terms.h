/* Rows of activations as bfloat16 terms, for products with bfloat16 weights: see hw_matmul in kernels.h. */
#ifndef HW_KERNELS_CPU_TERMS_H
#define HW_KERNELS_CPU_TERMS_H

#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/units.h"

/* Where the terms of some rows lie. Inputs come in the blocks of the weight, cut by cut, zeros behind the last
 * of a cut. Multiply-adds take float32:
 *   [n_rows, n_blocks, n_terms, HW_BLOCK]
 * and matrix units bfloat16, a tile of 16 rows together, zeros in rows that are not there:
 *   [n_rows / 16, n_blocks, n_terms, 16, HW_BLOCK] */
typedef struct hw_terms {
    const hw_weight *w;
    int n_terms;         /* 1 or 3 */
    bool tiles, crossed; /* crossed: of every four inputs in a tile the order is 2 0 3 1 */
    void *data;
} hw_terms;

/* Numbers from the first of a row's block to the first of its next block. */
HW_INLINE size_t hw_terms_step(const hw_terms *t)
{
    return (size_t)t->n_terms * HW_BLOCK * (t->tiles ? HW_UNIT_ROWS : 1);
}

/* Index of the first term of a row and block. */
HW_INLINE size_t hw_terms_at(const hw_terms *t, size_t row, size_t block)
{
    size_t rows = t->tiles ? HW_UNIT_ROWS : 1;
    return (row / rows * t->w->n_blocks + block) * hw_terms_step(t) + row % rows * HW_BLOCK;
}

/* x = low + middle + high, exactly: each takes the upper 16 bits of what those after it leave. Infinities and
 * NaN have no other terms: their difference would be a NaN. */
HW_INLINE void hw_terms_split(v16 term[3], v16 x)
{
    const v16 size = v16_abs(x), infinity = v16_set1(INFINITY);
    v16 high = v16_pick_lt(size, infinity, v16_bf16_odd(x), x);
    v16 rest = v16_pick_lt(size, infinity, v16_sub(x, high), v16_zero());
    v16 middle = v16_bf16_odd(rest);
    term[0] = v16_sub(rest, middle), term[1] = middle, term[2] = high;
}

/* The only term, rounded to nearest. */
HW_INLINE v16 hw_terms_round(v16 x)
{
    uint16_t half[HW_LANES];
    v16_store_bf16_n(half, x, HW_LANES);
    return v16_load_bf16(half);
}

/* Sixteen of them as bfloat16, rounded where they are more. */
HW_INLINE void hw_terms_put_half(const hw_terms *t, size_t at, v16 term)
{
    typedef uint16_t halves __attribute__((vector_size(32)));
    halves h;
    v16_store_bf16_n(&h, term, HW_LANES);
    if (t->crossed) h = __builtin_shufflevector(h, h, 2, 0, 3, 1, 6, 4, 7, 5, 10, 8, 11, 9, 14, 12, 15, 13);
    memcpy((uint16_t *)t->data + at, &h, sizeof h);
}

/* Up to sixteen inputs of a row, `k` of a block on. */
HW_INLINE void hw_terms_put(const hw_terms *t, size_t row, size_t block, size_t k, v16 x)
{
    const size_t at = hw_terms_at(t, row, block) + k, next = hw_terms_step(t) / (size_t)t->n_terms;
    v16 term[3] = {x};
    if (t->n_terms == 3) hw_terms_split(term, x);
    else if (!t->tiles) term[0] = hw_terms_round(x);
    for (int i = 0; i < t->n_terms; i++)
        if (t->tiles) hw_terms_put_half(t, at + (size_t)i * next, term[i]);
        else v16_store((float *)t->data + at + (size_t)i * next, term[i]);
}

/* One row; x NULL: zeros. */
static void hw_terms_row(const hw_terms *t, size_t row, const float *x)
{
    const hw_weight *w = t->w;
    for (int c = 0; c < HW_N_CUTS; c++) {
        size_t begin = w->dims.cuts[c], n = w->dims.cuts[c + 1] - begin;
        size_t n_blocks = w->first_block[c + 1] - w->first_block[c];
        for (size_t i = 0; i < n_blocks * HW_BLOCK; i += HW_LANES) {
            int lanes = !x || i >= n ? 0 : n - i < HW_LANES ? (int)(n - i) : HW_LANES;
            v16 v = lanes ? v16_load_n(x + begin + i, lanes) : v16_zero();
            hw_terms_put(t, row, w->first_block[c] + i / HW_BLOCK, i % HW_BLOCK, v);
        }
    }
}

#endif
