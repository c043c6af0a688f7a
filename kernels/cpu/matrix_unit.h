/* The units for products of bfloat16: matrix units (AMX: eight tiles of up to 16 rows by 64 bytes), dot products of pairs
 * (AVX512-BF16), and an emulation of AMX in plain C that runs the same loops. All give the same bits: those of a tile,
 * which sums even and odd inputs of a block in two chains of multiply-adds that flush denormals. */
#ifndef HW_KERNELS_CPU_MATRIX_UNIT_H
#define HW_KERNELS_CPU_MATRIX_UNIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HW_UNIT_ROWS = 16 /* of a tile */, HW_PREFETCH_BYTES = 4096 /* prefetch distance of weights */ };

/* sums += X W^T over some blocks of 32 inputs, for up to two tiles of 16 rows by one or two groups of 16 outputs. Blocks
 * ascend; in each, the terms of an input ascend. */
typedef struct hw_unit_task {
    /* sums [whole tiles, groups * 16] of stride `sums_stride` floats
     * x    [n_blocks, terms, 16, 32] bfloat16 of the first tile; the second's is `x_tile` numbers on
     * w    [n_blocks, 16, 64 bytes] of the first group; the second's is `group_bytes` on */
    float *sums;
    const uint16_t *x;
    const char *w;
    size_t sums_stride, x_tile, group_bytes, n_blocks;
    size_t n_left; /* blocks from the first to the end of the group */
    int terms, groups;
    int n_rows; /* 1 .. 32 */
} hw_unit_task;

typedef struct hw_tile_product hw_tile_product; /* tile_product.h */

typedef struct hw_matrix_unit {
    /* Whether this processor has them and the kernel lets this process use them; may make a system call. */
    bool (*usable)(void);
    /* Units that work on single tasks have `run`. */
    void (*run)(const hw_unit_task *task);
    /* Units that compute whole items of a product by tiles have `multiply`, called between `begin` and `end` on the same
     * thread. All three require denormals to be flushed (denormals.h). */
    void (*begin)(const hw_tile_product *p);
    void (*multiply)(const hw_tile_product *p, size_t begin, size_t end);
    void (*end)(void);
    /* Their peak, on registers, on the calling thread: `n_rounds` times some products. Returns the number of operations,
     * two per multiply-add. NULL: nothing to measure. */
    uint64_t (*peak)(uint64_t n_rounds);
    /* With one term, and with three: from this many rows on they are faster than multiply-adds. */
    size_t min_rows[2];
    size_t
        panel_blocks; /* of `run`, with many rows: blocks before the next outputs, which fit into the L1 cache */
    bool beats_float32; /* three terms are faster than float32 */
    bool crossed; /* X has every four inputs in the order 2 0 3 1: pairs of even inputs and of odd inputs */
} hw_matrix_unit;

/* The first two exist only in builds for x86-64. */
extern const hw_matrix_unit hw_matrix_unit_amx, hw_matrix_unit_dot, hw_matrix_unit_emulated;

#endif
