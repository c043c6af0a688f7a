/* y = W x. The order of additions is fixed by kernels.h; what is free is which outputs and rows are worked on
 * together.
 *
 * Work comes in items of some output groups by some rows. For one row the weights stream through once; for
 * many, a panel of inputs of a few groups stays in the second-level cache while tiles of rows pass over it,
 * and a tile's inputs stay in the first-level cache while it passes over the groups. */
#include "kernels/cpu/ops.h"

enum {
    ITEM_ROWS = 64,  /* rows of an item */
    ITEM_GROUPS = 4, /* output groups of an item, at most */
    ITEM_OUTS = ITEM_GROUPS * HW_GROUP,
    PANEL_BLOCKS =
        32, /* blocks of inputs that a tile takes before the next: x 8 rows x 4 KB, weights 32 KB a group */
    PREFETCH_BYTES = 4096 /* how far ahead weights are asked for */
};

typedef struct matmul_job {
    float *out;
    const float *x, *bias;
    const hw_weight *w;
    size_t n_rows, item_groups, n_row_items;
} matmul_job;

/* Sums of an item's rows and outputs. */
typedef struct item_sums {
    float at[ITEM_ROWS][ITEM_OUTS];
} item_sums;

/* One pair of inputs: k is even in its block. */
HW_INLINE void load_pair(v16 *even, v16 *odd, const char *block, int k, hw_dtype dtype)
{
    const char *line = block + hw_weight_offset(dtype, 0, (size_t)k);
    if (dtype == HW_BF16) {
        *even = v16_bf16_even(line), *odd = v16_bf16_odd(line);
    } else if (dtype == HW_F16) {
        *even = v16_f16_even(line), *odd = v16_f16_odd(line);
    } else {
        *even = v16_load((const float *)(const void *)line);
        *odd = v16_load((const float *)(const void *)(line + HW_LINE_BYTES));
    }
}

/* `n_blocks` blocks of one group, for `rows` rows: sums += W x. `rows` and `dtype` are constants at each
 * call, so that the accumulators live in registers.
 *   sums [rows] of stride ITEM_OUTS   x [rows, n_blocks * 32] of stride `stride` */
HW_INLINE void tile(float *sums, const float *x, size_t stride, const char *w, size_t n_blocks, int rows,
                    hw_dtype dtype)
{
    v16 sum[HW_TILE_ROWS], even[HW_TILE_ROWS], odd[HW_TILE_ROWS];
    const int block_bytes = HW_GROUP * HW_BLOCK * (dtype == HW_F32 ? 4 : 2);
    for (int r = 0; r < rows; r++) sum[r] = v16_load(sums + r * ITEM_OUTS);
    for (size_t b = 0; b < n_blocks; b++, w += block_bytes, x += HW_BLOCK) {
        for (int r = 0; r < rows; r++) even[r] = odd[r] = v16_zero();
#pragma GCC unroll 4
        for (int k = 0; k < HW_BLOCK; k += 2) {
            v16 w_even, w_odd;
            __builtin_prefetch(w + PREFETCH_BYTES + k * (block_bytes / HW_BLOCK), 0, 3);
            if (dtype == HW_F32)
                __builtin_prefetch(w + PREFETCH_BYTES + k * (block_bytes / HW_BLOCK) + HW_LINE_BYTES, 0, 3);
            load_pair(&w_even, &w_odd, w, k, dtype);
            for (int r = 0; r < rows; r++) {
                even[r] = v16_fma(v16_set1(x[(size_t)r * stride + (size_t)k]), w_even, even[r]);
                odd[r] = v16_fma(v16_set1(x[(size_t)r * stride + (size_t)k + 1]), w_odd, odd[r]);
            }
        }
        for (int r = 0; r < rows; r++) sum[r] = v16_add(sum[r], v16_add(even[r], odd[r]));
    }
    for (int r = 0; r < rows; r++) v16_store(sums + r * ITEM_OUTS, sum[r]);
}

#define TILE_OF(n)                                                                                           \
    case n:                                                                                                  \
        if (dtype == HW_BF16) tile(sums, x, stride, w, n_blocks, n, HW_BF16);                                \
        else if (dtype == HW_F16) tile(sums, x, stride, w, n_blocks, n, HW_F16);                             \
        else tile(sums, x, stride, w, n_blocks, n, HW_F32);                                                  \
        break

static void tile_of_rows(float *sums, const float *x, size_t stride, const char *w, size_t n_blocks, int rows,
                         hw_dtype dtype)
{
    switch (rows) {
        TILE_OF(1);
        TILE_OF(2);
#if HW_TILE_ROWS > 2
        TILE_OF(3);
        TILE_OF(4);
#endif
#if HW_TILE_ROWS > 4
        TILE_OF(5);
        TILE_OF(6);
        TILE_OF(7);
        TILE_OF(8);
#endif
    }
}

/* Blocks [first, first + n) of a group's row of blocks, for all rows and groups of an item. `x` is row 0's
 * first input. */
static void blocks_of_item(item_sums *sums, const hw_weight *w, size_t group, size_t n_groups, size_t first,
                           size_t n, const float *x, size_t stride, size_t n_rows)
{
    for (size_t done = 0; done < n; done += PANEL_BLOCKS) {
        size_t n_blocks = n - done < PANEL_BLOCKS ? n - done : PANEL_BLOCKS;
        if (n_rows == 1) n_blocks = n; /* nothing to keep in cache */
        for (size_t r = 0; r < n_rows; r += HW_TILE_ROWS) {
            int rows = n_rows - r < HW_TILE_ROWS ? (int)(n_rows - r) : HW_TILE_ROWS;
            for (size_t g = 0; g < n_groups; g++)
                tile_of_rows(&sums->at[r][g * HW_GROUP], x + r * stride + done * HW_BLOCK, stride,
                             hw_weight_block(w, group + g, first + done), n_blocks, rows, w->dims.dtype);
        }
        if (n_rows == 1) return;
    }
}

static void zero_sums(item_sums *sums, size_t n_rows, size_t n_outs)
{
    for (size_t r = 0; r < n_rows; r++) memset(sums->at[r], 0, n_outs * sizeof(float));
}

/* The partial sum of one cut. Its last inputs may fill only a part of a block: they are copied to one that
 * zeros fill up, so that nothing is read past a row's end. */
static void sum_cut(item_sums *sums, const matmul_job *job, int cut, size_t group, size_t n_groups,
                    size_t row, size_t n_rows)
{
    const hw_weight *w = job->w;
    size_t begin = w->dims.cuts[cut], n = w->dims.cuts[cut + 1] - begin, stride = w->dims.n_in;
    size_t whole = n / HW_BLOCK, rest = n % HW_BLOCK, first = w->first_block[cut];
    const float *x = job->x + row * stride + begin;
    zero_sums(sums, n_rows, n_groups * HW_GROUP);
    blocks_of_item(sums, w, group, n_groups, first, whole, x, stride, n_rows);
    if (!rest) return;
    float tail[ITEM_ROWS][HW_BLOCK];
    for (size_t r = 0; r < n_rows; r++) {
        memset(tail[r], 0, sizeof tail[r]);
        memcpy(tail[r], x + r * stride + whole * HW_BLOCK, rest * sizeof(float));
    }
    blocks_of_item(sums, w, group, n_groups, first + whole, 1, tail[0], HW_BLOCK, n_rows);
}

static void add_sums(item_sums *left, const item_sums *right, size_t n_rows, size_t n_outs)
{
    for (size_t r = 0; r < n_rows; r++)
        for (size_t o = 0; o < n_outs; o += HW_LANES)
            v16_store(&left->at[r][o], v16_add(v16_load(&left->at[r][o]), v16_load(&right->at[r][o])));
}

/* The balanced tree over cuts [first, first + n) into sums[0]; sums[1] and up are for the right branches.
 * Empty cuts are left out. */
static bool sum_tree(item_sums *sums, const matmul_job *job, int first, int n, size_t group, size_t n_groups,
                     size_t row, size_t n_rows)
{
    const size_t *cuts = job->w->dims.cuts;
    if (cuts[first] == cuts[first + n]) return false;
    if (n == 1) {
        sum_cut(sums, job, first, group, n_groups, row, n_rows);
        return true;
    }
    bool left = sum_tree(sums, job, first, n / 2, group, n_groups, row, n_rows);
    item_sums *other = left ? sums + 1 : sums;
    bool right = sum_tree(other, job, first + n / 2, n / 2, group, n_groups, row, n_rows);
    if (left && right) add_sums(sums, other, n_rows, n_groups * HW_GROUP);
    return true;
}

/* Bias, and out of the item's buffer. */
static void finish_item(const matmul_job *job, const item_sums *sums, size_t out, size_t row, size_t n_rows)
{
    size_t n_out = job->w->dims.n_out, n = n_out - out < ITEM_OUTS ? n_out - out : ITEM_OUTS;
    if (n > job->item_groups * HW_GROUP) n = job->item_groups * HW_GROUP;
    for (size_t r = 0; r < n_rows; r++)
        for (size_t o = 0; o < n; o += HW_LANES) {
            int lanes = n - o < HW_LANES ? (int)(n - o) : HW_LANES;
            v16 y = v16_load(&sums->at[r][o]);
            if (job->bias) y = v16_add(y, v16_load_n(job->bias + out + o, lanes));
            v16_store_n(job->out + (row + r) * n_out + out + o, y, lanes);
        }
}

static void matmul_items(void *arg, size_t begin, size_t end)
{
    const matmul_job *job = arg;
    _Alignas(64) item_sums sums[4]; /* one a level of the tree */
    for (size_t item = begin; item < end; item++) {
        size_t group = item / job->n_row_items * job->item_groups, n_groups = job->w->n_groups - group;
        size_t row = item % job->n_row_items * ITEM_ROWS, n_rows = job->n_rows - row;
        if (n_groups > job->item_groups) n_groups = job->item_groups;
        if (n_rows > ITEM_ROWS) n_rows = ITEM_ROWS;
        if (!sum_tree(sums, job, 0, HW_N_CUTS, group, n_groups, row, n_rows))
            zero_sums(sums, n_rows, n_groups * HW_GROUP);
        finish_item(job, sums, group * HW_GROUP, row, n_rows);
    }
}

hw_status HW_CPU_FN(matmul)(hw_device *d, hw_stream *s, void *out, const void *x, const hw_weight *w,
                            const float *bias, int n)
{
    (void)s;
    matmul_job job = {.out = out, .x = x, .bias = bias, .w = w, .n_rows = (size_t)n};
    /* With one tile of rows nothing is used twice: one group at a time, so that a thread reads straight
     * through memory. Narrow matrices are cut finer, so that every thread gets some of them. */
    bool stream = job.n_rows <= HW_TILE_ROWS;
    size_t share = w->n_groups / ((size_t)d->n_threads * 4);
    share = share < 1 ? 1 : share > ITEM_GROUPS ? ITEM_GROUPS : share;
    job.item_groups = stream ? 1 : share;
    size_t n_group_items = (w->n_groups + job.item_groups - 1) / job.item_groups;
    job.n_row_items = (job.n_rows + ITEM_ROWS - 1) / ITEM_ROWS;
    hw_pool_for(hw_cpu_pool(d), n_group_items * job.n_row_items, stream ? share : 1, matmul_items, &job);
    return HW_OK;
}
