/* The innermost part of a product: a few rows by one or two groups of outputs, with fused multiply-adds. */
#ifndef HW_KERNELS_CPU_MATMUL_TILE_H
#define HW_KERNELS_CPU_MATMUL_TILE_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

/* sums += W x over `n_blocks` blocks of inputs, which are plain or split into consecutive terms (bf16_split.h). */
typedef struct hw_tile {
    float *sums;    /* [rows, groups * HW_GROUP] of stride `sums_stride` */
    const float *x; /* [rows, n_blocks, terms, HW_BLOCK], rows of stride `x_stride` */
    const char *w;  /* the first group's first block; the next group's is `group_bytes` further */
    size_t sums_stride, x_stride, group_bytes, n_blocks;
    size_t n_left; /* blocks from the first to the end of the group */
} hw_tile;

/* A group's weights of input k of a block. */
HW_INLINE v16 hw_tile_weights(const char *block, int k, hw_dtype dtype)
{
    const char *at = block + hw_weight_offset(dtype, 0, (size_t)k);
    if (dtype == HW_F32) return v16_load((const float *)(const void *)at);
    if (dtype == HW_F16) return v16_load_f16(at);
    v16 pairs = v16_load((const float *)(const void *)(at - k % 2 * 2));
    return k % 2 ? v16_bf16_odd(pairs) : v16_bf16_even(pairs);
}

HW_INLINE void hw_tile_prefetch(const char *ahead, int k, hw_dtype dtype)
{
    const char *at = ahead + hw_weight_offset(dtype, 0, (size_t)k);
    __builtin_prefetch(at, 0, 3);
    if (dtype == HW_F32) __builtin_prefetch(at + HW_LINE_BYTES, 0, 3);
}

/* One block: chain[c] for c = `first` .. `first` + HW_TILE_CHAINS - 1. Chain 0 sums even inputs, 1 odd
 * ones. */
HW_INLINE void hw_tile_chains(v16 chain[2][HW_TILE_ROWS][HW_TILE_GROUPS], int first,
                              const float *const x[HW_TILE_ROWS], const char *const w[HW_TILE_GROUPS],
                              const char *const ahead[HW_TILE_GROUPS], int rows, int groups, hw_dtype dtype)
{
    v16 sum[HW_TILE_CHAINS][HW_TILE_ROWS][HW_TILE_GROUPS];
    for (int c = 0; c < HW_TILE_CHAINS; c++)
        for (int r = 0; r < rows; r++)
            for (int g = 0; g < groups; g++) sum[c][r][g] = v16_zero();
#pragma GCC unroll 4
    for (int k = first; k < HW_BLOCK; k += 2) {
        v16 weights[HW_TILE_CHAINS][HW_TILE_GROUPS];
        for (int g = 0; g < groups; g++) {
            if (!first) hw_tile_prefetch(ahead[g], k, dtype);
            for (int c = 0; c < HW_TILE_CHAINS; c++) weights[c][g] = hw_tile_weights(w[g], k + c, dtype);
        }
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < HW_TILE_CHAINS; c++) {
                v16 input = v16_set1(x[r][k + c]);
                for (int g = 0; g < groups; g++) sum[c][r][g] = v16_fma(input, weights[c][g], sum[c][r][g]);
            }
    }
    for (int c = 0; c < HW_TILE_CHAINS; c++)
        for (int r = 0; r < rows; r++)
            for (int g = 0; g < groups; g++) chain[first + c][r][g] = sum[c][r][g];
}

/* `rows`, `groups`, `terms` and `dtype` are constants at each call, so that the chains live in registers. */
HW_INLINE void hw_tile_of(const hw_tile *t, int rows, int groups, int terms, hw_dtype dtype)
{
    const float *x[HW_TILE_ROWS];
    const char *w[HW_TILE_GROUPS];
    for (int r = 0; r < rows; r++) x[r] = t->x + (size_t)r * t->x_stride;
    for (int g = 0; g < groups; g++) w[g] = t->w + (size_t)g * t->group_bytes;
    const size_t block_bytes = HW_GROUP * HW_BLOCK * (dtype == HW_F32 ? 4 : 2);
    /* Terms of a row are inputs like other rows: if all three fit, weights are widened only once. */
    const int at_once = terms == 3 && 3 * rows <= HW_TILE_ROWS ? 3 : 1;
    for (size_t b = 0; b < t->n_blocks; b++) {
        /* What is ahead of the end of a group is the next group. The first of two has the second there, which is
         * being read: the one that will be read beside the group after that is what to ask for. */
        const char *ahead[HW_TILE_GROUPS];
        for (int g = 0; g < groups; g++) ahead[g] = w[g] + HW_PREFETCH_BYTES;
        if (groups == 2 && b + HW_PREFETCH_BYTES / block_bytes >= t->n_left) ahead[0] += 2 * t->group_bytes;
        for (int term = 0; term < terms; term += at_once) {
            v16 chain[2][HW_TILE_ROWS][HW_TILE_GROUPS];
            const float *inputs[HW_TILE_ROWS];
            for (int r = 0; r < rows; r++)
                for (int i = 0; i < at_once; i++) inputs[r * at_once + i] = x[r] + (term + i) * HW_BLOCK;
            hw_tile_chains(chain, 0, inputs, w, ahead, rows * at_once, groups, dtype);
            if (HW_TILE_CHAINS == 1)
                hw_tile_chains(chain, 2 - HW_TILE_CHAINS, inputs, w, ahead, rows * at_once, groups, dtype);
            for (int r = 0; r < rows; r++)
                for (int g = 0; g < groups; g++) {
                    float *to = t->sums + (size_t)r * t->sums_stride + g * HW_GROUP;
                    v16 sum = v16_load(to);
                    for (int i = r * at_once; i < (r + 1) * at_once; i++)
                        sum = v16_add(sum, v16_add(chain[0][i][g], chain[1][i][g]));
                    v16_store(to, sum);
                }
        }
        for (int r = 0; r < rows; r++) x[r] += terms * HW_BLOCK;
        for (int g = 0; g < groups; g++) w[g] += block_bytes;
    }
}

#define HW_TILE_OF(rows, groups)                                                                             \
    case rows * 4 + groups:                                                                                  \
        if (terms == 3) hw_tile_of(t, rows, groups, 3, HW_BF16);                                             \
        else if (dtype == HW_BF16) hw_tile_of(t, rows, groups, 1, HW_BF16);                                  \
        else if (dtype == HW_F16) hw_tile_of(t, rows, groups, 1, HW_F16);                                    \
        else hw_tile_of(t, rows, groups, 1, HW_F32);                                                         \
        break
#if HW_TILE_GROUPS > 1
#define HW_TILE_OF_ROWS(rows)                                                                                \
    HW_TILE_OF(rows, 1);                                                                                     \
    HW_TILE_OF(rows, 2)
#else
#define HW_TILE_OF_ROWS(rows) HW_TILE_OF(rows, 1)
#endif

/* rows 1 .. HW_TILE_ROWS, groups 1 .. HW_TILE_GROUPS, terms 1, or 3 of bfloat16 weights */
static void hw_tile_run(const hw_tile *t, int rows, int groups, int terms, hw_dtype dtype)
{
    switch (rows * 4 + groups) {
        HW_TILE_OF_ROWS(1);
        HW_TILE_OF_ROWS(2);
        HW_TILE_OF_ROWS(3);
        HW_TILE_OF_ROWS(4);
#if HW_TILE_ROWS > 4
        HW_TILE_OF_ROWS(5);
        HW_TILE_OF_ROWS(6);
#endif
    }
}

#undef HW_TILE_OF
#undef HW_TILE_OF_ROWS

#endif
