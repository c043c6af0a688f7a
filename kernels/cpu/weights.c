#include <stdlib.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tile_product.h"
#include "runtime/base/checked.h"

/* Makes *room at least so large. It is mapped, but not used before rows are multiplied. */
static hw_status reserve(void **room, size_t *have, size_t n_bytes, hw_error *err)
{
    if (n_bytes <= *have) return HW_OK;
    hw_host_free(*room);
    *room = hw_host_alloc(n_bytes);
    *have = *room ? n_bytes : 0;
    if (*room) return HW_OK;
    return hw_fail(err, HW_ERR_NO_MEMORY, "device: no memory for %zu bytes of terms and sums", n_bytes);
}

/* Room for the terms of this weight's inputs, and for what tiles leave in memory. */
static hw_status reserve_terms(hw_device *d, const hw_weight *w, hw_error *err)
{
    enum {
        TILE_BYTES = HW_TERM_TILE_ROWS * 3 * 2,
        FMA_BYTES = HW_TERM_ROWS * 3 * 4,
        FEW_BYTES = HW_TILE_FEW_ROWS * 3 * 2
    };
    hw_cpu_device *cpu = hw_cpu(d);
    if (d->matmul == HW_MATMUL_FLOAT32 || w->dims.format.type != HW_BF16) return HW_OK;
    const bool tiles = cpu->units && cpu->units->multiply;
    const size_t row_bytes = tiles ? FEW_BYTES : TILE_BYTES > FMA_BYTES ? TILE_BYTES : FMA_BYTES;
    hw_status st = reserve(&cpu->terms, &cpu->n_terms_bytes, HW_SIZE(w->n_blocks, HW_BLOCK, row_bytes), err);
    if (st || !tiles) return st;
    return reserve(&cpu->tile_room, &cpu->n_tile_room_bytes, HW_SIZE((size_t)d->n_threads, HW_TILE_ROOM),
                   err);
}

hw_status hw_cpu_weight_create(hw_device *d, hw_weight **out, const hw_weight_dims *dims, hw_error *err)
{
    *out = NULL;
    hw_status st = hw_weight_dims_check(dims, err);
    if (st) return st;
    hw_weight *w = calloc(1, sizeof *w);
    if (!w) return hw_fail(err, HW_ERR_NO_MEMORY, "weight: no memory for %zu bytes", sizeof *w);
    w->dims = *dims;
    w->block_bytes = HW_GROUP * HW_BLOCK * hw_dtype_size(dims->format.type);
    w->n_groups = dims->n_out / HW_GROUP + (dims->n_out % HW_GROUP != 0);
    for (int c = 0; c < HW_N_CUTS; c++) {
        size_t n = dims->cuts[c + 1] - dims->cuts[c];
        w->first_block[c + 1] = w->first_block[c] + n / HW_BLOCK + (n % HW_BLOCK != 0);
    }
    w->n_blocks = w->first_block[HW_N_CUTS];
    if ((st = reserve_terms(d, w, err))) {
        free(w);
        return st;
    }
    size_t n_bytes = HW_SIZE(w->n_groups, w->n_blocks, w->block_bytes);
    if (n_bytes && !(w->data = hw_host_alloc(n_bytes))) {
        st = hw_fail(err, HW_ERR_NO_MEMORY, "weight [%zu, %zu] of %s: no memory for %zu bytes", dims->n_out,
                     dims->n_in, hw_dtype_name(dims->format.type), n_bytes);
        hw_cpu_weight_destroy(d, w);
        return st;
    }
    *out = w;
    return HW_OK;
}

void hw_cpu_weight_destroy(hw_device *d, hw_weight *w)
{
    (void)d;
    if (!w) return;
    hw_host_free(w->data);
    free(w);
}

size_t hw_cpu_weight_bytes(const hw_weight *w) { return w->n_groups * w->n_blocks * w->block_bytes; }
const hw_weight_dims *hw_cpu_weight_dims(const hw_weight *w) { return &w->dims; }

/* ---- put */

/* Where a piece meets one block: outputs [o, o + n_out) of a group, inputs [k, k + n_in) of a block. `src` is
 * the first number. */
typedef struct meeting {
    const hw_weight_piece *piece;
    const char *src;
    char *block;
    size_t o, n_out, k, n_in;
} meeting;

/* The numbers of a meeting, row by row, as they lie in the source: 16 x 32 of `size` bytes. `size` is a
 * constant at each call. */
static inline __attribute__((always_inline)) void collect(void *tile, const meeting *m, size_t size)
{
    size_t stride_out = m->piece->stride_out * size, stride_in = m->piece->stride_in * size;
    if (stride_in == size) {
        for (size_t o = 0; o < m->n_out; o++)
            memcpy((char *)tile + o * HW_BLOCK * size, m->src + o * stride_out, m->n_in * size);
        return;
    }
    for (size_t k = 0; k < m->n_in; k++) /* transposed matrices have neighbours along o */
        for (size_t o = 0; o < m->n_out; o++)
            memcpy((char *)tile + (o * HW_BLOCK + k) * size, m->src + o * stride_out + k * stride_in, size);
}

/* Any type to any type, for a tile in cache: by way of float32, which holds all of them. */
static void convert_tile(void *to, hw_dtype to_type, const void *from, hw_dtype from_type)
{
    enum { N = HW_GROUP * HW_BLOCK };
    float wide[N];
    const float *f = wide;
    const uint16_t *half = from;
    if (from_type == HW_F32) f = from;
    else if (from_type == HW_BF16)
        for (int i = 0; i < N; i++) wide[i] = hw_bf16_to_f32(half[i]);
    else
        for (int i = 0; i < N; i++) wide[i] = hw_f16_to_f32(half[i]);
    uint16_t *narrow = to;
    if (to_type == HW_F32) memcpy(to, f, N * sizeof *f);
    else if (to_type == HW_BF16)
        for (int i = 0; i < N; i++) narrow[i] = hw_f32_to_bf16(f[i]);
    else
        for (int i = 0; i < N; i++) narrow[i] = hw_f32_to_f16(f[i]);
}

typedef uint32_t quad __attribute__((vector_size(16)));

typedef uint16_t halves __attribute__((vector_size(16)));

/* Four rows of four 4-byte things, turned into four columns. */
static inline void turn_quads(quad column[4], const char *from, size_t stride)
{
    quad row[4];
    for (size_t i = 0; i < 4; i++) memcpy(&row[i], from + i * stride, sizeof row[i]);
    quad a = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
    quad b = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
    quad c = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
    quad d = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
    column[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5);
    column[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
    column[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5);
    column[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
}

/* Four outputs of a line: pairs as they are, or first the even inputs of all 16 outputs and then the odd
 * ones. */
static inline void put_column(char *line, size_t o, quad column, bool pairs)
{
    if (pairs) {
        memcpy(line + o * 4, &column, sizeof column);
        return;
    }
    halves h = (halves)column;
    h = __builtin_shufflevector(h, h, 0, 2, 4, 6, 1, 3, 5, 7);
    memcpy(line + o * 2, &h, sizeof h / 2);
    memcpy(line + HW_GROUP * 2 + o * 2, (const char *)&h + sizeof h / 2, sizeof h / 2);
}

/* A whole block of the weight's own type, unit stride: a transposition of 16 rows of 4-byte things (a
 * float32, or a pair). It goes a cache line of each row at a time, since 16 rows that lie a power of two
 * apart do not fit a cache set together. */
static inline __attribute__((always_inline)) void put_whole(const meeting *m, size_t row_bytes, bool pairs)
{
    size_t stride = m->piece->stride_out * hw_dtype_size(m->piece->dtype);
    for (size_t part = 0; part < row_bytes; part += 64)
        for (size_t o = 0; o < HW_GROUP; o += 4)
            for (size_t at = part; at < part + 64; at += 16) {
                quad column[4];
                turn_quads(column, m->src + o * stride + at, stride);
                for (size_t i = 0; i < 4; i++) put_column(m->block + (at / 4 + i) * 64, o, column[i], pairs);
            }
}

static void put_meeting(const hw_weight *w, const meeting *m)
{
    hw_dtype type = w->dims.format.type;
    bool whole = m->n_out == HW_GROUP && m->n_in == HW_BLOCK;
    if (whole && m->piece->dtype == type && m->piece->stride_in == 1) {
        if (type == HW_F16) put_whole(m, HW_BLOCK * 2, false);
        else put_whole(m, HW_BLOCK * hw_dtype_size(type), true);
        return;
    }
    _Alignas(64) uint32_t raw[HW_GROUP * HW_BLOCK] = {0}, converted[HW_GROUP * HW_BLOCK];
    if (m->piece->dtype == HW_F32) collect(raw, m, 4);
    else collect(raw, m, 2);
    const char *tile = (const char *)raw;
    if (m->piece->dtype != type) {
        convert_tile(converted, type, raw, m->piece->dtype);
        tile = (const char *)converted;
    }
    for (size_t o = 0; o < m->n_out; o++)
        for (size_t k = 0; k < m->n_in; k++) {
            size_t to = hw_weight_offset(type, m->o + o, m->k + k);
            if (type == HW_F32) memcpy(m->block + to, tile + (o * HW_BLOCK + k) * 4, 4);
            else memcpy(m->block + to, tile + (o * HW_BLOCK + k) * 2, 2);
        }
}

typedef struct put_job {
    const hw_weight *w;
    const hw_weight_piece *piece;
} put_job;

/* The part of a piece that falls into one group of outputs. */
static void put_group(const hw_weight *w, const hw_weight_piece *p, size_t group)
{
    size_t first = group * HW_GROUP, end = first + HW_GROUP, size = hw_dtype_size(p->dtype);
    if (first < p->first_out) first = p->first_out;
    if (end > p->first_out + p->n_out) end = p->first_out + p->n_out;
    meeting m = {.piece = p, .o = first % HW_GROUP, .n_out = end - first};
    size_t in_end = p->first_in + p->n_in;
    for (int c = 0; c < HW_N_CUTS; c++) {
        size_t cut = w->dims.cuts[c], cut_end = w->dims.cuts[c + 1];
        size_t i = cut > p->first_in ? cut : p->first_in;
        if (cut_end > in_end) cut_end = in_end;
        for (; i < cut_end; i += m.n_in) {
            m.k = (i - cut) % HW_BLOCK;
            m.n_in = cut_end - i < HW_BLOCK - m.k ? cut_end - i : HW_BLOCK - m.k;
            m.block = hw_weight_block(w, group, w->first_block[c] + (i - cut) / HW_BLOCK);
            m.src = (const char *)p->src +
                    ((first - p->first_out) * p->stride_out + (i - p->first_in) * p->stride_in) * size;
            put_meeting(w, &m);
        }
    }
}

static void put_groups(void *arg, size_t begin, size_t end)
{
    const put_job *job = arg;
    size_t first_group = job->piece->first_out / HW_GROUP;
    for (size_t i = begin; i < end; i++) put_group(job->w, job->piece, first_group + i);
}

hw_status hw_cpu_weight_put(hw_device *d, hw_weight *w, const hw_weight_piece *piece, hw_error *err)
{
    hw_status st = hw_weight_piece_check(&w->dims, piece, err);
    if (st || !piece->n_out || !piece->n_in) return st;
    put_job job = {w, piece};
    size_t first = piece->first_out / HW_GROUP, last = (piece->first_out + piece->n_out - 1) / HW_GROUP;
    hw_pool_for(hw_cpu_pool(d), last - first + 1, 1, put_groups, &job);
    return HW_OK;
}

/* ---- gather */

typedef struct gather_job {
    float *out;
    const hw_weight *table;
    const int32_t *ids;
    int first_id;
    bool accumulate;
} gather_job;

/* Inputs of one cut of one row; every line gives two numbers, so this is a walk through memory in steps of 64
 * bytes. */
static void gather_cut(float *out, const hw_weight *w, size_t row, int cut, bool accumulate)
{
    size_t n = w->dims.cuts[cut + 1] - w->dims.cuts[cut];
    hw_dtype type = w->dims.format.type;
    for (size_t i = 0; i < n; i++) {
        const char *from = hw_weight_block(w, row / HW_GROUP, w->first_block[cut] + i / HW_BLOCK) +
                           hw_weight_offset(type, row % HW_GROUP, i % HW_BLOCK);
        float value;
        uint16_t half = 0;
        if (type == HW_F32) memcpy(&value, from, sizeof value);
        else {
            memcpy(&half, from, sizeof half);
            value = type == HW_BF16 ? hw_bf16_to_f32(half) : hw_f16_to_f32(half);
        }
        out[i] = (accumulate ? out[i] : 0.0f) + value; /* 0 + -0 is +0 */
    }
}

static void gather_rows(void *arg, size_t begin, size_t end)
{
    const gather_job *job = arg;
    const hw_weight_dims *dims = &job->table->dims;
    for (size_t r = begin; r < end; r++) {
        float *out = job->out + r * dims->n_in;
        int64_t row = (int64_t)job->ids[r] - job->first_id;
        if (row >= 0 && row < (int64_t)dims->n_out)
            for (int c = 0; c < HW_N_CUTS; c++)
                gather_cut(out + dims->cuts[c], job->table, (size_t)row, c, job->accumulate);
        else
            for (size_t i = 0; i < dims->n_in; i++) out[i] = (job->accumulate ? out[i] : 0.0f) + 0.0f;
    }
}

hw_status hw_cpu_gather(hw_device *d, void *out, const hw_weight *table, const int32_t *ids, int n,
                        int first_id, bool accumulate)
{
    gather_job job = {out, table, ids, first_id, accumulate};
    hw_pool_for(hw_cpu_pool(d), (size_t)n, 4, gather_rows, &job);
    return HW_OK;
}
