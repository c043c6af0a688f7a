/* A product by tiles, Y = X W^T (+ bias), divided into work items for threads: some rows by some groups of outputs.
 * kernels.h fixes the order of additions; the plan decides which outputs and rows are computed together.
 *
 * Up to HW_TILE_FEW_ROWS rows: weights stream from memory, two groups at a time, and sums stay in tiles from the first
 * block of a cut to its last. More rows: the terms of some tiles of rows by a panel of blocks stay in the L2 cache while
 * weights pass over them; sums are kept in memory between panels. */
#ifndef HW_KERNELS_CPU_TILE_PRODUCT_H
#define HW_KERNELS_CPU_TILE_PRODUCT_H

#include "kernels/cpu/cpu.h"

enum {
    HW_TILE_FEW_ROWS = 2 * HW_UNIT_ROWS,
    HW_TILE_ITEM_TILES = 16, /* of rows in an item, at most */
    HW_TILE_LEVELS = 3,      /* of the tree over the cuts: sums of one cut, of two, of four */
    /* Bytes per thread: for the terms of a panel; and for sums kept between panels, per level and for an unfinished cut. */
    HW_TILE_TERM_BYTES = 1 << 20,
    HW_TILE_SUM_BYTES = 1 << 20,
    HW_TILE_ROOM = HW_TILE_TERM_BYTES + (HW_TILE_LEVELS + 1) * HW_TILE_SUM_BYTES,
};

/* What happens to the complete sum of a cut: the sums of some levels are added on its left, one after the other, and the
 * result goes to a level, or to the output. Empty cuts are left out of the tree. */
typedef struct hw_tile_merge {
    bool adds[HW_TILE_LEVELS];
    int to; /* a level, or HW_TILE_LEVELS: out */
} hw_tile_merge;

struct hw_tile_product {
    const hw_matrix_unit *units;
    const hw_weight *w;
    const float *x; /* [n_rows, n_in] */
    const uint16_t
        *terms;        /* of x, with few rows: tiles with only as many rows as there are, see bf16_split.h */
    const float *bias; /* [n_out] or NULL */
    float *out;        /* [n_rows, n_out] */
    char *room;        /* [threads, HW_TILE_ROOM]; 64-byte aligned */
    size_t n_rows;
    int n_terms;

    /* Set by hw_tile_plan. */
    bool few;       /* rows */
    size_t n_tiles; /* of rows */
    size_t
        sub_blocks; /* blocks of a panel that all rows take before the next, so that their weights stay in cache */
    size_t panel_blocks; /* blocks whose terms are stored together; all of them with few rows */
    size_t item_tiles;   /* tiles of rows of an item, at most */
    size_t n_row_items;
    size_t item_groups, n_group_items;
    size_t grain; /* items that a thread takes at a time */
    bool stream;  /* the result is larger than what caches keep for its reader */
    hw_tile_merge merges[HW_N_CUTS];
    bool far[HW_TILE_LEVELS + 1]; /* sums of this level (last: of an unfinished cut) outlive a panel */
};

/* Divides the product for `n_threads` threads. Requires w, n_rows and n_terms. */
void hw_tile_plan(hw_tile_product *p, int n_threads);

#endif
