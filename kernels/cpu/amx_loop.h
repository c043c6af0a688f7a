/* The loop over tiles, included by amx.c and amx_emulated.c after they have said what a tile is:
 *   TILE_LOAD(n, from, stride)  TILE_STORE(n, to, stride)  TILE_DOT(c, a, b)
 * where n, a, b and c are literal numbers of tiles and a stride is in bytes.
 *
 * Tiles 0 to 3 hold the sums, 4 and 5 two tiles of rows, 6 and 7 two groups of weights. With three terms 8 loads
 * feed 12 products. */
#ifndef HW_KERNELS_CPU_AMX_LOOP_H
#define HW_KERNELS_CPU_AMX_LOOP_H

#include "kernels/cpu/units.h"

enum {
    TILE_LINE = 64,
    TILE_NUMBERS = 512,
    TILE_BYTES = 1024,
    HW_AMX_BLOCKS = 4 /* three terms of 32 rows are 24 KB, and the weights of an item 16 KB */
};

/* `two_rows` and `two_groups` are constants at each call. */
static inline __attribute__((always_inline)) void run_tiles(const hw_unit_task *t, bool two_rows,
                                                            bool two_groups)
{
    const size_t stride = t->sums_stride * sizeof(float);
    float *sums = t->sums, *low_sums = sums + HW_UNIT_ROWS * t->sums_stride;
    TILE_LOAD(0, sums, stride);
    if (two_groups) TILE_LOAD(1, sums + 16, stride);
    if (two_rows) TILE_LOAD(2, low_sums, stride);
    if (two_rows && two_groups) TILE_LOAD(3, low_sums + 16, stride);
    const uint16_t *x = t->x;
    const char *w = t->w;
    for (size_t b = 0; b < t->n_blocks; b++, w += TILE_BYTES) {
        TILE_LOAD(6, w, TILE_LINE);
        if (two_groups) TILE_LOAD(7, w + t->group_bytes, TILE_LINE);
        for (int term = 0; term < t->terms; term++, x += TILE_NUMBERS) {
            TILE_LOAD(4, x, TILE_LINE);
            TILE_DOT(0, 4, 6);
            if (two_groups) TILE_DOT(1, 4, 7);
            if (!two_rows) continue;
            TILE_LOAD(5, x + t->x_tile, TILE_LINE);
            TILE_DOT(2, 5, 6);
            if (two_groups) TILE_DOT(3, 5, 7);
        }
    }
    TILE_STORE(0, sums, stride);
    if (two_groups) TILE_STORE(1, sums + 16, stride);
    if (two_rows) TILE_STORE(2, low_sums, stride);
    if (two_rows && two_groups) TILE_STORE(3, low_sums + 16, stride);
}

static void run_task(const hw_unit_task *t)
{
    const bool two_rows = t->n_rows > HW_UNIT_ROWS;
    if (two_rows && t->groups == 2) run_tiles(t, true, true);
    else if (two_rows) run_tiles(t, true, false);
    else if (t->groups == 2) run_tiles(t, false, true);
    else run_tiles(t, false, false);
}

#endif
