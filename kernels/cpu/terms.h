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
 *   [n_panels, n_tiles, panel_blocks, n_terms, 16, HW_BLOCK]
 * Where there is one panel, tiles may be `short`: the last one has as many rows as there are. */
typedef struct hw_terms {
    const hw_weight *w;
    int n_terms;         /* 1 or 3 */
    bool tiles, crossed; /* crossed: of every four inputs in a tile the order is 2 0 3 1 */
    bool short_tiles;
    size_t n_rows, n_tiles, panel_blocks; /* of tiles */
    void *data;
} hw_terms;

/* ---- float32 */

/* Numbers from the first of a row's block to the first of its next block. */
HW_INLINE size_t hw_terms_step(const hw_terms *t) { return (size_t)t->n_terms * HW_BLOCK; }

/* Index of the first term of a row and block. */
HW_INLINE size_t hw_terms_at(const hw_terms *t, size_t row, size_t block)
{
    return (row * t->w->n_blocks + block) * hw_terms_step(t);
}

/* ---- tiles */

HW_INLINE size_t hw_terms_tile_rows(const hw_terms *t, size_t tile)
{
    const size_t left = t->n_rows - tile * HW_UNIT_ROWS;
    return t->short_tiles && left < HW_UNIT_ROWS ? left : HW_UNIT_ROWS;
}

/* The first term of a tile and block. */
HW_INLINE uint16_t *hw_terms_tile(const hw_terms *t, size_t tile, size_t block)
{
    const size_t panel = block / t->panel_blocks, within = block % t->panel_blocks;
    const size_t before = (panel * t->n_tiles + tile) * t->panel_blocks * HW_UNIT_ROWS;
    return (uint16_t *)t->data +
           (before + within * hw_terms_tile_rows(t, tile)) * (size_t)t->n_terms * HW_BLOCK;
}

/* ---- splitting */

/* x = low + middle + high, exactly: high is the upper 16 bits of x, middle those of x - high, low the rest. Infinities
 * and NaN have no other terms: their difference would be a NaN. Adding one to itself makes a NaN's upper half a NaN. */
HW_INLINE void hw_terms_split(v16 term[3], v16 x)
{
    const v16 size = v16_abs(x), infinity = v16_set1(INFINITY);
    v16 high = v16_pick_lt(size, infinity, v16_bf16_odd(x), v16_add(x, x));
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

/* Sixteen of them as bfloat16, rounded where there is one and cut off where there are three: what is cut off of the lowest
 * is below 2^-126, so that it is flushed either way. */
HW_INLINE void hw_terms_put_half(uint16_t *to, v16 term, bool three, bool crossed)
{
    typedef uint16_t halves __attribute__((vector_size(32)));
    if (!crossed) {
        if (three) v16_store_upper(to, term);
        else v16_store_bf16_n(to, term, HW_LANES);
        return;
    }
    halves h;
    if (three) v16_store_upper(&h, term);
    else v16_store_bf16_n(&h, term, HW_LANES);
    h = __builtin_shufflevector(h, h, 2, 0, 3, 1, 6, 4, 7, 5, 10, 8, 11, 9, 14, 12, 15, 13);
    memcpy(to, &h, sizeof h);
}

/* Up to sixteen inputs as bfloat16 terms, one `next` numbers behind the other. */
HW_INLINE void hw_terms_put_tile(uint16_t *to, size_t next, v16 x, bool three, bool crossed)
{
    v16 term[3] = {x};
    if (three) hw_terms_split(term, x);
    for (size_t i = 0; i < (three ? 3 : 1); i++) hw_terms_put_half(to + i * next, term[i], three, crossed);
}

HW_INLINE v16 hw_terms_load(const float *x, size_t i, size_t n)
{
    if (i + HW_LANES <= n) return v16_load(x + i);
    return i < n ? v16_load_n(x + i, (int)(n - i)) : v16_zero();
}

/* The blocks [first, end) of one tile of rows; x: row 0 of all rows, [n_rows, n_in]. `three` and `crossed` are constants
 * at each call. */
HW_INLINE void hw_terms_put_tile_blocks(const hw_terms *t, const float *x, size_t tile, size_t first,
                                        size_t end, bool three, bool crossed)
{
    const hw_weight *w = t->w;
    const size_t rows = hw_terms_tile_rows(t, tile), next = rows * HW_BLOCK, top = tile * HW_UNIT_ROWS;
    const size_t there = top >= t->n_rows ? 0 : t->n_rows - top < rows ? t->n_rows - top : rows;
    int cut = 0;
    for (size_t b = first; b < end; b++) {
        while (b >= w->first_block[cut + 1]) cut++;
        const size_t begin = w->dims.cuts[cut] + (b - w->first_block[cut]) * HW_BLOCK;
        const size_t n = w->dims.cuts[cut + 1] - begin;
        uint16_t *to = hw_terms_tile(t, tile, b);
        const float *from = x + top * w->dims.n_in + begin;
        for (size_t r = 0; r < there; r++, to += HW_BLOCK, from += w->dims.n_in)
            for (size_t i = 0; i < HW_BLOCK; i += HW_LANES)
                hw_terms_put_tile(to + i, next, hw_terms_load(from, i, n), three, crossed);
        for (size_t r = there; r < rows; r++, to += HW_BLOCK)
            for (size_t i = 0; i < (three ? 3 : 1); i++) memset(to + i * next, 0, HW_BLOCK * sizeof *to);
    }
}

HW_INLINE void hw_terms_tile_blocks(const hw_terms *t, const float *x, size_t tile, size_t first, size_t end)
{
    if (t->n_terms == 3 && t->crossed) hw_terms_put_tile_blocks(t, x, tile, first, end, true, true);
    else if (t->n_terms == 3) hw_terms_put_tile_blocks(t, x, tile, first, end, true, false);
    else if (t->crossed) hw_terms_put_tile_blocks(t, x, tile, first, end, false, true);
    else hw_terms_put_tile_blocks(t, x, tile, first, end, false, false);
}

/* One row as float32. */
HW_INLINE void hw_terms_row(const hw_terms *t, size_t row, const float *x)
{
    const hw_weight *w = t->w;
    for (int c = 0; c < HW_N_CUTS; c++) {
        const size_t begin = w->dims.cuts[c], n = w->dims.cuts[c + 1] - begin;
        const size_t n_blocks = w->first_block[c + 1] - w->first_block[c];
        for (size_t i = 0; i < n_blocks * HW_BLOCK; i += HW_LANES) {
            float *to =
                (float *)t->data + hw_terms_at(t, row, w->first_block[c] + i / HW_BLOCK) + i % HW_BLOCK;
            v16 term[3] = {hw_terms_load(x + begin, i, n)};
            if (t->n_terms == 3) hw_terms_split(term, term[0]);
            else term[0] = hw_terms_round(term[0]);
            for (int k = 0; k < t->n_terms; k++) v16_store(to + k * HW_BLOCK, term[k]);
        }
    }
}

#endif
