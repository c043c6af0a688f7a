/* y = W x. The order of additions is fixed by kernels.h; what is free is which outputs and rows are worked on
 * together, and by which units.
 *
 * Work comes in items of some output groups by some rows. For one row the weights stream through once; for
 * many, a panel of inputs of a few groups stays in the second-level cache while tiles of rows pass over it,
 * and a tile's inputs stay in the first-level cache while it passes over the groups. */
#include "kernels/cpu/bf16_split.h"
#include "kernels/cpu/denormals.h"
#include "kernels/cpu/matmul_tile.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/tile_product.h"

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
    int n_terms;                 /* 0: x is taken as it is */
    void *terms;                 /* of x, see bf16_split.h */
    const hw_matrix_unit *units; /* NULL: multiply-adds */
} matmul_job;

/* Sums of an item's rows and outputs. */
typedef struct item_sums {
    float at[ITEM_ROWS][ITEM_OUTS];
} item_sums;

/* Some blocks of a few groups' inputs for some rows. */
typedef struct panel {
    size_t group, n_groups, first_block, n_blocks;
    const float *x; /* row 0's first input, or its first term, of the first block */
    size_t x_stride, n_rows;
} panel;

/* With multiply-adds. */
static void panel_by_fma(item_sums *sums, const matmul_job *job, const panel *p)
{
    const hw_weight *w = job->w;
    size_t n_tiles = (p->n_rows + HW_TILE_ROWS - 1) / HW_TILE_ROWS;
    for (size_t t = 0; t < n_tiles; t++) {
        size_t r = p->n_rows * t / n_tiles, rows = p->n_rows * (t + 1) / n_tiles - r;
        for (size_t g = 0; g < p->n_groups; g += HW_TILE_GROUPS) {
            size_t groups = p->n_groups - g < HW_TILE_GROUPS ? p->n_groups - g : HW_TILE_GROUPS;
            hw_tile tile = {.sums = &sums->at[r][g * HW_GROUP],
                            .sums_stride = ITEM_OUTS,
                            .x = p->x + r * p->x_stride,
                            .x_stride = p->x_stride,
                            .w = hw_weight_block(w, p->group + g, p->first_block),
                            .group_bytes = w->n_blocks * w->block_bytes,
                            .n_blocks = p->n_blocks,
                            .n_left = w->n_blocks - p->first_block};
            hw_tile_run(&tile, (int)rows, (int)groups, job->n_terms ? job->n_terms : 1, w->dims.format.type);
        }
    }
}

/* With units for bfloat16, rows `row` of the whole product on. */
static void panel_by_units(item_sums *sums, const matmul_job *job, const panel *p, size_t row)
{
    const hw_weight *w = job->w;
    const size_t block = (size_t)job->n_terms * HW_UNIT_ROWS * HW_BLOCK, tile = w->n_blocks * block;
    for (size_t r = 0; r < p->n_rows; r += 2 * HW_UNIT_ROWS)
        for (size_t g = 0; g < p->n_groups; g += 2) {
            hw_unit_task task = {
                .sums = &sums->at[r][g * HW_GROUP],
                .sums_stride = ITEM_OUTS,
                .x = (const uint16_t *)job->terms + (row + r) / HW_UNIT_ROWS * tile + p->first_block * block,
                .x_tile = tile,
                .w = hw_weight_block(w, p->group + g, p->first_block),
                .group_bytes = w->n_blocks * w->block_bytes,
                .n_blocks = p->n_blocks,
                .n_left = w->n_blocks - p->first_block,
                .terms = job->n_terms,
                .n_rows = (int)(p->n_rows - r > 2 * HW_UNIT_ROWS ? 2 * HW_UNIT_ROWS : p->n_rows - r),
                .groups = p->n_groups - g > 1 ? 2 : 1};
            job->units->run(&task);
        }
}

static void zero_sums(item_sums *sums, size_t n_rows, size_t n_outs)
{
    for (size_t r = 0; r < n_rows; r++) memset(sums->at[r], 0, n_outs * sizeof(float));
}

/* All of `whole`, a panel at a time. */
static void add_panels(item_sums *sums, const matmul_job *job, const panel *whole, size_t row)
{
    const size_t step = job->n_terms ? (size_t)job->n_terms * HW_BLOCK : HW_BLOCK; /* of a row */
    for (size_t done = 0; done < whole->n_blocks;) {
        panel p = *whole;
        p.first_block += done, p.x += done * step;
        p.n_blocks = whole->n_blocks - done < job->panel_blocks ? whole->n_blocks - done : job->panel_blocks;
        if (job->units) panel_by_units(sums, job, &p, row);
        else panel_by_fma(sums, job, &p);
        done += p.n_blocks;
    }
}

/* Blocks of the inputs as they are. The last inputs of a cut may fill only a part of a block: they are copied
 * to one that zeros fill up, so that nothing is read past a row's end. */
static void sum_inputs(item_sums *sums, const matmul_job *job, int cut, panel p, size_t row)
{
    const hw_weight *w = job->w;
    size_t begin = w->dims.cuts[cut], n = w->dims.cuts[cut + 1] - begin, rest = n % HW_BLOCK;
    p.n_blocks = n / HW_BLOCK;
    p.x = job->x + row * w->dims.n_in + begin, p.x_stride = w->dims.n_in;
    add_panels(sums, job, &p, row);
    if (!rest) return;
    float tail[ITEM_ROWS][HW_BLOCK];
    for (size_t r = 0; r < p.n_rows; r++) {
        memset(tail[r], 0, sizeof tail[r]);
        memcpy(tail[r], p.x + r * p.x_stride + p.n_blocks * HW_BLOCK, rest * sizeof(float));
    }
    p.first_block += p.n_blocks, p.n_blocks = 1, p.x = tail[0], p.x_stride = HW_BLOCK;
    add_panels(sums, job, &p, row);
}

/* The partial sum of one cut. */
static void sum_cut(item_sums *sums, const matmul_job *job, int cut, size_t group, size_t n_groups,
                    size_t row, size_t n_rows)
{
    const hw_weight *w = job->w;
    const size_t step = (size_t)job->n_terms * HW_BLOCK;
    panel p = {.group = group, .n_groups = n_groups, .first_block = w->first_block[cut], .n_rows = n_rows};
    size_t tile_rows = (n_rows + HW_UNIT_ROWS - 1) / HW_UNIT_ROWS * HW_UNIT_ROWS;
    zero_sums(sums, job->units ? tile_rows : n_rows, n_groups * HW_GROUP);
    if (!job->n_terms) {
        sum_inputs(sums, job, cut, p, row);
        return;
    }
    p.n_blocks = w->first_block[cut + 1] - p.first_block;
    p.x_stride = w->n_blocks * step;
    p.x = (const float *)job->terms + row * p.x_stride + p.first_block * step;
    add_panels(sums, job, &p, row);
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

static void sum_items(const matmul_job *job, size_t begin, size_t end)
{
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

/* Not inlined, so that no arithmetic wanders out of where denormals are flushed. */
static __attribute__((noinline)) void sum_items_of_terms(const matmul_job *job, size_t begin, size_t end)
{
    sum_items(job, begin, end);
}

static void matmul_items(void *arg, size_t begin, size_t end)
{
    const matmul_job *job = arg;
    if (!job->n_terms) {
        sum_items(job, begin, end);
        return;
    }
    uint64_t before = hw_denormals_flush();
    sum_items_of_terms(job, begin, end);
    hw_denormals_restore(before);
}

static void split_rows(void *arg, size_t begin, size_t end)
{
    const matmul_job *job = arg;
    const size_t n_in = job->w->dims.n_in, step = job->w->n_blocks * (size_t)job->n_terms * HW_BLOCK;
    for (size_t r = begin; r < end; r++)
        hw_bf16_split_put_row((float *)job->terms + r * step, job->x + r * n_in, job->w, job->n_terms == 3);
}

enum { SPLIT_BLOCKS = 16 /* of a tile of rows, split by one thread at a time */ };

/* Blocks [first, end) of a tile; rows that are not there have no room unless the unit wants whole tiles. */
static void split_tile(const matmul_job *job, size_t tile, size_t first, size_t end)
{
    const hw_weight *w = job->w;
    const bool whole = job->units->run;
    const size_t top = tile * HW_UNIT_ROWS, left = job->n_rows - top,
                 there = left < HW_UNIT_ROWS ? left : HW_UNIT_ROWS, rows = whole ? HW_UNIT_ROWS : there;
    const size_t n_terms = (size_t)job->n_terms;
    uint16_t *to =
        (uint16_t *)job->terms + (tile * HW_UNIT_ROWS * w->n_blocks + first * rows) * n_terms * HW_BLOCK;
    const float *x = job->x + top * w->dims.n_in;
    const bool crossed = job->units->crossed;
    if (n_terms == 3 && crossed) hw_bf16_split_put_tile(to, x, w, rows, there, first, end, true, true);
    else if (n_terms == 3) hw_bf16_split_put_tile(to, x, w, rows, there, first, end, true, false);
    else if (crossed) hw_bf16_split_put_tile(to, x, w, rows, there, first, end, false, true);
    else hw_bf16_split_put_tile(to, x, w, rows, there, first, end, false, false);
}

/* An item is some blocks of a tile of rows. */
static void split_tiles(void *arg, size_t begin, size_t end)
{
    const matmul_job *job = arg;
    const size_t n_blocks = job->w->n_blocks, n_parts = (n_blocks + SPLIT_BLOCKS - 1) / SPLIT_BLOCKS;
    for (size_t i = begin; i < end; i++) {
        const size_t first = i % n_parts * SPLIT_BLOCKS, last = first + SPLIT_BLOCKS;
        split_tile(job, i / n_parts, first, last < n_blocks ? last : n_blocks);
    }
}

static void split(hw_device *d, matmul_job *job)
{
    const size_t n_parts = (job->w->n_blocks + SPLIT_BLOCKS - 1) / SPLIT_BLOCKS,
                 n_tiles = (job->n_rows + HW_UNIT_ROWS - 1) / HW_UNIT_ROWS;
    if (job->units) hw_pool_for(hw_cpu_pool(d), n_tiles * n_parts, 4, split_tiles, job);
    else hw_pool_for(hw_cpu_pool(d), job->n_rows, 4, split_rows, job);
}

static void multiply(hw_device *d, matmul_job *job)
{
    /* A few rows: as few groups at a time as a tile takes, so that a thread reads straight through memory.
     * Narrow matrices are cut finer, so that every thread gets some of them. */
    bool stream = job->n_rows <= STREAM_ROWS;
    size_t share = job->w->n_groups / ((size_t)d->n_threads * 4);
    share = share < 1 ? 1 : share > ITEM_GROUPS ? ITEM_GROUPS : share;
    size_t at_once = HW_TILE_GROUPS;
    job->item_groups = stream && share > at_once ? at_once : share;
    job->panel_blocks = !stream ? PANEL_BLOCKS : job->n_rows <= HW_TILE_ROWS ? SIZE_MAX : STREAM_BLOCKS;
    if (job->units && !stream) job->panel_blocks = job->units->panel_blocks;
    size_t n_group_items = (job->w->n_groups + job->item_groups - 1) / job->item_groups;
    job->n_row_items = (job->n_rows + ITEM_ROWS - 1) / ITEM_ROWS;
    size_t grain = stream ? share / job->item_groups : 1;
    hw_pool_for(hw_cpu_pool(d), n_group_items * job->n_row_items, grain, matmul_items, job);
}

static void multiply_tile_items(void *arg, size_t begin, size_t end)
{
    const hw_tile_product *p = arg;
    const uint64_t before = hw_denormals_flush();
    p->units->begin(p);
    p->units->multiply(p, begin, end);
    p->units->end();
    hw_denormals_restore(before);
}

/* By units that do whole items. */
static void multiply_tiles(hw_device *d, matmul_job *job)
{
    hw_cpu_device *cpu = hw_cpu(d);
    hw_tile_product p = {.units = job->units,
                         .w = job->w,
                         .x = job->x,
                         .terms = job->terms,
                         .bias = job->bias,
                         .out = job->out,
                         .room = cpu->tile_room,
                         .n_rows = job->n_rows,
                         .n_terms = job->n_terms};
    hw_tile_plan(&p, d->n_threads);
    if (p.few) split(d, job);
    hw_pool_for(hw_cpu_pool(d), p.n_row_items * p.n_group_items, p.grain, multiply_tile_items, &p);
}

/* By multiply-adds, or by units that work on single tiles: as many rows at a time as there is room for their terms. */
static void multiply_split(hw_device *d, matmul_job *job)
{
    const size_t n_rows = job->n_rows, room = job->units ? HW_TERM_TILE_ROWS : HW_TERM_ROWS;
    for (size_t row = 0; row < n_rows; row += room) {
        job->n_rows = n_rows - row < room ? n_rows - row : room;
        split(d, job);
        multiply(d, job);
        job->x += room * job->w->dims.n_in, job->out += room * job->w->dims.n_out;
    }
}

static void multiply_terms(hw_device *d, matmul_job *job)
{
    const hw_cpu_device *cpu = hw_cpu(d);
    const bool three = d->matmul == HW_MATMUL_BF16X3;
    job->n_terms = three ? 3 : 1;
    job->terms = cpu->terms;
    job->units = cpu->units && job->n_rows >= cpu->units->min_rows[three] ? cpu->units : NULL;
    if (job->units && job->units->multiply) multiply_tiles(d, job);
    else multiply_split(d, job);
}

hw_status HW_CPU_FN(matmul)(hw_device *d, void *out, const void *x, const hw_weight *w, const float *bias,
                            int n)
{
    matmul_job job = {.out = out, .x = x, .bias = bias, .w = w, .n_rows = (size_t)n};
    if (!n || !w->n_groups) return HW_OK;
    if (d->matmul == HW_MATMUL_FLOAT32 || w->dims.format.type != HW_BF16 || !w->n_blocks) multiply(d, &job);
    else multiply_terms(d, &job);
    return HW_OK;
}
