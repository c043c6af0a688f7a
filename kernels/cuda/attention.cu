/* Attention over the paged cache for every type and head size: what float32 is computed with, and what the
 * kernel on tensor cores (attention_tiles.cu) is compared with. Split over keys (flash-decoding: Dao et al. 2023).
 *
 * A block of threads takes one row, up to MOST_HEADS query heads that share a KV head, and a chunk of CHUNK
 * positions. Inside a chunk keys are taken HW_ATTN_BLOCK at a time, each such block with a maximum, a sum
 * and a weighted value of its own. Keys, and then values, are brought into shared memory once for all the
 * heads, as many at a time as it holds; blocks are merged in ascending order into the chunk's result, and chunks
 * in ascending order into the row's. With few rows, chunks run side by side and a second kernel merges what
 * they left in the scratch memory; with many rows one block of threads walks through all of them and merges
 * as it goes. Where chunks begin depends on positions alone, so both ways add in the same order. */
#include "kernels/cuda/attention.h"
#include "kernels/cuda/numbers.h"

#include "runtime/base/checked.h"

namespace
{

enum {
    BLOCK = 128,
    CHUNK = 4 * HW_ATTN_BLOCK,
    MOST_HEADS = 8,
    MOST_FLOATS =
        2048, /* query heads times head_dim of one block of threads: keeps shared memory below 48 KiB */
    SPLIT_ROWS = 16, /* steps of more rows fill the device without splitting */
};

/* The softmax so far: values are divided by `sum` at the end. */
struct state {
    float max, sum;
};

/* Into `a` goes `b`; what was weighted by each is multiplied by its factor from now on. An empty state has
 * max -inf and factor 0. */
__device__ inline void merge(state *a, state b, float *factor_a, float *factor_b)
{
    const float max = fmaxf(a->max, b.max);
    *factor_a = a->max == max ? 1.0f : expf(a->max - max);
    *factor_b = b.max == max ? 1.0f : expf(b.max - max);
    *a = {max, a->sum * *factor_a + b.sum * *factor_b};
}

/* What a block of threads works on. Shared memory, in this order. */
struct work {
    void *tile;           /* [tile_keys, pitch] keys or values as they are stored */
    float *q;             /* [n_heads, dim in whole packs] times the scale; zeros behind */
    float *chunk, *total; /* [n_heads, dim] weighted values of this chunk; of the chunks before it */
    float *p;             /* [n_heads, HW_ATTN_BLOCK] scores, then their exponentials */
    float *factors;       /* [n_heads, 2] */
    state *chunk_state, *total_state; /* [n_heads] */
};

template <typename T> __host__ __device__ inline int in_packs(int dim)
{
    return (dim + hw_pack<T>::N - 1) / hw_pack<T>::N * hw_pack<T>::N;
}

/* Of rows in shared memory: a pack longer, so that threads that read one row each meet other banks. */
template <typename T> __host__ __device__ inline int pitch(int dim)
{
    return in_packs<T>(dim) + hw_pack<T>::N;
}

template <typename T> inline size_t shared_bytes(int n_heads, int dim, int tile_keys)
{
    const size_t per_head = (size_t)in_packs<T>(dim) + 2 * (size_t)dim + HW_ATTN_BLOCK + 2 + 2 + 2;
    return (size_t)tile_keys * (size_t)pitch<T>(dim) * sizeof(T) + (size_t)n_heads * per_head * sizeof(float);
}

template <typename T>
__device__ inline work lay_out(unsigned char *memory, int n_heads, int dim, int tile_keys)
{
    float *f = reinterpret_cast<float *>(memory + (size_t)tile_keys * (size_t)pitch<T>(dim) * sizeof(T));
    const size_t n = (size_t)n_heads * (size_t)dim, h = (size_t)n_heads;
    work w;
    w.tile = memory;
    w.q = f, w.chunk = f + h * (size_t)in_packs<T>(dim), w.total = w.chunk + n;
    w.p = w.total + n;
    w.factors = w.p + h * HW_ATTN_BLOCK;
    w.chunk_state = reinterpret_cast<state *>(w.factors + 2 * h);
    w.total_state = w.chunk_state + h;
    return w;
}

template <typename T> struct cache_view {
    const T *data;
    const int32_t *table; /* of the row's sequence */
    hw_heads heads;
    int block_tokens, kv_head, tile_keys;
    __device__ const T *at(int position, int is_value) const
    {
        return data + hw_kv_index(heads, block_tokens, table, position, is_value, kv_head);
    }
};

/* Keys, or values, of n positions from `first` into shared memory, by 16-byte loads where heads are whole
 * packs; zeros behind each. All threads. */
template <typename T>
__device__ void bring(T *tile, const cache_view<T> &cache, int is_value, int first, int n)
{
    enum { N = hw_pack<T>::N };
    const int dim = cache.heads.head_dim, row = pitch<T>(dim);
    const bool packed = hw_is_packed<T>((size_t)dim);
    const int pieces = packed ? dim / N : in_packs<T>(dim);
    for (int i = (int)threadIdx.x; i < n * pieces; i += BLOCK) {
        const int key = i / pieces, piece = i % pieces;
        const T *from = cache.at(first + key, is_value);
        if (packed) hw_store_pack(tile + key * row + piece * N, hw_load_pack(from + piece * N));
        else if (piece < dim) tile[key * row + piece] = from[piece];
        else hw_set(tile + key * row + piece, 0.0f);
    }
    __syncthreads();
}

/* scale * q . k of one key in shared memory. Four chains of additions, so that they do not wait for one
 * another. */
template <typename T> __device__ inline float dot(const float *q, const T *k, int dim)
{
    enum { N = hw_pack<T>::N };
    float sum[4] = {0, 0, 0, 0};
    for (int i = 0; i < dim; i += N) {
        const hw_pack<T> pack = hw_load_pack(k + i);
#pragma unroll
        for (int c = 0; c < N; c++) sum[c % 4] += q[i + c] * hw_get(pack.at[c]);
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Of up to HW_ATTN_BLOCK keys from `first`; -inf for those that are not there. */
template <typename T>
__device__ void score(const work &w, const cache_view<T> &cache, int n_heads, int first, int n_keys)
{
    T *tile = static_cast<T *>(w.tile);
    const int dim = cache.heads.head_dim, width = in_packs<T>(dim), n_tile = cache.tile_keys;
    for (int t = 0; t < HW_ATTN_BLOCK; t += n_tile) {
        const int n = n_keys - t < n_tile ? n_keys - t : n_tile;
        bring(tile, cache, 0, first + t, n);
        for (int i = (int)threadIdx.x; i < n_heads * n_tile; i += BLOCK) {
            const int h = i / n_tile, key = i % n_tile;
            w.p[h * HW_ATTN_BLOCK + t + key] =
                key < n ? dot(w.q + h * width, tile + key * pitch<T>(dim), width) : -INFINITY;
        }
        __syncthreads();
    }
}

/* Scores, then each head's maximum, exponentials and sum, merged into the chunk's state. */
template <typename T>
__device__ void weigh(const work &w, const cache_view<T> &cache, int n_heads, int first, int n_keys)
{
    const int lane = (int)threadIdx.x % HW_WARP;
    score(w, cache, n_heads, first, n_keys);
    for (int h = (int)threadIdx.x / HW_WARP; h < n_heads; h += BLOCK / HW_WARP) {
        float *p = w.p + h * HW_ATTN_BLOCK;
        const float max = hw_warp_max(fmaxf(p[lane], p[lane + HW_WARP]));
        const float a = lane < n_keys ? expf(p[lane] - max) : 0.0f;
        const float b = lane + HW_WARP < n_keys ? expf(p[lane + HW_WARP] - max) : 0.0f;
        p[lane] = a;
        p[lane + HW_WARP] = b;
        const state block = {max, hw_warp_sum(a + b)};
        if (lane == 0) merge(&w.chunk_state[h], block, &w.factors[2 * h], &w.factors[2 * h + 1]);
    }
    __syncthreads();
}

/* The values of the same keys, by those weights. A thread owns elements of the result. */
template <typename T>
__device__ void add_values(const work &w, const cache_view<T> &cache, int n_heads, int first, int n_keys)
{
    T *tile = static_cast<T *>(w.tile);
    const int dim = cache.heads.head_dim, row = pitch<T>(dim);
    for (int t = 0; t < n_keys; t += cache.tile_keys) {
        const int n = n_keys - t < cache.tile_keys ? n_keys - t : cache.tile_keys;
        bring(tile, cache, 1, first + t, n);
        for (int i = (int)threadIdx.x; i < n_heads * dim; i += BLOCK) {
            const int h = i / dim, e = i % dim;
            const float *p = w.p + h * HW_ATTN_BLOCK + t;
            float sum = 0;
            for (int key = 0; key < n; key++) sum += p[key] * hw_get(tile[key * row + e]);
            w.chunk[i] = w.chunk[i] * (t ? 1.0f : w.factors[2 * h]) + sum * w.factors[2 * h + 1];
        }
        __syncthreads();
    }
}

/* Positions first .. end - 1, into chunk and chunk_state. */
template <typename T>
__device__ void take_chunk(const work &w, const cache_view<T> &cache, int n_heads, int first, int end)
{
    for (int i = (int)threadIdx.x; i < n_heads * cache.heads.head_dim; i += BLOCK) w.chunk[i] = 0;
    for (int h = (int)threadIdx.x; h < n_heads; h += BLOCK) w.chunk_state[h] = {-INFINITY, 0};
    __syncthreads();
    for (int key = first, next; key < end; key = next) {
        next = (key / HW_ATTN_BLOCK + 1) * HW_ATTN_BLOCK;
        const int n_keys = (next < end ? next : end) - key;
        weigh(w, cache, n_heads, key, n_keys);
        add_values(w, cache, n_heads, key, n_keys);
    }
}

__device__ void add_chunk_to_total(const work &w, int n_heads, int dim)
{
    for (int h = (int)threadIdx.x; h < n_heads; h += BLOCK)
        merge(&w.total_state[h], w.chunk_state[h], &w.factors[2 * h], &w.factors[2 * h + 1]);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n_heads * dim; i += BLOCK)
        w.total[i] = w.total[i] * w.factors[2 * (i / dim)] + w.chunk[i] * w.factors[2 * (i / dim) + 1];
    __syncthreads();
}

/* Grid: row, group of heads, chunk (one that stands for all when not split).
 *   out [n_rows, n_heads, dim], or when split partial [n_rows, n_heads, n_chunks, dim + 2]: values, maximum, sum */
template <typename A, typename T>
__global__ void attend(A *out, float *partial, const A *qkv, hw_heads heads, float scale, int window,
                       hw_rows rows, const T *data, int block_tokens, int heads_per_block,
                       int groups_per_kv_head, int tile_keys)
{
    HW_DYNAMIC_SHARED(memory);
    hw_begin();
    const int row = (int)blockIdx.x, dim = heads.head_dim, kv_head = (int)blockIdx.y / groups_per_kv_head;
    const int n_keys = rows.positions[row] + 1, first_key = hw_attn_first(window, n_keys - 1);
    int head, end_head;
    hw_heads_of_kv(heads, kv_head, &head, &end_head);
    head += (int)blockIdx.y % groups_per_kv_head * heads_per_block;
    const int n_heads = end_head - head < heads_per_block ? end_head - head : heads_per_block;
    const int first_chunk = partial ? (int)blockIdx.z : first_key / CHUNK,
              end_chunk = partial ? first_chunk + 1 : (n_keys + CHUNK - 1) / CHUNK;
    if (n_heads <= 0 || first_chunk * CHUNK >= n_keys || first_chunk < first_key / CHUNK) return;

    const work w = lay_out<T>(memory, heads_per_block, dim, tile_keys);
    const cache_view<T> cache = {
        data,    rows.block_tables + (size_t)rows.seqs[row] * (size_t)rows.max_blocks,
        heads,   block_tokens,
        kv_head, tile_keys};
    const size_t width = ((size_t)heads.n_heads + 2 * (size_t)heads.n_kv_heads) * (size_t)dim;
    const A *q = qkv + (size_t)row * width + (size_t)head * (size_t)dim;
    const int q_width = in_packs<T>(dim);
    for (int i = (int)threadIdx.x; i < n_heads * q_width; i += BLOCK) {
        const int h = i / q_width, e = i % q_width;
        w.q[i] = e < dim ? hw_get(q[h * dim + e]) * scale : 0.0f;
    }
    for (int i = (int)threadIdx.x; i < n_heads * dim; i += BLOCK) w.total[i] = 0;
    for (int h = (int)threadIdx.x; h < n_heads; h += BLOCK) w.total_state[h] = {-INFINITY, 0};
    __syncthreads();
    for (int chunk = first_chunk; chunk < end_chunk; chunk++) {
        const int end = (chunk + 1) * CHUNK < n_keys ? (chunk + 1) * CHUNK : n_keys;
        take_chunk(w, cache, n_heads, chunk * CHUNK > first_key ? chunk * CHUNK : first_key, end);
        if (!partial) add_chunk_to_total(w, n_heads, dim);
    }

    const size_t first_out = (size_t)row * (size_t)heads.n_heads + (size_t)head;
    for (int i = (int)threadIdx.x; i < n_heads * dim; i += BLOCK) {
        const size_t h = (size_t)(i / dim), e = (size_t)(i % dim);
        if (!partial) hw_set(out + (first_out + h) * (size_t)dim + e, w.total[i] / w.total_state[h].sum);
        else partial[((first_out + h) * gridDim.z + blockIdx.z) * (size_t)(dim + 2) + e] = w.chunk[i];
    }
    for (int h = (int)threadIdx.x; partial && h < n_heads; h += BLOCK) {
        float *to = partial + ((first_out + (size_t)h) * gridDim.z + blockIdx.z) * (size_t)(dim + 2) + dim;
        to[0] = w.chunk_state[h].max, to[1] = w.chunk_state[h].sum;
    }
}

/* Grid: row, head. Every thread merges the states for itself, and the values that it owns. */
template <typename A>
__global__ void merge_chunks(A *out, const float *partial, const int32_t *positions, int window, int dim,
                             int n_chunks)
{
    hw_begin();
    const size_t row_head = (size_t)blockIdx.x * gridDim.y + blockIdx.y, stride = (size_t)(dim + 2);
    const float *from = partial + row_head * (size_t)n_chunks * stride;
    const int position = positions[blockIdx.x], first = hw_attn_first(window, position) / CHUNK,
              used = position / CHUNK + 1;
    for (int e = (int)threadIdx.x; e < dim; e += BLOCK) {
        state total = {-INFINITY, 0};
        float value = 0, before, now;
        for (int c = first; c < used; c++) {
            const float *chunk = from + (size_t)c * stride;
            merge(&total, {chunk[dim], chunk[dim + 1]}, &before, &now);
            value = value * before + chunk[e] * now;
        }
        hw_set(out + row_head * (size_t)dim + (size_t)e, value / total.sum);
    }
}

/* As many keys as fit beside the rest into what a block has without asking. */
template <typename T> int tile_keys_for(int n_heads, int dim)
{
    int n = HW_ATTN_BLOCK;
    while (n > 1 && shared_bytes<T>(n_heads, dim, n) > HW_CUDA_SHARED_BYTES - HW_CUDA_STATIC_SHARED_BYTES)
        n /= 2;
    return n;
}

int chunks_of(int n_positions) { return (n_positions + CHUNK - 1) / CHUNK; }

} // namespace

size_t hw_cuda_attention_scratch(const hw_device *, hw_heads heads, int max_rows, int max_positions)
{
    const size_t rows = (size_t)(max_rows < SPLIT_ROWS ? max_rows : SPLIT_ROWS);
    const size_t factors[] = {rows, (size_t)heads.n_heads, (size_t)chunks_of(max_positions),
                              (size_t)heads.head_dim + 2, sizeof(float)};
    const size_t mine = hw_size_product(factors, sizeof factors / sizeof *factors),
                 of_tiles = hw_cuda_attention_tiles_scratch(heads, max_rows, max_positions);
    return mine > of_tiles ? mine : of_tiles;
}

hw_status hw_cuda_attention(hw_device *d, void *out, const void *qkv, hw_heads heads, const hw_attn *attn,
                            const hw_rows *rows, hw_kv_layer kv, void *scratch)
{
    hw_cuda_device *c = hw_cuda_of(d);
    const int dim = heads.head_dim, n_chunks = chunks_of(rows->max_position + 1);
    if (!rows->n_rows || !heads.n_heads) return HW_OK;
    if (hw_cuda_attention_has_tiles(c, heads, kv.dtype))
        return hw_cuda_attention_tiles(c, out, qkv, heads, attn, rows, kv, scratch);
    const int fitting = MOST_FLOATS / dim < MOST_HEADS ? MOST_FLOATS / dim : MOST_HEADS;
    const int per_block = fitting < 1 ? 1 : fitting < heads.n_rep ? fitting : heads.n_rep;
    const int groups = (heads.n_rep + per_block - 1) / per_block;
    const bool split = rows->n_rows <= SPLIT_ROWS && n_chunks > 1;
    const dim3 grid((unsigned)rows->n_rows, (unsigned)(heads.n_kv_heads * groups),
                    split ? (unsigned)n_chunks : 1);
    float *partial = split ? (float *)scratch : nullptr;
    return hw_with_type(d->act, [&](auto active) {
        using A = decltype(active);
        hw_status st = hw_with_type(kv.dtype, [&](auto kept) {
            using T = decltype(kept);
            const int tile_keys = tile_keys_for<T>(per_block, dim);
            return hw_cuda_launch(c, "attention", attend<A, T>, grid, BLOCK,
                                  shared_bytes<T>(per_block, dim, tile_keys), (A *)out, partial,
                                  (const A *)qkv, heads, attn->scale, attn->window, *rows, (const T *)kv.data,
                                  kv.block_tokens, per_block, groups, tile_keys);
        });
        if (st || !split) return st;
        return hw_cuda_launch(c, "attention, merging chunks", merge_chunks<A>,
                              dim3((unsigned)rows->n_rows, (unsigned)heads.n_heads), BLOCK, 0, (A *)out,
                              partial, rows->positions, attn->window, dim, n_chunks);
    });
}
