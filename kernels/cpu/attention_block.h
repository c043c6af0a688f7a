/* Attention of a few query heads on one block of keys: scores, softmax, weighted values.  Keys and values are
 * widened to float32 into a slab of the first-level cache, keys turned so that the lanes of a score are keys;
 * then both products are tiles of queries by lanes. What the widening costs is shared by all queries of a KV
 * head, and it reads the cache from memory once.  The order of additions, the same for one query as for many:
 * a score adds over head_dim in ascending order, a value over keys in ascending order, each as one chain of
 * fused multiply-adds that begins at zero. */
#ifndef HW_KERNELS_CPU_ATTENTION_BLOCK_H
#define HW_KERNELS_CPU_ATTENTION_BLOCK_H

#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vmath.h"

enum {
    HW_ATTN_QUERIES = 96, /* query heads that share a slab, at most */
    HW_ATTN_SLAB = 64,    /* elements of head_dim that a slab holds */
    HW_ATTN_LANES = HW_ATTN_BLOCK / HW_LANES
};

/* A query that has at least one key in this block. */
typedef struct hw_attn_query {
    const float *q;         /* [head_dim] */
    float *to;              /* [head_dim]: where its value goes */
    size_t at;              /* whose it is: the caller's */
    int first_key, end_key; /* the keys of the block that it sees: at least one */
    bool merge;             /* to = to * keep + value * add; otherwise the value is stored as it is */
} hw_attn_query;

/* Where the keys and values of a block lie: [head_dim] each, of the cache's type. */
typedef struct hw_attn_rows {
    const char *keys[HW_ATTN_BLOCK], *values[HW_ATTN_BLOCK];
    int n_keys;
} hw_attn_rows;

typedef struct hw_attn_block {
    hw_dtype dtype;
    float scale;
    const hw_attn_rows *rows;
    const hw_attn_rows *next; /* the block that follows, to be asked for early; NULL: none */
    int n_queries;
    hw_attn_query query[HW_ATTN_QUERIES];
    float m[HW_ATTN_QUERIES], l[HW_ATTN_QUERIES]; /* maximum, and sum of exp(score - m) */
    float keep[HW_ATTN_QUERIES], add[HW_ATTN_QUERIES];
    _Alignas(64) float p[HW_ATTN_QUERIES][HW_ATTN_BLOCK]; /* scores, then exp(score - m) */
    _Alignas(64) float slab[HW_ATTN_SLAB * HW_ATTN_BLOCK];
} hw_attn_block;

HW_INLINE void hw_attn_prefetch_rows(const char *const rows[], int n_rows, size_t offset, size_t n_bytes)
{
    for (int k = 0; k < n_rows; k++)
        for (size_t at = 0; at < n_bytes; at += HW_LINE_BYTES)
            __builtin_prefetch(rows[k] + offset + at, 0, 3);
}

/* Sixteen keys, or the last few and repetitions of one: elements [first, first + n) as columns of `slab`.
 * Pairs of bfloat16 are turned as they are and widened afterwards, which halves the work. */
HW_INLINE void hw_attn_turn_16(float *slab, const char *const keys[HW_LANES], int first, int n,
                               hw_dtype dtype)
{
    const size_t size = dtype == HW_F32 ? 4 : 2;
    int i = 0;
    v16 row[HW_LANES];
    for (; dtype == HW_BF16 && i + 2 * HW_LANES <= n; i += 2 * HW_LANES) {
        for (int k = 0; k < HW_LANES; k++)
            row[k] = v16_load((const float *)(const void *)(keys[k] + (size_t)(first + i) * size));
        v16_turn(row);
        for (int k = 0; k < HW_LANES; k++) {
            v16_store(slab + (i + 2 * k) * HW_ATTN_BLOCK, v16_bf16_even(row[k]));
            v16_store(slab + (i + 2 * k + 1) * HW_ATTN_BLOCK, v16_bf16_odd(row[k]));
        }
    }
    for (; i < n; i += HW_LANES) {
        int lanes = n - i < HW_LANES ? n - i : HW_LANES;
        for (int k = 0; k < HW_LANES; k++)
            row[k] = v16_load_as(dtype, keys[k] + (size_t)(first + i) * size, lanes);
        v16_turn(row);
        for (int k = 0; k < HW_LANES; k++) v16_store(slab + (i + k) * HW_ATTN_BLOCK, row[k]);
    }
}

/* Elements [first, first + n) of all keys: slab [n, HW_ATTN_BLOCK]. Lanes of absent keys hold anything. */
HW_INLINE void hw_attn_turn_keys(hw_attn_block *b, int first, int n, hw_dtype dtype)
{
    const hw_attn_rows *rows = b->rows, *next = b->next;
    const size_t size = dtype == HW_F32 ? 4 : 2;
    for (int j = 0; j < rows->n_keys; j += HW_LANES) {
        const char *keys[HW_LANES];
        for (int k = 0; k < HW_LANES; k++) keys[k] = rows->keys[j + k < rows->n_keys ? j + k : j];
        if (next && j + HW_LANES <= next->n_keys)
            hw_attn_prefetch_rows(next->keys + j, HW_LANES, (size_t)first * size, (size_t)n * size);
        hw_attn_turn_16(b->slab + j, keys, first, n, dtype);
    }
}

/* Elements [first, first + n) of all values: slab [n_keys, HW_ATTN_SLAB]. */
HW_INLINE void hw_attn_widen_values(hw_attn_block *b, int first, int n, hw_dtype dtype)
{
    const hw_attn_rows *rows = b->rows, *next = b->next;
    const size_t size = dtype == HW_F32 ? 4 : 2;
    for (int j = 0; j < rows->n_keys; j++) {
        const char *row = rows->values[j] + (size_t)first * size;
        float *slab = b->slab + j * HW_ATTN_SLAB;
        if (next && j < next->n_keys)
            hw_attn_prefetch_rows(next->values + j, 1, (size_t)first * size, (size_t)n * size);
        for (int i = 0; i < n; i += HW_LANES)
            v16_store(slab + i,
                      v16_load_as(dtype, row + (size_t)i * size, n - i < HW_LANES ? n - i : HW_LANES));
    }
}

/* `dtype` is a constant at each call, and so is `n` where it is a whole slab. */
HW_INLINE void hw_attn_fill_slab_of(hw_attn_block *b, bool keys, int first, int n, hw_dtype dtype)
{
    if (keys && n == HW_ATTN_SLAB) hw_attn_turn_keys(b, first, HW_ATTN_SLAB, dtype);
    else if (keys) hw_attn_turn_keys(b, first, n, dtype);
    else if (n == HW_ATTN_SLAB) hw_attn_widen_values(b, first, HW_ATTN_SLAB, dtype);
    else hw_attn_widen_values(b, first, n, dtype);
}

static void hw_attn_fill_slab(hw_attn_block *b, bool keys, int first, int n)
{
    if (b->dtype == HW_BF16) hw_attn_fill_slab_of(b, keys, first, n, HW_BF16);
    else if (b->dtype == HW_F16) hw_attn_fill_slab_of(b, keys, first, n, HW_F16);
    else hw_attn_fill_slab_of(b, keys, first, n, HW_F32);
}

/* p += q . k over elements [first, first + n), for `n_q` queries and all lanes. `n_q` is a constant at each
 * call. */
HW_INLINE void hw_attn_score_tile(hw_attn_block *b, int query, int first, int n, int n_q)
{
    const float *q[HW_ATTN_TILE];
    for (int r = 0; r < n_q; r++) q[r] = b->query[query + r].q + first;
    for (int lane = 0; lane < HW_ATTN_LANES; lane += HW_ATTN_TILE_LANES) {
        const float *slab = b->slab + lane * HW_LANES;
        v16 sum[HW_ATTN_TILE][HW_ATTN_TILE_LANES];
        for (int r = 0; r < n_q; r++)
            for (int c = 0; c < HW_ATTN_TILE_LANES; c++)
                sum[r][c] = first ? v16_load(b->p[query + r] + (lane + c) * HW_LANES) : v16_zero();
        for (int i = 0; i < n; i++) {
            v16 key[HW_ATTN_TILE_LANES];
            for (int c = 0; c < HW_ATTN_TILE_LANES; c++)
                key[c] = v16_load(slab + i * HW_ATTN_BLOCK + c * HW_LANES);
            for (int r = 0; r < n_q; r++) {
                v16 x = v16_set1(q[r][i]);
                for (int c = 0; c < HW_ATTN_TILE_LANES; c++) sum[r][c] = v16_fma(x, key[c], sum[r][c]);
            }
        }
        for (int r = 0; r < n_q; r++)
            for (int c = 0; c < HW_ATTN_TILE_LANES; c++)
                v16_store(b->p[query + r] + (lane + c) * HW_LANES, sum[r][c]);
    }
}

/* Lanes of the scores [HW_ATTN_LANES] before key `n` become what keys that are not seen count as. */
HW_INLINE void hw_attn_hide_first(v16 *scores, int n)
{
    _Alignas(64) float lanes[HW_ATTN_BLOCK];
    for (int c = 0; c < HW_ATTN_LANES; c++) v16_store(lanes + c * HW_LANES, scores[c]);
    for (int k = 0; k < n; k++) lanes[k] = -INFINITY;
    for (int c = 0; c < HW_ATTN_LANES; c++) scores[c] = v16_load(lanes + c * HW_LANES);
}

/* From lane HW_LANES - n on: n zeros, then what keys that are not seen count as. */
static const float hw_attn_unseen[2 * HW_LANES] = {[HW_LANES... 2 * HW_LANES - 1] = -INFINITY};

/* Scores to m, exp(score - m) and l. Keys that a query does not see count as minus infinity, hence as exactly
 * 0. */
static void hw_attn_softmax(hw_attn_block *b, int query)
{
    float *p = b->p[query];
    v16 e[HW_ATTN_LANES];
    for (int c = 0; c < HW_ATTN_LANES; c++) e[c] = v16_mul(v16_set1(b->scale), v16_load(p + c * HW_LANES));
    const int end = b->query[query].end_key;
    for (int c = 0; c < HW_ATTN_LANES && end < HW_ATTN_BLOCK; c++) {
        const int left = end - c * HW_LANES, n = left < 0 ? 0 : left < HW_LANES ? left : HW_LANES;
        e[c] = v16_add(v16_keep_n(e[c], n), v16_load(hw_attn_unseen + HW_LANES - n));
    }
    if (b->query[query].first_key) hw_attn_hide_first(e, b->query[query].first_key);
    v16 max = e[0], sum = v16_zero();
    for (int c = 1; c < HW_ATTN_LANES; c++) max = v16_max(max, e[c]);
    b->m[query] = v16_max_lane(max);
    for (int c = 0; c < HW_ATTN_LANES; c++) {
        e[c] = v16_exp(v16_sub(e[c], v16_set1(b->m[query])));
        v16_store(p + c * HW_LANES, e[c]);
        sum = v16_add(sum, e[c]);
    }
    b->l[query] = v16_sum(sum);
}

HW_INLINE v16 hw_attn_merge(v16 a, float keep, v16 value, float add)
{
    return v16_fma(value, v16_set1(add), v16_mul(a, v16_set1(keep)));
}

/* M' = max(M, m); both sides are scaled down to it. For `n` queries.
 *   M, L, m, l, keep, add [n] */
static void hw_attn_merge_scales(float *M, float *L, const float *m, const float *l, float *keep, float *add,
                                 int n)
{
    for (int i = 0; i < n; i += HW_LANES) {
        int lanes = n - i < HW_LANES ? n - i : HW_LANES;
        v16 old = v16_load_n(M + i, lanes), new = v16_load_n(m + i, lanes), max = v16_max(old, new);
        v16 old_scale = v16_exp(v16_sub(old, max)), new_scale = v16_exp(v16_sub(new, max));
        v16 sum = v16_mul(v16_load_n(L + i, lanes), old_scale);
        v16_store_n(keep + i, old_scale, lanes), v16_store_n(add + i, new_scale, lanes);
        v16_store_n(M + i, max, lanes);
        v16_store_n(L + i, v16_fma(v16_load_n(l + i, lanes), new_scale, sum), lanes);
    }
}

/* The values of keys [begin, end) by one query's weights. */
HW_INLINE void hw_attn_add_values(v16 *sum, const float *p, const float *slab, int begin, int end)
{
    for (int j = begin; j < end; j++)
        for (int c = 0; c < HW_ATTN_TILE_LANES; c++)
            sum[c] = v16_fma(v16_set1(p[j]), v16_load(slab + j * HW_ATTN_SLAB + c * HW_LANES), sum[c]);
}

/* Elements [first, first + n) of the values of `n_q` queries, and straight into their place. `n_q` is a
 * constant at each call. Keys that all of them see are weighed together, the few before and behind that some see one
 * query at a time: what a query does not see may be anything, and 0 times anything is not always 0. */
HW_INLINE void hw_attn_value_tile(hw_attn_block *b, int query, int first, int n, int n_q)
{
    const hw_attn_query *q = &b->query[query];
    int begin = q[0].first_key, end = q[0].end_key; /* what all of them see, unless begin >= end */
    for (int r = 1; r < n_q; r++) {
        begin = q[r].first_key > begin ? q[r].first_key : begin;
        end = q[r].end_key < end ? q[r].end_key : end;
    }
    for (int at = 0; at < n; at += HW_ATTN_TILE_LANES * HW_LANES) {
        const float *slab = b->slab + at;
        v16 sum[HW_ATTN_TILE][HW_ATTN_TILE_LANES];
        for (int r = 0; r < n_q; r++)
            for (int c = 0; c < HW_ATTN_TILE_LANES; c++) sum[r][c] = v16_zero();
        for (int r = 0; r < n_q; r++)
            hw_attn_add_values(sum[r], b->p[query + r], slab, q[r].first_key,
                               begin < q[r].end_key ? begin : q[r].end_key);
        for (int j = begin; j < end; j++) {
            v16 value[HW_ATTN_TILE_LANES];
            for (int c = 0; c < HW_ATTN_TILE_LANES; c++)
                value[c] = v16_load(slab + j * HW_ATTN_SLAB + c * HW_LANES);
            for (int r = 0; r < n_q; r++) {
                v16 weight = v16_set1(b->p[query + r][j]);
                for (int c = 0; c < HW_ATTN_TILE_LANES; c++) sum[r][c] = v16_fma(weight, value[c], sum[r][c]);
            }
        }
        for (int r = 0; r < n_q; r++) {
            hw_attn_add_values(sum[r], b->p[query + r], slab, begin > end ? begin : end, q[r].end_key);
            for (int c = 0; c < HW_ATTN_TILE_LANES && at + c * HW_LANES < n; c++) {
                int i = at + c * HW_LANES, lanes = n - i < HW_LANES ? n - i : HW_LANES;
                float *to = q[r].to + first + i;
                v16 a = sum[r][c];
                if (q[r].merge)
                    a = hw_attn_merge(v16_load_n(to, lanes), b->keep[query + r], a, b->add[query + r]);
                v16_store_n(to, a, lanes);
            }
        }
    }
}

#define HW_ATTN_CASE(tile, r)                                                                                \
    case r:                                                                                                  \
        tile(b, query, first, n, r);                                                                         \
        break
#if HW_ATTN_TILE > 3
#define HW_ATTN_CASES(tile)                                                                                  \
    HW_ATTN_CASE(tile, 1);                                                                                   \
    HW_ATTN_CASE(tile, 2);                                                                                   \
    HW_ATTN_CASE(tile, 3);                                                                                   \
    HW_ATTN_CASE(tile, 4);                                                                                   \
    HW_ATTN_CASE(tile, 5);                                                                                   \
    HW_ATTN_CASE(tile, 6)
#else
#define HW_ATTN_CASES(tile)                                                                                  \
    HW_ATTN_CASE(tile, 1);                                                                                   \
    HW_ATTN_CASE(tile, 2);                                                                                   \
    HW_ATTN_CASE(tile, 3)
#endif

/* All queries, in tiles of nearly equal size. */
static void hw_attn_scores(hw_attn_block *b, int first, int n)
{
    int n_tiles = (b->n_queries + HW_ATTN_TILE - 1) / HW_ATTN_TILE;
    for (int t = 0; t < n_tiles; t++) {
        int query = b->n_queries * t / n_tiles;
        switch (b->n_queries * (t + 1) / n_tiles - query) {
            HW_ATTN_CASES(hw_attn_score_tile);
        }
    }
}

static void hw_attn_values(hw_attn_block *b, int first, int n)
{
    int n_tiles = (b->n_queries + HW_ATTN_TILE - 1) / HW_ATTN_TILE;
    for (int t = 0; t < n_tiles; t++) {
        int query = b->n_queries * t / n_tiles;
        switch (b->n_queries * (t + 1) / n_tiles - query) {
            HW_ATTN_CASES(hw_attn_value_tile);
        }
    }
}

#undef HW_ATTN_CASE
#undef HW_ATTN_CASES

#endif
