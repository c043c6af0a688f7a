/* Causal attention in blocks of HW_ATTN_BLOCK keys.
 *
 * A block gives, for each query head, a maximum m, a sum l of exp(score - m), and a value a = sum of
 * exp(score - m) * v. Blocks are merged in ascending order into (M, L, A) by one formula, see merge_scales.
 * Normally an item of work is one row and one KV head, and every block is merged as soon as it is there. When
 * there are too few items for the threads (decode of one sequence), the blocks of a window are computed side
 * by side into scratch memory and then merged in the same order by the same formula: the same bits.
 *
 * The query heads of a group go over a block of keys together, HEADS_AT_ONCE at a time, so that the cache is
 * read from memory once. */
#include <math.h>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/vmath.h"

enum { HEADS_AT_ONCE = 4, WINDOW_BLOCKS = 32, SPLIT_FROM_BLOCKS = 4 };

typedef struct attention_job {
    float *out;
    const float *qkv;
    hw_heads heads;
    float scale;
    const hw_rows *rows;
    hw_kv_layer kv;
    float *state; /* [n_rows, n_heads, 2]: M and L */
    /* [n_rows, n_heads, WINDOW_BLOCKS, partial_floats]: m, l, 14 unused, a. NULL when not split. */
    float *partial;
    size_t partial_floats;
    int window; /* first block of the window */
} attention_job;

/* Up to HEADS_AT_ONCE query heads of one row on one block of keys. */
typedef struct block_task {
    const attention_job *job;
    size_t row;
    int first_head, n_heads; /* local query heads */
    int block, n_keys;
    const char *keys[HW_ATTN_BLOCK], *values[HW_ATTN_BLOCK]; /* [head_dim] each, of the cache's type */
    float p[HEADS_AT_ONCE][HW_ATTN_BLOCK];                   /* scores, then exp(score - m) */
    float m[HEADS_AT_ONCE], l[HEADS_AT_ONCE];
} block_task;

HW_INLINE const float *query_of(const attention_job *job, size_t row, int head)
{
    size_t dim = (size_t)job->heads.head_dim;
    size_t width = ((size_t)job->heads.n_heads + 2 * (size_t)job->heads.n_kv_heads) * dim;
    return job->qkv + row * width + (size_t)head * dim;
}

HW_INLINE size_t head_index(const attention_job *job, size_t row, int head)
{
    return row * (size_t)job->heads.n_heads + (size_t)head;
}

static float *partial_of(const attention_job *job, size_t row, int head, int block)
{
    size_t slot = head_index(job, row, head) * WINDOW_BLOCKS + (size_t)(block - job->window);
    return job->partial + slot * job->partial_floats;
}

/* Where the keys and values of a block lie. */
static void locate(block_task *t, int kv_head)
{
    const attention_job *job = t->job;
    const int32_t *table =
        job->rows->block_tables + (size_t)job->rows->seqs[t->row] * (size_t)job->rows->max_blocks;
    size_t size = hw_dtype_size(job->kv.dtype);
    int left = job->rows->positions[t->row] + 1 - t->block * HW_ATTN_BLOCK;
    t->n_keys = left < HW_ATTN_BLOCK ? left : HW_ATTN_BLOCK;
    for (int j = 0; j < t->n_keys; j++) {
        int pos = t->block * HW_ATTN_BLOCK + j;
        const char *data = job->kv.data;
        t->keys[j] = data + size * hw_kv_index(job->heads, job->kv.block_tokens, table, pos, 0, kv_head);
        t->values[j] = data + size * hw_kv_index(job->heads, job->kv.block_tokens, table, pos, 1, kv_head);
    }
}

/* scale * q . k. The lanes of a dot product run over head_dim and are added by v16_sum. `n` and `dtype` are
 * constants at each call. */
HW_INLINE void scores(block_task *t, int n, hw_dtype dtype)
{
    const attention_job *job = t->job;
    const int dim = job->heads.head_dim;
    const size_t size = dtype == HW_F32 ? 4 : 2;
    const float *q[HEADS_AT_ONCE];
    for (int h = 0; h < n; h++) q[h] = query_of(job, t->row, t->first_head + h);
    for (int j = 0; j < t->n_keys; j++) {
        v16 dot[HEADS_AT_ONCE];
        int i = 0;
        for (int h = 0; h < n; h++) dot[h] = v16_zero();
        for (; i + HW_LANES <= dim; i += HW_LANES) {
            v16 k = v16_load_as(dtype, t->keys[j] + (size_t)i * size, HW_LANES);
            for (int h = 0; h < n; h++) dot[h] = v16_fma(v16_load(q[h] + i), k, dot[h]);
        }
        if (i < dim) {
            v16 k = v16_load_as(dtype, t->keys[j] + (size_t)i * size, dim - i);
            for (int h = 0; h < n; h++) dot[h] = v16_fma(v16_load_n(q[h] + i, dim - i), k, dot[h]);
        }
        for (int h = 0; h < n; h++) t->p[h][j] = job->scale * v16_sum(dot[h]);
    }
}

/* Scores to m, exp(score - m) and l. Absent keys count as minus infinity, hence as exactly 0. */
static void softmax_of_block(block_task *t)
{
    for (int h = 0; h < t->n_heads; h++) {
        for (int j = t->n_keys; j < HW_ATTN_BLOCK; j++) t->p[h][j] = -INFINITY;
        v16 max = v16_load(t->p[h]), sum = v16_zero();
        for (int j = HW_LANES; j < HW_ATTN_BLOCK; j += HW_LANES) max = v16_max(max, v16_load(t->p[h] + j));
        t->m[h] = v16_max_lane(max);
        for (int j = 0; j < HW_ATTN_BLOCK; j += HW_LANES) {
            v16 e = v16_exp(v16_sub(v16_load(t->p[h] + j), v16_set1(t->m[h])));
            v16_store(t->p[h] + j, e);
            sum = v16_add(sum, e);
        }
        t->l[h] = v16_sum(sum);
    }
}

/* M' = max(M, m); both sides are scaled down to it. Two of the lanes of one exp do the work. */
HW_INLINE void merge_scales(float state[2], float m, float l, float *keep, float *add)
{
    float max = state[0] > m ? state[0] : m, lane[HW_LANES] = {state[0] - max, m - max};
    v16_store(lane, v16_exp(v16_load(lane)));
    *keep = lane[0], *add = lane[1];
    state[0] = max;
    state[1] = fmaf(l, *add, state[1] * *keep);
}

HW_INLINE v16 merge_values(v16 a, float keep, v16 part, float add)
{
    return v16_fma(part, v16_set1(add), v16_mul(a, v16_set1(keep)));
}

/* What a head does with its block's value, lanes [i, i + lanes) of head_dim. */
typedef struct value_sink {
    float *to;
    float keep, add;
    bool merge; /* otherwise stored as it is */
} value_sink;

/* Block values, sixteen lanes of head_dim at a time over all keys, and straight into their place. */
HW_INLINE void weigh_lanes(const block_task *t, const value_sink *sinks, int i, int lanes, int n,
                           hw_dtype dtype)
{
    const size_t offset = (size_t)i * (dtype == HW_F32 ? 4 : 2);
    v16 a[HEADS_AT_ONCE];
    for (int h = 0; h < n; h++) a[h] = v16_zero();
    for (int j = 0; j < t->n_keys; j++) {
        v16 v = v16_load_as(dtype, t->values[j] + offset, lanes);
        for (int h = 0; h < n; h++) a[h] = v16_fma(v16_set1(t->p[h][j]), v, a[h]);
    }
    for (int h = 0; h < n; h++) {
        const value_sink *s = &sinks[h];
        if (s->merge) a[h] = merge_values(v16_load_n(s->to + i, lanes), s->keep, a[h], s->add);
        v16_store_n(s->to + i, a[h], lanes);
    }
}

HW_INLINE void weigh_values(const block_task *t, const value_sink *sinks, int n, hw_dtype dtype)
{
    int dim = t->job->heads.head_dim, i = 0;
    for (; i + HW_LANES <= dim; i += HW_LANES) weigh_lanes(t, sinks, i, HW_LANES, n, dtype);
    if (i < dim) weigh_lanes(t, sinks, i, dim - i, n, dtype);
}

#define FOR_HEADS(call, n, dtype)                                                                            \
    switch (n) {                                                                                             \
    case 1: call(1, dtype); break;                                                                           \
    case 2: call(2, dtype); break;                                                                           \
    case 3: call(3, dtype); break;                                                                           \
    case 4: call(4, dtype); break;                                                                           \
    }
#define FOR_TYPES(call, n, dtype)                                                                            \
    if (dtype == HW_BF16) FOR_HEADS(call, n, HW_BF16)                                                        \
    else if (dtype == HW_F16) FOR_HEADS(call, n, HW_F16)                                                     \
    else FOR_HEADS(call, n, HW_F32)

static void scores_of_block(block_task *t)
{
#define CALL(n, dtype) scores(t, n, dtype)
    FOR_TYPES(CALL, t->n_heads, t->job->kv.dtype)
#undef CALL
}

static void values_of_block(const block_task *t, const value_sink *sinks)
{
#define CALL(n, dtype) weigh_values(t, sinks, n, dtype)
    FOR_TYPES(CALL, t->n_heads, t->job->kv.dtype)
#undef CALL
}

/* The query heads of one row and KV head on one block: merged into `out` at once, or left in scratch. */
static void attend_block(const attention_job *job, size_t row, int kv_head, int block, bool split)
{
    block_task t = {.job = job, .row = row, .block = block};
    int begin, end;
    hw_heads_of_kv(job->heads, kv_head, &begin, &end);
    locate(&t, kv_head);
    for (int head = begin; head < end; head += HEADS_AT_ONCE) {
        value_sink sinks[HEADS_AT_ONCE];
        t.first_head = head;
        t.n_heads = end - head < HEADS_AT_ONCE ? end - head : HEADS_AT_ONCE;
        scores_of_block(&t);
        softmax_of_block(&t);
        for (int h = 0; h < t.n_heads; h++) {
            size_t at = head_index(job, row, head + h);
            float *state = job->state + 2 * at;
            sinks[h] = (value_sink){.to = job->out + at * (size_t)job->heads.head_dim, .merge = block > 0};
            if (split) {
                float *part = partial_of(job, row, head + h, block);
                part[0] = t.m[h], part[1] = t.l[h];
                sinks[h] = (value_sink){.to = part + HW_LANES, .merge = false};
            } else if (block) {
                merge_scales(state, t.m[h], t.l[h], &sinks[h].keep, &sinks[h].add);
            } else {
                state[0] = t.m[h], state[1] = t.l[h];
            }
        }
        values_of_block(&t, sinks);
    }
}

/* out = A / L. */
static void finish_heads(const attention_job *job, size_t row, int begin, int end)
{
    int dim = job->heads.head_dim;
    for (int head = begin; head < end; head++) {
        size_t at = head_index(job, row, head);
        float *a = job->out + at * (size_t)dim;
        v16 sum = v16_set1(job->state[2 * at + 1]);
        for (int i = 0; i < dim; i += HW_LANES) {
            int n = dim - i < HW_LANES ? dim - i : HW_LANES;
            v16_store_n(a + i, v16_div(v16_load_n(a + i, n), sum), n);
        }
    }
}

static int blocks_of_row(const attention_job *job, size_t row)
{
    return job->rows->positions[row] / HW_ATTN_BLOCK + 1;
}

/* Not split: an item is a row and a KV head. The last rows of a prompt have the most keys and go first. */
static void attend_items(void *arg, size_t begin, size_t end)
{
    const attention_job *job = arg;
    size_t n_kv = (size_t)job->heads.n_kv_heads;
    for (size_t i = begin; i < end; i++) {
        size_t row = (size_t)job->rows->n_rows - 1 - i / n_kv;
        int kv_head = (int)(i % n_kv), first, last;
        for (int b = 0; b < blocks_of_row(job, row); b++) attend_block(job, row, kv_head, b, false);
        hw_heads_of_kv(job->heads, kv_head, &first, &last);
        finish_heads(job, row, first, last);
    }
}

/* Split: an item is a row, a KV head and a block of the window. */
static void attend_window_items(void *arg, size_t begin, size_t end)
{
    const attention_job *job = arg;
    size_t n_kv = (size_t)job->heads.n_kv_heads;
    for (size_t i = begin; i < end; i++) {
        size_t row = i / WINDOW_BLOCKS / n_kv;
        int block = job->window + (int)(i % WINDOW_BLOCKS);
        if (block < blocks_of_row(job, row))
            attend_block(job, row, (int)(i / WINDOW_BLOCKS % n_kv), block, true);
    }
}

/* Merges the window's blocks of one row and query head, in ascending order. */
static void merge_window(const attention_job *job, size_t row, int head)
{
    size_t at = head_index(job, row, head);
    int dim = job->heads.head_dim, end = blocks_of_row(job, row);
    float *a = job->out + at * (size_t)dim, *state = job->state + 2 * at;
    if (end > job->window + WINDOW_BLOCKS) end = job->window + WINDOW_BLOCKS;
    for (int block = job->window; block < end; block++) {
        const float *part = partial_of(job, row, head, block);
        float keep = 0, add = 1;
        if (block) merge_scales(state, part[0], part[1], &keep, &add);
        else state[0] = part[0], state[1] = part[1];
        for (int i = 0; i < dim; i += HW_LANES) {
            int n = dim - i < HW_LANES ? dim - i : HW_LANES;
            v16 value = v16_load_n(part + HW_LANES + i, n);
            if (block) value = merge_values(v16_load_n(a + i, n), keep, value, add);
            v16_store_n(a + i, value, n);
        }
    }
}

static void merge_window_items(void *arg, size_t begin, size_t end)
{
    const attention_job *job = arg;
    size_t n_heads = (size_t)job->heads.n_heads;
    for (size_t i = begin; i < end; i++) merge_window(job, i / n_heads, (int)(i % n_heads));
}

static size_t partial_floats(hw_heads heads)
{
    return HW_LANES + ((size_t)heads.head_dim + HW_LANES - 1) / HW_LANES * HW_LANES;
}

/* Rows that may be split: with this many or more there is an item for every thread anyway. */
static size_t most_split_rows(const hw_device *d, hw_heads heads)
{
    if (d->n_threads == 1 || !heads.n_kv_heads) return 0;
    return (2 * (size_t)d->n_threads - 1) / (size_t)heads.n_kv_heads;
}

size_t HW_CPU_FN(attention_scratch)(const hw_device *d, hw_heads heads, int max_rows, int max_positions)
{
    size_t rows = (size_t)max_rows, split = most_split_rows(d, heads);
    if (split > rows) split = rows;
    if ((max_positions + HW_ATTN_BLOCK - 1) / HW_ATTN_BLOCK < SPLIT_FROM_BLOCKS) split = 0;
    size_t state = (rows * (size_t)heads.n_heads * 2 + HW_LANES - 1) / HW_LANES * HW_LANES;
    return (state + split * (size_t)heads.n_heads * WINDOW_BLOCKS * partial_floats(heads)) * sizeof(float);
}

hw_status HW_CPU_FN(attention)(hw_device *d, hw_stream *s, void *out, const void *qkv, hw_heads heads,
                               float scale, const hw_rows *rows, hw_kv_layer kv, void *scratch)
{
    (void)s;
    size_t n_rows = (size_t)rows->n_rows, n_kv = (size_t)heads.n_kv_heads, n_heads = (size_t)heads.n_heads;
    attention_job job = {.out = out,
                         .qkv = qkv,
                         .heads = heads,
                         .scale = scale,
                         .rows = rows,
                         .kv = kv,
                         .state = scratch,
                         .partial_floats = partial_floats(heads)};
    int n_blocks = rows->max_position / HW_ATTN_BLOCK + 1;
    if (n_rows > most_split_rows(d, heads) || n_blocks < SPLIT_FROM_BLOCKS) {
        hw_pool_for(hw_cpu_pool(d), n_rows * n_kv, 1, attend_items, &job);
        return HW_OK;
    }
    job.partial = job.state + (n_rows * n_heads * 2 + HW_LANES - 1) / HW_LANES * HW_LANES;
    for (; job.window < n_blocks; job.window += WINDOW_BLOCKS) {
        hw_pool_for(hw_cpu_pool(d), n_rows * n_kv * WINDOW_BLOCKS, 1, attend_window_items, &job);
        hw_pool_for(hw_cpu_pool(d), n_rows * n_heads, 4, merge_window_items, &job);
    }
    for (size_t row = 0; row < n_rows; row++) finish_heads(&job, row, 0, heads.n_heads);
    return HW_OK;
}
