/* Causal attention in blocks of HW_ATTN_BLOCK keys.  A block gives, for each query head, a maximum m, a sum l
 * of exp(score - m), and a value a = sum of exp(score - m) * v (attention_block.h). Blocks are merged in
 * ascending order into (M, L, A) by one formula, see hw_attn_merge_scales. Normally an item of work is some
 * rows and one KV head, and every block is merged as soon as it is there. When there are too few items for
 * the threads (decode of one sequence), the blocks of a span are computed side by side into scratch memory
 * and then merged in the same order by the same formula: the same bits.  All query heads that read a KV head,
 * of all rows of an item, go over a block of keys together, so that the cache is read from memory once. */
#include <limits.h>

#include "kernels/cpu/attention_block.h"
#include "kernels/cpu/ops.h"

enum { SPAN_BLOCKS = 32, SPLIT_FROM_BLOCKS = 4, ITEMS_PER_THREAD = 4 };

typedef struct attention_job {
    float *out;
    const float *qkv;
    hw_heads heads;
    const hw_attn *attn;
    const hw_rows *rows;
    hw_kv_layer kv;
    size_t item_rows, n_row_items; /* not split */
    float *state;                  /* [n_rows, n_heads, 2]: M and L */
    /* [n_rows, n_heads, SPAN_BLOCKS, partial_floats]: m, l, 14 unused, a. NULL when not split. */
    float *partial;
    size_t partial_floats;
    int span; /* its first block */
} attention_job;

/* Rows [row, end) of one sequence and query heads [first_head, end_head) of one KV head. */
typedef struct item {
    size_t row, end;
    int kv_head, first_head, end_head;
} item;

static const float *query_of(const attention_job *job, size_t row, int head)
{
    size_t dim = (size_t)job->heads.head_dim;
    size_t width = ((size_t)job->heads.n_heads + 2 * (size_t)job->heads.n_kv_heads) * dim;
    return job->qkv + row * width + (size_t)head * dim;
}

static size_t head_index(const attention_job *job, size_t row, int head)
{
    return row * (size_t)job->heads.n_heads + (size_t)head;
}

static float *partial_of(const attention_job *job, size_t row, int head, int block)
{
    size_t slot = head_index(job, row, head) * SPAN_BLOCKS + (size_t)(block - job->span);
    return job->partial + slot * job->partial_floats;
}

/* Blocks of keys that a row sees something of: [first_block, end_block). */
static int first_block(const attention_job *job, size_t row)
{
    return hw_attn_first(job->attn->window, job->rows->positions[row]) / HW_ATTN_BLOCK;
}
static int end_block(const attention_job *job, size_t row)
{
    return job->rows->positions[row] / HW_ATTN_BLOCK + 1;
}

static int last_position(const attention_job *job, const item *it)
{
    int last = 0;
    for (size_t r = it->row; r < it->end; r++)
        if (job->rows->positions[r] > last) last = job->rows->positions[r];
    return last;
}

/* The first block that any of these rows sees. */
static int first_block_of_rows(const attention_job *job, size_t row, size_t end)
{
    int first = INT_MAX;
    for (size_t r = row; r < end; r++)
        if (first_block(job, r) < first) first = first_block(job, r);
    return first;
}

/* Where the keys and values of a block lie, up to position `last`. A cache block is looked up once. */
static void locate(hw_attn_rows *to, const attention_job *job, const item *it, int block, int last)
{
    const int32_t *table =
        job->rows->block_tables + (size_t)job->rows->seqs[it->row] * (size_t)job->rows->max_blocks;
    const size_t size = hw_dtype_size(job->kv.dtype), step = (size_t)job->heads.head_dim * size;
    const char *data = job->kv.data;
    int first = block * HW_ATTN_BLOCK, end = last - first < HW_ATTN_BLOCK ? last + 1 : first + HW_ATTN_BLOCK;
    to->n_keys = end - first;
    for (int pos = first; pos < end;) {
        int left = job->kv.block_tokens - pos % job->kv.block_tokens, n = end - pos < left ? end - pos : left;
        size_t key = hw_kv_index(job->heads, job->kv.block_tokens, table, pos, 0, it->kv_head);
        size_t value = hw_kv_index(job->heads, job->kv.block_tokens, table, pos, 1, it->kv_head);
        for (int i = 0; i < n; i++, pos++) {
            to->keys[pos - first] = data + key * size + (size_t)i * step;
            to->values[pos - first] = data + value * size + (size_t)i * step;
        }
    }
}

/* The queries of an item that see keys of this block. */
static void gather_queries(hw_attn_block *b, const attention_job *job, const item *it, int block)
{
    b->n_queries = 0;
    for (size_t row = it->row; row < it->end; row++) {
        const int position = job->rows->positions[row], start = block * HW_ATTN_BLOCK,
                  left = position + 1 - start;
        const int hidden = hw_attn_first(job->attn->window, position) - start;
        if (left <= 0 || hidden >= HW_ATTN_BLOCK) continue;
        for (int head = it->first_head; head < it->end_head; head++)
            b->query[b->n_queries++] =
                (hw_attn_query){.q = query_of(job, row, head),
                                .first_key = hidden > 0 ? hidden : 0,
                                .end_key = left < HW_ATTN_BLOCK ? left : HW_ATTN_BLOCK,
                                .merge = !job->partial && block > first_block(job, row),
                                .at = head_index(job, row, head)};
    }
}

/* Where the values of a block go, and with which weights: merged into `out` at once, or left in scratch. */
static void aim(hw_attn_block *b, const attention_job *job, int block)
{
    float M[HW_ATTN_QUERIES], L[HW_ATTN_QUERIES];
    bool merge = false;
    for (int i = 0; i < b->n_queries; i++) {
        hw_attn_query *q = &b->query[i];
        const float *state = job->state + 2 * q->at;
        q->to = job->out + q->at * (size_t)job->heads.head_dim;
        if (job->partial) {
            float *part = partial_of(job, 0, (int)q->at, block);
            part[0] = b->m[i], part[1] = b->l[i];
            q->to = part + HW_LANES;
        }
        M[i] = q->merge ? state[0] : -INFINITY, L[i] = q->merge ? state[1] : 0;
        merge |= q->merge;
    }
    if (job->partial) return;
    if (merge) hw_attn_merge_scales(M, L, b->m, b->l, b->keep, b->add, b->n_queries);
    for (int i = 0; i < b->n_queries; i++) {
        const hw_attn_query *q = &b->query[i];
        float *state = job->state + 2 * q->at;
        state[0] = q->merge ? M[i] : b->m[i], state[1] = q->merge ? L[i] : b->l[i];
    }
}

/* One block of keys. */
static void attend_block(hw_attn_block *b, const attention_job *job, const item *it, int block)
{
    const int dim = job->heads.head_dim;
    gather_queries(b, job, it, block);
    for (int i = 0; i < dim; i += HW_ATTN_SLAB) {
        int n = dim - i < HW_ATTN_SLAB ? dim - i : HW_ATTN_SLAB;
        hw_attn_fill_slab(b, true, i, n);
        hw_attn_scores(b, i, n);
    }
    for (int q = 0; q < b->n_queries; q++) hw_attn_softmax(b, q);
    aim(b, job, block);
    for (int i = 0; i < dim; i += HW_ATTN_SLAB) {
        int n = dim - i < HW_ATTN_SLAB ? dim - i : HW_ATTN_SLAB;
        hw_attn_fill_slab(b, false, i, n);
        hw_attn_values(b, i, n);
    }
}

/* Blocks [begin, end) of an item's keys, in ascending order. */
static void attend(hw_attn_block *b, const attention_job *job, const item *it, int begin, int end)
{
    hw_attn_rows rows[2]; /* of this block and the next */
    int last = last_position(job, it), first = first_block_of_rows(job, it->row, it->end);
    if (begin < first) begin = first;
    if (end > last / HW_ATTN_BLOCK + 1) end = last / HW_ATTN_BLOCK + 1;
    if (begin < end) locate(&rows[begin % 2], job, it, begin, last);
    for (int block = begin; block < end; block++) {
        b->rows = &rows[block % 2];
        b->next = block + 1 < end ? &rows[(block + 1) % 2] : NULL;
        if (b->next) locate(&rows[(block + 1) % 2], job, it, block + 1, last);
        attend_block(b, job, it, block);
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

/* Rows [row, end) may be of several sequences, and a KV head may have more query heads than fit: one item
 * each. */
static void attend_rows(hw_attn_block *b, const attention_job *job, size_t row, size_t end, int kv_head,
                        int begin_block, int end_block)
{
    int first, last;
    hw_heads_of_kv(job->heads, kv_head, &first, &last);
    for (int head = first; head < last; head += HW_ATTN_QUERIES)
        for (size_t r = row, same; r < end; r = same) {
            for (same = r + 1; same < end && job->rows->seqs[same] == job->rows->seqs[r];) same++;
            item it = {.row = r, .end = same, .kv_head = kv_head, .first_head = head};
            it.end_head = last - head < HW_ATTN_QUERIES ? last : head + HW_ATTN_QUERIES;
            attend(b, job, &it, begin_block, end_block);
        }
}

static void start(hw_attn_block *b, const attention_job *job)
{
    b->dtype = job->kv.dtype;
    b->scale = job->attn->scale;
}

/* Not split: an item is some rows and a KV head. The last rows of a prompt have the most keys and go
 * first. */
static void attend_items(void *arg, size_t begin, size_t end)
{
    const attention_job *job = arg;
    size_t n_kv = (size_t)job->heads.n_kv_heads, n_rows = (size_t)job->rows->n_rows;
    hw_attn_block b;
    start(&b, job);
    for (size_t i = begin; i < end; i++) {
        size_t row = (job->n_row_items - 1 - i / n_kv) * job->item_rows;
        size_t last = n_rows - row < job->item_rows ? n_rows : row + job->item_rows;
        int kv_head = (int)(i % n_kv), first_head, end_head;
        attend_rows(&b, job, row, last, kv_head, 0, INT_MAX);
        hw_heads_of_kv(job->heads, kv_head, &first_head, &end_head);
        for (size_t r = row; r < last; r++) finish_heads(job, r, first_head, end_head);
    }
}

/* Split: an item is a row, a KV head and a block of the span. */
static void attend_span_items(void *arg, size_t begin, size_t end)
{
    const attention_job *job = arg;
    size_t n_kv = (size_t)job->heads.n_kv_heads;
    hw_attn_block b;
    start(&b, job);
    for (size_t i = begin; i < end; i++) {
        size_t row = i / SPAN_BLOCKS / n_kv;
        int block = job->span + (int)(i % SPAN_BLOCKS);
        attend_rows(&b, job, row, row + 1, (int)(i / SPAN_BLOCKS % n_kv), block, block + 1);
    }
}

/* Merges the span's blocks of one row and query head, in ascending order. */
static void merge_span(const attention_job *job, size_t row, int head)
{
    size_t at = head_index(job, row, head);
    int dim = job->heads.head_dim, first = first_block(job, row), end = end_block(job, row);
    int begin = first > job->span ? first : job->span;
    float *a = job->out + at * (size_t)dim, *state = job->state + 2 * at;
    if (end > job->span + SPAN_BLOCKS) end = job->span + SPAN_BLOCKS;
    for (int block = begin; block < end; block++) {
        const float *part = partial_of(job, row, head, block);
        float keep[HW_LANES], add[HW_LANES];
        if (block > first) hw_attn_merge_scales(state, state + 1, part, part + 1, keep, add, 1);
        else state[0] = part[0], state[1] = part[1];
        for (int i = 0; i < dim; i += HW_LANES) {
            int n = dim - i < HW_LANES ? dim - i : HW_LANES;
            v16 value = v16_load_n(part + HW_LANES + i, n);
            if (block > first) value = hw_attn_merge(v16_load_n(a + i, n), keep[0], value, add[0]);
            v16_store_n(a + i, value, n);
        }
    }
}

static void merge_span_items(void *arg, size_t begin, size_t end)
{
    const attention_job *job = arg;
    size_t n_heads = (size_t)job->heads.n_heads;
    for (size_t i = begin; i < end; i++) merge_span(job, i / n_heads, (int)(i % n_heads));
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
    return (state + split * (size_t)heads.n_heads * SPAN_BLOCKS * partial_floats(heads)) * sizeof(float);
}

/* As many rows an item as have room, but items enough for all threads. */
static void share_rows(attention_job *job, int n_threads)
{
    size_t n_rows = (size_t)job->rows->n_rows, n_kv = (size_t)job->heads.n_kv_heads;
    size_t most = HW_ATTN_QUERIES / (size_t)job->heads.n_rep, items = (size_t)n_threads * ITEMS_PER_THREAD;
    size_t fair = n_rows * n_kv / items;
    job->item_rows = most < fair ? most : fair;
    if (!job->item_rows) job->item_rows = 1;
    job->n_row_items = (n_rows + job->item_rows - 1) / job->item_rows;
}

hw_status HW_CPU_FN(attention)(hw_device *d, void *out, const void *qkv, hw_heads heads, const hw_attn *attn,
                               const hw_rows *rows, hw_kv_layer kv, void *scratch)
{
    size_t n_rows = (size_t)rows->n_rows, n_kv = (size_t)heads.n_kv_heads, n_heads = (size_t)heads.n_heads;
    attention_job job = {.out = out,
                         .qkv = qkv,
                         .heads = heads,
                         .attn = attn,
                         .rows = rows,
                         .kv = kv,
                         .state = scratch,
                         .partial_floats = partial_floats(heads)};
    int n_blocks = rows->max_position / HW_ATTN_BLOCK + 1;
    if (n_rows > most_split_rows(d, heads) || n_blocks < SPLIT_FROM_BLOCKS) {
        share_rows(&job, d->n_threads);
        hw_pool_for(hw_cpu_pool(d), job.n_row_items * n_kv, 1, attend_items, &job);
        return HW_OK;
    }
    job.partial = job.state + (n_rows * n_heads * 2 + HW_LANES - 1) / HW_LANES * HW_LANES;
    for (job.span = first_block_of_rows(&job, 0, n_rows); job.span < n_blocks; job.span += SPAN_BLOCKS) {
        hw_pool_for(hw_cpu_pool(d), n_rows * n_kv * SPAN_BLOCKS, 1, attend_span_items, &job);
        hw_pool_for(hw_cpu_pool(d), n_rows * n_heads, 4, merge_span_items, &job);
    }
    for (size_t row = 0; row < n_rows; row++) finish_heads(&job, row, 0, heads.n_heads);
    return HW_OK;
}
