/* y = W x. The order of additions is fixed by kernels.h; what is free is which outputs and rows are worked on
 * together.
 *
 * Work comes in items of some output groups by some rows. For one row the weights stream through once; for
 * many, a panel of inputs of a few groups stays in the second-level cache while tiles of rows pass over it,
 * and a tile's inputs stay in the first-level cache while it passes over the groups. */
#include "kernels/cpu/matmul_tile.h"
#include "kernels/cpu/ops.h"

enum {
    ITEM_ROWS = 96,  /* rows of an item */
    ITEM_GROUPS = 4, /* output groups of an item, at most */
    ITEM_OUTS = ITEM_GROUPS * HW_GROUP,
    /* Blocks of inputs that a tile takes before the next. With many rows, the inputs of a tile stay in the
     * first-level cache (4 KB a row) and the weights in the second (32 KB a group); with two tiles of rows,
     * the weights that have just come from memory stay in the first-level cache. */
    PANEL_BLOCKS = 32,
    STREAM_BLOCKS = 8,
    STREAM_ROWS = 8 /* with so many rows at most, weights come from memory faster than they are used */
};

typedef struct matmul_job {
    float *out;
    const float *x, *bias;
    const hw_weight *w;
    size_t n_rows, item_groups, n_row_items, panel_blocks;
} matmul_job;

/* Sums of an item's rows and outputs. */
typedef struct item_sums {
    float at[ITEM_ROWS][ITEM_OUTS];
} item_sums;

/* Blocks [first, first + n) of a group's row of blocks, for all rows and groups of an item. `x` is row 0's
 * first input. */
static void blocks_of_item(item_sums *sums, const matmul_job *job, size_t group, size_t n_groups,
                           size_t first, size_t n, const float *x, size_t stride, size_t n_rows)
{
    const hw_weight *w = job->w;
    size_t n_tiles = (n_rows + HW_TILE_ROWS - 1) / HW_TILE_ROWS;
    for (size_t done = 0, n_blocks; done < n; done += n_blocks) {
        n_blocks = n - done < job->panel_blocks ? n - done : job->panel_blocks;
        for (size_t t = 0; t < n_tiles; t++) {
            size_t r = n_rows * t / n_tiles, rows = n_rows * (t + 1) / n_tiles - r;
            for (size_t g = 0; g < n_groups; g += HW_TILE_GROUPS) {
                size_t groups = n_groups - g < HW_TILE_GROUPS ? n_groups - g : HW_TILE_GROUPS;
                hw_tile tile = {.sums = &sums->at[r][g * HW_GROUP],
                                .sums_stride = ITEM_OUTS,
                                .x = x + r * stride + done * HW_BLOCK,
                                .x_stride = stride,
                                .w = hw_weight_block(w, group + g, first + done),
                                .group_bytes = w->n_blocks * w->block_bytes,
                                .n_blocks = n_blocks};
                hw_tile_run(&tile, (int)rows, (int)groups, w->dims.dtype);
            }
        }
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
    blocks_of_item(sums, job, group, n_groups, first, whole, x, stride, n_rows);
    if (!rest) return;
    float tail[ITEM_ROWS][HW_BLOCK];
    for (size_t r = 0; r < n_rows; r++) {
        memset(tail[r], 0, sizeof tail[r]);
        memcpy(tail[r], x + r * stride + whole * HW_BLOCK, rest * sizeof(float));
    }
    blocks_of_item(sums, job, group, n_groups, first + whole, 1, tail[0], HW_BLOCK, n_rows);
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
    /* A few rows: as few groups at a time as a tile takes, so that a thread reads straight through memory.
     * Narrow matrices are cut finer, so that every thread gets some of them. */
    bool stream = job.n_rows <= STREAM_ROWS;
    size_t share = w->n_groups / ((size_t)d->n_threads * 4);
    share = share < 1 ? 1 : share > ITEM_GROUPS ? ITEM_GROUPS : share;
    size_t at_once = job.n_rows == 1 ? 1 : HW_TILE_GROUPS;
    job.item_groups = stream && share > at_once ? at_once : share;
    job.panel_blocks = !stream ? PANEL_BLOCKS : job.n_rows <= HW_TILE_ROWS ? SIZE_MAX : STREAM_BLOCKS;
    size_t n_group_items = (w->n_groups + job.item_groups - 1) / job.item_groups;
    job.n_row_items = (job.n_rows + ITEM_ROWS - 1) / ITEM_ROWS;
    size_t grain = stream ? share / job.item_groups : 1;
    hw_pool_for(hw_cpu_pool(d), n_group_items * job.n_row_items, grain, matmul_items, &job);
    return HW_OK;
}
