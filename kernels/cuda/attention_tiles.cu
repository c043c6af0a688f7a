/* Attention over the paged cache in 16-bit types, on tensor cores (FlashAttention-2 and flash-decoding: Dao
 * 2023, Dao et al. 2023).
 *
 * All query heads that share a KV head are rows of one matrix, so that a key or value is read once for all of
 * them: row m of a tile is head m % n_heads of token m / n_heads. A block of threads walks over the keys of
 * its tile, KEYS at a time: scores, a softmax that goes along (its maximum and sum so far, what was added
 * before multiplied down when the maximum grows), and weights times values, rounded to the type between.
 *
 * Tiles of many tokens (prefill): each warp has 16 rows and sees all keys. Tiles of one token (decode): one
 * set of rows, and each warp has a quarter of the keys; the four results are merged in ascending order.
 * With few rows, a row's keys are also split over blocks, in chunks whose size follows from the row's
 * position alone; the block that is done last merges them in ascending order. */
#include <algorithm>
#include <climits>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/mma.h"
#include "runtime/base/checked.h"

namespace
{

enum {
    WARPS = 4,
    BLOCK = WARPS * HW_WARP,
    KEYS = 64,
    MIN_CHUNK = 128,
    MOST_CHUNKS = 64,
    SPLIT_ROWS = 16, /* steps of more rows fill the device without splitting */
    TILE_ROWS = 16,  /* of a warp */
};

/* As the kernel gets it. */
template <typename T> struct job {
    T *out;
    const T *qkv, *cache;
    float *partial;   /* [n_rows, n_heads, chunks of the grid, head_dim + 2]; NULL: not split */
    unsigned *n_done; /* blocks that have left their part; zeros between kernels */
    hw_heads heads;
    hw_rows rows;
    float scale;                   /* of scores, to base 2 */
    int window;                    /* of hw_attn */
    unsigned n_seen;               /* the keys that a row sees, at most */
    int block_tokens, block_shift; /* log2 of block_tokens, or -1 */
    int heads_per_tile, head_groups, tokens_per_tile;
};

/* What a block of threads works on. */
struct tile {
    int head, n_heads, kv_head; /* local */
    int first_row, n_tokens;
};

template <typename T> __device__ inline tile find_tile(const job<T> &j)
{
    tile w;
    int end;
    w.kv_head = (int)blockIdx.y / j.head_groups;
    hw_heads_of_kv(j.heads, w.kv_head, &w.head, &end);
    w.head += (int)blockIdx.y % j.head_groups * j.heads_per_tile;
    w.n_heads = end - w.head < j.heads_per_tile ? end - w.head : j.heads_per_tile;
    w.first_row = (int)(gridDim.x - 1 - blockIdx.x) * j.tokens_per_tile; /* the longest first */
    w.n_tokens = j.rows.n_rows - w.first_row;
    if (w.n_tokens > j.tokens_per_tile) w.n_tokens = j.tokens_per_tile;
    return w;
}

/* A power of two times MIN_CHUNK. */
__device__ inline int chunk_of(int n_keys)
{
    int chunk = MIN_CHUNK;
    while ((n_keys + chunk - 1) / chunk > MOST_CHUNKS) chunk *= 2;
    return chunk;
}

template <typename T, int D, int KEY_WARPS> struct attend {
    enum {
        ROW_WARPS = WARPS / KEY_WARPS,
        WARP_KEYS = KEYS / KEY_WARPS,
        KEY_TILES = WARP_KEYS / 8,
        D_TILES = D / 8,
        PITCH = D + 8, /* rows of shared memory begin in other banks */
    };

    const job<T> &j;
    tile w;
    T *keys, *values; /* shared [KEYS, PITCH] */
    int lane, row_warp, key_warp;
    const int32_t *table; /* of the sequence whose keys are read */
    uint32_t q[D / 16][4];
    float o[D_TILES][4];
    float max[2], sum[2]; /* of rows g and g + 8; sums of this lane's columns */
    int limit[2];         /* the last key that the row sees; -1: none */
    int first_seen;       /* the first key that one of the rows sees */

    __device__ attend(const job<T> &j_, tile w_, unsigned char *memory, int row_warp_, int key_warp_)
        : j(j_), w(w_), keys(reinterpret_cast<T *>(memory)), values(keys + KEYS * PITCH),
          lane((int)threadIdx.x % HW_WARP), row_warp(row_warp_), key_warp(key_warp_)
    {
    }

    __device__ int row_of(int half) const { return row_warp * TILE_ROWS + lane / 4 + 8 * half; }

    /* q of two neighbouring elements; zeros past the head's end and in rows that are not there. */
    __device__ uint32_t load_q(int half, int column) const
    {
        const int m = row_of(half), token = m / w.n_heads, dim = j.heads.head_dim;
        if (token >= w.n_tokens || column >= dim) return 0;
        const size_t width = ((size_t)j.heads.n_heads + 2 * (size_t)j.heads.n_kv_heads) * (size_t)dim;
        const T *from = j.qkv + (size_t)(w.first_row + token) * width +
                        (size_t)(w.head + m % w.n_heads) * (size_t)dim + column;
        return *reinterpret_cast<const uint32_t *>(from);
    }

    __device__ void begin()
    {
        const int t = lane % 4;
#pragma unroll
        for (int k = 0; k < D / 16; k++)
#pragma unroll
            for (int i = 0; i < 4; i++) q[k][i] = load_q(i % 2, 16 * k + 2 * t + i / 2 * 8);
#pragma unroll
        for (int n = 0; n < D_TILES; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) o[n][i] = 0;
        for (int h = 0; h < 2; h++) max[h] = -INFINITY, sum[h] = 0;
    }

    /* Keys, or values, first .. first + KEYS - 1 on their way into shared memory; zeros from `end` on. */
    __device__ void fetch(T *to, int is_value, int first, int end) const
    {
        const int dim = j.heads.head_dim;
        for (int i = (int)threadIdx.x; i < KEYS * D_TILES; i += BLOCK) {
            const int key = i / D_TILES, piece = i % D_TILES * 8, p = first + key;
            const bool wanted = p < end && piece < dim;
            const T *from = j.cache;
            if (wanted) {
                const int in_table = j.block_shift >= 0 ? p >> j.block_shift : p / j.block_tokens;
                const size_t plane =
                    ((size_t)table[in_table] * 2 + (size_t)is_value) * (size_t)j.heads.n_kv_heads +
                    (size_t)w.kv_head;
                const size_t slot = (size_t)(p - in_table * j.block_tokens);
                from += (plane * (size_t)j.block_tokens + slot) * (size_t)dim + (size_t)piece;
            }
            hw_copy_async(to + key * PITCH + piece, from, wanted);
        }
        hw_commit_copies();
    }

    __device__ void score(float (&s)[KEY_TILES][4]) const
    {
        const int m = lane / 8, r = lane % 8;
#pragma unroll
        for (int n = 0; n < KEY_TILES; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) s[n][i] = 0;
#pragma unroll
        for (int k = 0; k < D / 16; k++)
#pragma unroll
            for (int n = 0; n < KEY_TILES; n += 2) {
                const int key = key_warp * WARP_KEYS + (n + m / 2) * 8 + r;
                uint32_t b[4];
                hw_load_matrices<false>(b, keys + key * PITCH + 16 * k + m % 2 * 8);
                hw_mma(s[n], q[k], b[0], b[1], T{});
                hw_mma(s[n + 1], q[k], b[2], b[3], T{});
            }
    }

    /* Scores become weights; what was added before is multiplied down. */
    __device__ void soften(float (&s)[KEY_TILES][4], int first)
    {
        const int column = first + key_warp * WARP_KEYS + lane % 4 * 2;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float most = max[h];
#pragma unroll
            for (int n = 0; n < KEY_TILES; n++)
#pragma unroll
                for (int i = 2 * h; i < 2 * h + 2; i++) {
                    const int ago = limit[h] - (column + 8 * n + i % 2); /* below 0: later */
                    s[n][i] = static_cast<unsigned>(ago) < j.n_seen ? s[n][i] * j.scale : -INFINITY;
                    most = fmaxf(most, s[n][i]);
                }
            most = fmaxf(most, __shfl_xor_sync(HW_ALL_LANES, most, 1));
            most = fmaxf(most, __shfl_xor_sync(HW_ALL_LANES, most, 2));
            const float from = most == -INFINITY ? 0 : most, factor = exp2f(max[h] - from);
            max[h] = most;
            sum[h] *= factor;
#pragma unroll
            for (int n = 0; n < KEY_TILES; n++)
#pragma unroll
                for (int i = 2 * h; i < 2 * h + 2; i++) sum[h] += s[n][i] = exp2f(s[n][i] - from);
#pragma unroll
            for (int n = 0; n < D_TILES; n++) o[n][2 * h] *= factor, o[n][2 * h + 1] *= factor;
        }
    }

    __device__ void add_values(const float (&p)[KEY_TILES][4])
    {
        const int m = lane / 8, r = lane % 8;
#pragma unroll
        for (int k = 0; k < KEY_TILES / 2; k++) {
            const uint32_t a[4] = {hw_pair<T>(p[2 * k][0], p[2 * k][1]), hw_pair<T>(p[2 * k][2], p[2 * k][3]),
                                   hw_pair<T>(p[2 * k + 1][0], p[2 * k + 1][1]),
                                   hw_pair<T>(p[2 * k + 1][2], p[2 * k + 1][3])};
            const T *from = values + (key_warp * WARP_KEYS + 16 * k + m % 2 * 8 + r) * PITCH + m / 2 * 8;
#pragma unroll
            for (int n = 0; n < D_TILES; n += 2) {
                uint32_t b[4];
                hw_load_matrices<true>(b, from + n * 8);
                hw_mma(o[n], a, b[0], b[1], T{});
                hw_mma(o[n + 1], a, b[2], b[3], T{});
            }
        }
    }

    /* Keys begin .. end - 1 of one sequence. Values come while scores are computed, and the next keys while
     * values are added. All threads. */
    __device__ void walk(int begin, int end)
    {
        float s[KEY_TILES][4];
        fetch(keys, 0, begin, end);
        for (int first = begin; first < end; first += KEYS) {
            fetch(values, 1, first, end);
            hw_wait_copies<1>();
            __syncthreads();
            score(s);
            __syncthreads();
            fetch(keys, 0, first + KEYS, end);
            soften(s, first);
            hw_wait_copies<1>();
            __syncthreads();
            add_values(s);
            __syncthreads();
        }
        hw_wait_copies<0>(); /* the last keys are zeros that nobody wants, but they arrive */
        __syncthreads();
    }

    /* Rows of the step from..end - 1 have one sequence. Rows of others see nothing of it. What comes back is where the
     * keys that they see end. */
    __device__ int limit_rows(int from, int end)
    {
        int most = -1, least = INT_MAX;
        for (int r = from; r < end; r++) {
            most = j.rows.positions[r] > most ? j.rows.positions[r] : most;
            least = j.rows.positions[r] < least ? j.rows.positions[r] : least;
        }
        first_seen = hw_attn_first(j.window, least);
        for (int h = 0; h < 2; h++) {
            const int r = w.first_row + row_of(h) / w.n_heads;
            limit[h] = r >= from && r < end ? j.rows.positions[r] : -1;
        }
        table = j.rows.block_tables + (size_t)j.rows.seqs[from] * (size_t)j.rows.max_blocks;
        return most + 1;
    }

    __device__ void finish_sums()
    {
        for (int h = 0; h < 2; h++) {
            sum[h] += __shfl_xor_sync(HW_ALL_LANES, sum[h], 1);
            sum[h] += __shfl_xor_sync(HW_ALL_LANES, sum[h], 2);
        }
    }

    __device__ void write_rows() const
    {
        const int dim = j.heads.head_dim;
        for (int h = 0; h < 2; h++) {
            const int m = row_of(h), token = m / w.n_heads;
            if (token >= w.n_tokens) continue;
            T *to = j.out + ((size_t)(w.first_row + token) * (size_t)j.heads.n_heads +
                             (size_t)(w.head + m % w.n_heads)) *
                                (size_t)dim;
#pragma unroll
            for (int n = 0; n < D_TILES; n++) {
                const int column = 8 * n + lane % 4 * 2;
                if (column >= dim) break;
                hw_set(to + column, o[n][2 * h] / sum[h]);
                hw_set(to + column + 1, o[n][2 * h + 1] / sum[h]);
            }
        }
    }

    /* What the warps have, into shared memory: values [WARPS, TILE_ROWS, D], states [WARPS, TILE_ROWS, 2]. */
    __device__ void leave_for_merging(float *values_of, float *states) const
    {
        for (int h = 0; h < 2; h++) {
            const int at = key_warp * TILE_ROWS + row_of(h);
            if (lane % 4 == 0) states[2 * at] = max[h], states[2 * at + 1] = sum[h];
#pragma unroll
            for (int n = 0; n < D_TILES; n++)
                for (int i = 0; i < 2; i++) values_of[at * D + 8 * n + lane % 4 * 2 + i] = o[n][2 * h + i];
        }
    }
};

/* `n` results for the same row, in ascending order: values `stride` apart, with maximum and sum where
 * `state_of` says. What comes out is not yet divided by the sum. */
template <typename Value, typename State>
__device__ inline float merge(int n, Value value_of, State state_of, float *max, float *sum)
{
    float value = 0, most = -INFINITY, total = 0;
    for (int i = 0; i < n; i++) most = fmaxf(most, state_of(i)[0]);
    for (int i = 0; i < n; i++) {
        const float factor = most == -INFINITY ? 0 : exp2f(state_of(i)[0] - most);
        value += value_of(i) * factor;
        total += state_of(i)[1] * factor;
    }
    *max = most, *sum = total;
    return value;
}

/* Whether all `n` blocks that share `n_done` are done with this one; then what they wrote can be read. All
 * threads. */
__device__ inline bool is_last(unsigned *n_done, int n)
{
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(n_done, 1u) == (unsigned)n - 1;
        if (last) *n_done = 0;
    }
    __syncthreads();
    __threadfence();
    return last;
}

/* Tiles of many tokens. Grid: tile of tokens, group of heads. The registers are enough for so many blocks at
 * once; left to itself, the compiler aims at one more on sm_100, and spills. */
template <typename T, int D> __global__ void __launch_bounds__(BLOCK, D <= 64 ? 3 : 2) attend_tiles(job<T> j)
{
    HW_DYNAMIC_SHARED(memory);
    hw_begin();
    const tile w = find_tile(j);
    if (w.n_heads <= 0) return;
    attend<T, D, 1> a(j, w, memory, (int)threadIdx.x / HW_WARP, 0);
    a.begin();
    const int end = w.first_row + w.n_tokens;
    for (int first = w.first_row, next; first < end; first = next) {
        for (next = first + 1; next < end && j.rows.seqs[next] == j.rows.seqs[first];) next++;
        const int end_seen = a.limit_rows(first, next);
        a.walk(a.first_seen, end_seen);
    }
    a.finish_sums();
    a.write_rows();
}

/* One token. Grid: row, group of heads, chunk of keys. */
template <typename T, int D> __global__ void __launch_bounds__(BLOCK) attend_row(job<T> j)
{
    HW_DYNAMIC_SHARED(memory);
    hw_begin();
    const tile w = find_tile(j);
    if (w.n_heads <= 0) return;
    attend<T, D, WARPS> a(j, w, memory, 0, (int)threadIdx.x / HW_WARP);
    const int dim = j.heads.head_dim, end_seen = a.limit_rows(w.first_row, w.first_row + 1),
              n_keys = end_seen - a.first_seen;
    const int chunk = j.partial ? chunk_of(n_keys) : n_keys, n_chunks = (n_keys + chunk - 1) / chunk;
    const int begin = a.first_seen + (int)blockIdx.z * chunk,
              end = begin + chunk < end_seen ? begin + chunk : end_seen;
    if (begin >= end_seen) return;
    for (int h = 0; h < 2; h++) a.limit[h] = a.limit[h] < end ? a.limit[h] : end - 1;
    a.begin();
    a.walk(begin, end);
    a.finish_sums();

    float *of_warps = reinterpret_cast<float *>(memory), *states = of_warps + WARPS * TILE_ROWS * D;
    a.leave_for_merging(of_warps, states);
    __syncthreads();
    const size_t first_out = (size_t)w.first_row * (size_t)j.heads.n_heads + (size_t)w.head,
                 stride = (size_t)dim + 2;
    for (int i = (int)threadIdx.x; i < w.n_heads * dim; i += BLOCK) {
        const int h = i / dim, e = i % dim;
        float max, sum;
        const float value = merge(
            WARPS, [&](int k) { return of_warps[(k * TILE_ROWS + h) * D + e]; },
            [&](int k) { return states + 2 * (k * TILE_ROWS + h); }, &max, &sum);
        const size_t at = first_out + (size_t)h;
        float *to = j.partial ? j.partial + (at * gridDim.z + blockIdx.z) * stride : nullptr;
        if (!to) hw_set(j.out + at * (size_t)dim + e, value / sum);
        else to[e] = value;
        if (to && e == 0) to[dim] = max, to[dim + 1] = sum;
    }
    if (!j.partial || !is_last(&j.n_done[blockIdx.x * gridDim.y + blockIdx.y], n_chunks)) return;
    for (int i = (int)threadIdx.x; i < w.n_heads * dim; i += BLOCK) {
        const size_t at = first_out + (size_t)(i / dim);
        const float *from = j.partial + at * gridDim.z * stride;
        float max, sum;
        const float value = merge(
            n_chunks, [&](int k) { return from[(size_t)k * stride + (size_t)(i % dim)]; },
            [&](int k) { return from + (size_t)k * stride + (size_t)dim; }, &max, &sum);
        hw_set(j.out + at * (size_t)dim + i % dim, value / sum);
    }
}

/* Chunks of the longest row, at most. */
int most_chunks(int n_positions)
{
    return std::min((n_positions + MIN_CHUNK - 1) / MIN_CHUNK, (int)MOST_CHUNKS);
}

int log2_of(int n)
{
    int shift = 0;
    while (1 << shift < n) shift++;
    return 1 << shift == n ? shift : -1;
}

template <typename T, int D> hw_status launch(hw_cuda_device *c, job<T> j, void *scratch)
{
    const hw_rows *rows = &j.rows;
    const bool many = rows->n_rows >= 16 && rows->n_rows >= 4 * rows->n_seqs;
    const int tile_rows = many ? WARPS * TILE_ROWS : TILE_ROWS,
              n_chunks = most_chunks(rows->max_position + 1 - hw_attn_first(j.window, rows->max_position));
    j.heads_per_tile = std::min(j.heads.n_rep, tile_rows);
    j.head_groups = (j.heads.n_rep + j.heads_per_tile - 1) / j.heads_per_tile;
    j.tokens_per_tile = many ? tile_rows / j.heads_per_tile : 1;
    const unsigned tiles = hw_cuda_blocks((size_t)rows->n_rows, (size_t)j.tokens_per_tile),
                   groups = (unsigned)(j.heads.n_kv_heads * j.head_groups);
    const size_t shared = 2 * KEYS * (D + 8) * sizeof(T);
    if (many)
        return hw_cuda_launch(c, "attention", attend_tiles<T, D>, dim3(tiles, groups), BLOCK, shared, j);
    const bool split = rows->n_rows <= SPLIT_ROWS && n_chunks > 1 && tiles * groups <= HW_CUDA_MAX_COUNTERS;
    if (split) j.partial = (float *)scratch, j.n_done = c->counters;
    return hw_cuda_launch(c, "attention", attend_row<T, D>,
                          dim3(tiles, groups, split ? (unsigned)n_chunks : 1), BLOCK, shared, j);
}

template <typename T>
hw_status run(hw_cuda_device *c, void *out, const void *qkv, hw_heads heads, const hw_attn *attn,
              const hw_rows *rows, hw_kv_layer kv, void *scratch)
{
    job<T> j = {};
    j.out = (T *)out, j.qkv = (const T *)qkv, j.cache = (const T *)kv.data, j.heads = heads, j.rows = *rows;
    j.scale = attn->scale * 1.4426950408889634f; /* 1 / ln 2 */
    j.window = attn->window;
    j.n_seen = attn->window ? (unsigned)attn->window : (unsigned)INT_MAX + 1;
    j.block_tokens = kv.block_tokens, j.block_shift = log2_of(kv.block_tokens);
    return heads.head_dim <= 64 ? launch<T, 64>(c, j, scratch) : launch<T, 128>(c, j, scratch);
}

} // namespace

bool hw_cuda_attention_has_tiles(const hw_cuda_device *c, hw_heads heads, hw_dtype kv_type)
{
    return kv_type != HW_F32 && kv_type == c->base.device.act && heads.head_dim % 8 == 0 &&
           heads.head_dim <= 128 && !c->plain;
}

hw_status hw_cuda_attention_tiles(hw_cuda_device *c, void *out, const void *qkv, hw_heads heads,
                                  const hw_attn *attn, const hw_rows *rows, hw_kv_layer kv, void *scratch)
{
    return kv.dtype == HW_F16 ? run<hw_f16>(c, out, qkv, heads, attn, rows, kv, scratch)
                              : run<hw_bf16>(c, out, qkv, heads, attn, rows, kv, scratch);
}

size_t hw_cuda_attention_tiles_scratch(hw_heads heads, int max_rows, int max_positions)
{
    const size_t factors[] = {(size_t)std::min(max_rows, (int)SPLIT_ROWS), (size_t)heads.n_heads,
                              (size_t)most_chunks(max_positions), (size_t)heads.head_dim + 2, sizeof(float)};
    return hw_size_product(factors, sizeof factors / sizeof *factors);
}
