#include "tests/kernels/mirror.h"

#include <stdio.h>
#include <stdlib.h>

#include "kernels/device.h"

typedef struct mirror {
    hw_device_base base;
    hw_device *inner;
} mirror;

enum { MAX_COPIES = 12 };

/* One op on its way to the device and back. */
typedef struct trip {
    hw_device *d; /* the inner one */
    hw_status st;
    int n;
    struct {
        void *host, *device;
        size_t n_bytes;
        bool back;
    } copies[MAX_COPIES];
} trip;

static hw_device *inner_of(const hw_device *d) { return ((const mirror *)(const void *)d)->inner; }
static trip begin(hw_device *d) { return (trip){.d = inner_of(d)}; }

/* What the op writes goes there too, so that places it should have written and did not keep what the test
 * put there. */
static void *carry(trip *t, const void *host, size_t n_bytes, bool back)
{
    void *device = NULL;
    if (!host) return NULL;
    if (!t->st) t->st = t->d->k->alloc(t->d, &device, n_bytes, NULL);
    if (!t->st) t->st = t->d->k->copy_in(t->d, device, host, n_bytes);
    t->copies[t->n].host = (void *)(uintptr_t)host; /* written only where `back` says so */
    t->copies[t->n].device = device;
    t->copies[t->n].n_bytes = n_bytes;
    t->copies[t->n++].back = back;
    return device;
}
static void *there(trip *t, const void *host, size_t n_bytes) { return carry(t, host, n_bytes, false); }
static void *both(trip *t, void *host, size_t n_bytes) { return carry(t, host, n_bytes, true); }
static void *floats(trip *t, const void *host, size_t n) { return there(t, host, n * sizeof(float)); }

static hw_status end(trip *t, hw_status st)
{
    hw_error err = {.rank = -1};
    for (int i = 0; i < t->n && !st && !t->st; i++)
        if (t->copies[i].back)
            st = t->d->k->copy_out(t->d, t->copies[i].host, t->copies[i].device, t->copies[i].n_bytes);
    hw_status told = t->d->k->synchronize(t->d, &err);
    if (told) fprintf(stderr, "%s\n", err.message);
    for (int i = 0; i < t->n; i++) t->d->k->free(t->d, t->copies[i].device);
    return st ? st : t->st ? t->st : told;
}

#define RUN(t, op, ...) end(&(t), (t).st ? (t).st : (t).d->k->op((t).d, __VA_ARGS__))

/* ---- weights live on the inner device */

static hw_status weight_create(hw_device *d, hw_weight **out, const hw_weight_dims *dims, hw_error *err)
{
    hw_device *inner = inner_of(d);
    return inner->k->weight_create(inner, out, dims, err);
}
static hw_status weight_put(hw_device *d, hw_weight *w, const hw_weight_piece *piece, hw_error *err)
{
    hw_device *inner = inner_of(d);
    return inner->k->weight_put(inner, w, piece, err);
}
static void weight_destroy(hw_device *d, hw_weight *w)
{
    hw_device *inner = inner_of(d);
    inner->k->weight_destroy(inner, w);
}

/* ---- ops on rows */

static hw_status gather(hw_device *d, void *out, const hw_weight *table, const int32_t *ids, int n,
                        int first_id, bool accumulate)
{
    trip t = begin(d);
    size_t n_in = t.d->k->weight_dims(table)->n_in;
    void *to = both(&t, out, (size_t)n * n_in * sizeof(float));
    const int32_t *at = there(&t, ids, (size_t)n * sizeof *ids);
    return RUN(t, gather, to, table, at, n, first_id, accumulate);
}

static hw_status select_rows(hw_device *d, void *out, const void *x, const int32_t *rows, int n, int dim)
{
    trip t = begin(d);
    int32_t n_x = 0;
    for (int i = 0; i < n; i++)
        if (rows[i] >= n_x) n_x = rows[i] + 1;
    void *to = both(&t, out, (size_t)n * (size_t)dim * sizeof(float));
    const void *from = floats(&t, x, (size_t)n_x * (size_t)dim);
    const int32_t *at = there(&t, rows, (size_t)n * sizeof *rows);
    return RUN(t, select_rows, to, from, at, n, dim);
}

static hw_status rmsnorm(hw_device *d, void *out, const void *x, const float *w, int n, int dim, float eps)
{
    trip t = begin(d);
    void *to = both(&t, out, (size_t)n * (size_t)dim * sizeof(float));
    const void *from = floats(&t, x, (size_t)n * (size_t)dim);
    const float *by = floats(&t, w, (size_t)dim);
    return RUN(t, rmsnorm, to, from, by, n, dim, eps);
}

static hw_status layernorm(hw_device *d, void *out, const void *x, const float *w, const float *b, int n,
                           int dim, float eps)
{
    trip t = begin(d);
    void *to = both(&t, out, (size_t)n * (size_t)dim * sizeof(float));
    const void *from = floats(&t, x, (size_t)n * (size_t)dim);
    const float *by = floats(&t, w, (size_t)dim), *plus = floats(&t, b, (size_t)dim);
    return RUN(t, layernorm, to, from, by, plus, n, dim, eps);
}

static hw_status matmul(hw_device *d, void *out, const void *x, const hw_weight *w, const float *bias, int n)
{
    trip t = begin(d);
    const hw_weight_dims *dims = t.d->k->weight_dims(w);
    void *to = both(&t, out, (size_t)n * dims->n_out * sizeof(float));
    const void *from = floats(&t, x, (size_t)n * dims->n_in);
    const float *plus = floats(&t, bias, dims->n_out);
    return RUN(t, matmul, to, from, w, plus, n);
}

static hw_status activate(hw_device *d, void *out, const void *x, int n_rows, int n, hw_activation act,
                          bool gated)
{
    trip t = begin(d);
    const size_t total = (size_t)n_rows * (size_t)n;
    void *to = both(&t, out, total * sizeof(float));
    const void *from = floats(&t, x, total * (gated ? 2 : 1));
    return RUN(t, activate, to, from, n_rows, n, act, gated);
}

static hw_status add_bias_residual(hw_device *d, void *x, const void *y, const float *bias, int n, int dim)
{
    trip t = begin(d);
    void *to = both(&t, x, (size_t)n * (size_t)dim * sizeof(float));
    const void *from = floats(&t, y, (size_t)n * (size_t)dim);
    const float *plus = floats(&t, bias, (size_t)dim);
    return RUN(t, add_bias_residual, to, from, plus, n, dim);
}

/* ---- attention */

static hw_status rope_angles(hw_device *d, float *out, const int32_t *positions, int n, const float *inv_freq,
                             int half, float scale)
{
    trip t = begin(d);
    void *to = both(&t, out, (size_t)n * 2 * (size_t)half * sizeof(float));
    const int32_t *at = there(&t, positions, (size_t)n * sizeof *positions);
    const float *by = floats(&t, inv_freq, (size_t)half);
    return RUN(t, rope_angles, to, at, n, by, half, scale);
}

static size_t width(hw_heads h)
{
    return ((size_t)h.n_heads + 2 * (size_t)h.n_kv_heads) * (size_t)h.head_dim;
}

static hw_rows carry_rows(trip *t, const hw_rows *rows)
{
    hw_rows r = *rows;
    r.positions = there(t, rows->positions, (size_t)rows->n_rows * sizeof(int32_t));
    r.seqs = there(t, rows->seqs, (size_t)rows->n_rows * sizeof(int32_t));
    r.block_tables =
        there(t, rows->block_tables, (size_t)rows->n_seqs * (size_t)rows->max_blocks * sizeof(int32_t));
    return r;
}

/* Up to the last block that a row reads or writes. */
static hw_kv_layer carry_cache(trip *t, const hw_rows *rows, hw_heads heads, hw_kv_layer kv, bool back)
{
    size_t n_blocks = 0;
    for (int r = 0; r < rows->n_rows; r++)
        for (int i = 0; i <= rows->positions[r] / kv.block_tokens; i++) {
            size_t block = (size_t)rows->block_tables[rows->seqs[r] * rows->max_blocks + i];
            if (block >= n_blocks) n_blocks = block + 1;
        }
    hw_kv_layer there_kv = kv;
    there_kv.data = carry(t, kv.data,
                          n_blocks * 2 * (size_t)heads.n_kv_heads * (size_t)kv.block_tokens *
                              (size_t)heads.head_dim * hw_dtype_size(kv.dtype),
                          back);
    return there_kv;
}

static hw_status qk_norm(hw_device *d, void *qkv, hw_heads heads, const float *q_w, const float *k_w, int n,
                         float eps)
{
    trip t = begin(d);
    void *x = both(&t, qkv, (size_t)n * width(heads) * sizeof(float));
    const float *q = floats(&t, q_w, (size_t)heads.head_dim), *k = floats(&t, k_w, (size_t)heads.head_dim);
    return RUN(t, qk_norm, x, heads, q, k, n, eps);
}

static hw_status rope_append(hw_device *d, void *qkv, const float *angles, int half, hw_heads heads,
                             const hw_rows *rows, hw_kv_layer kv)
{
    trip t = begin(d);
    void *x = both(&t, qkv, (size_t)rows->n_rows * width(heads) * sizeof(float));
    const float *by = floats(&t, angles, (size_t)rows->n_rows * 2 * (size_t)half);
    const hw_rows r = carry_rows(&t, rows);
    const hw_kv_layer cache = carry_cache(&t, rows, heads, kv, true);
    return RUN(t, rope_append, x, by, half, heads, &r, cache);
}

static hw_status attention(hw_device *d, void *out, const void *qkv, hw_heads heads, const hw_attn *attn,
                           const hw_rows *rows, hw_kv_layer kv, void *scratch)
{
    trip t = begin(d);
    const size_t n = (size_t)rows->n_rows;
    void *to = both(&t, out, n * (size_t)heads.n_heads * (size_t)heads.head_dim * sizeof(float));
    const void *x = floats(&t, qkv, n * width(heads));
    const hw_rows r = carry_rows(&t, rows);
    const hw_kv_layer cache = carry_cache(&t, rows, heads, kv, false);
    void *work =
        there(&t, scratch, t.d->k->attention_scratch(t.d, heads, rows->n_rows, rows->max_position + 1));
    return RUN(t, attention, to, x, heads, attn, &r, cache, work);
}

static size_t attention_scratch(const hw_device *d, hw_heads heads, int max_rows, int max_positions)
{
    const hw_device *inner = inner_of(d);
    return inner->k->attention_scratch(inner, heads, max_rows, max_positions);
}

/* ---- sampling */

static hw_status penalize(hw_device *d, float *row, int n_vocab, int first_id, const int32_t *tokens,
                          int n_tokens, float penalty)
{
    trip t = begin(d);
    float *x = both(&t, row, (size_t)n_vocab * sizeof *row);
    return RUN(t, penalize, x, n_vocab, first_id, tokens, n_tokens, penalty);
}

static hw_status row_best(hw_device *d, uint64_t *keys, const float *row, int n_vocab, int first_id,
                          int n_valid, int k)
{
    trip t = begin(d);
    const float *x = floats(&t, row, (size_t)n_vocab);
    return RUN(t, row_best, keys, x, n_vocab, first_id, n_valid, k);
}

static hw_status row_mass(hw_device *d, uint64_t *mass, const float *row, int n_vocab, int first_id,
                          int n_valid, float max, float temperature)
{
    trip t = begin(d);
    const float *x = floats(&t, row, (size_t)n_vocab);
    return RUN(t, row_mass, mass, x, n_vocab, first_id, n_valid, max, temperature);
}

static hw_status row_draw(hw_device *d, uint64_t *key, const float *row, int n_vocab, int first_id,
                          int n_valid, float floor, float temperature, uint64_t seed, uint64_t step)
{
    trip t = begin(d);
    const float *x = floats(&t, row, (size_t)n_vocab);
    return RUN(t, row_draw, key, x, n_vocab, first_id, n_valid, floor, temperature, seed, step);
}

static void destroy(hw_device_base *base)
{
    hw_device_destroy(((mirror *)(void *)base)->inner);
    free((void *)(uintptr_t)base->device.k);
    free(base);
}

hw_status hw_mirror_device_create(hw_device **out, hw_device *inner, hw_error *err)
{
    mirror *m = calloc(1, sizeof *m);
    hw_kernels *k = calloc(1, sizeof *k);
    *out = NULL;
    if (!m || !k) {
        free(m), free(k), hw_device_destroy(inner);
        return hw_fail(err, HW_ERR_NO_MEMORY, "mirror: no memory");
    }
    *k = (hw_kernels){.name = inner->k->name,
                      .alloc = hw_host_op_alloc,
                      .free = hw_host_op_free,
                      .copy_in = hw_host_op_copy,
                      .copy_out = hw_host_op_copy,
                      .copy = hw_host_op_copy,
                      .synchronize = hw_host_op_synchronize,
                      .host_alloc = hw_host_op_alloc,
                      .host_free = hw_host_op_free,
                      .weight_create = weight_create,
                      .weight_put = weight_put,
                      .weight_destroy = weight_destroy,
                      .weight_bytes = inner->k->weight_bytes,
                      .weight_dims = inner->k->weight_dims,
                      .gather = gather,
                      .select_rows = select_rows,
                      .rmsnorm = rmsnorm,
                      .layernorm = layernorm,
                      .matmul = matmul,
                      .rope_angles = rope_angles,
                      .qk_norm = qk_norm,
                      .rope_append = rope_append,
                      .attention = attention,
                      .attention_scratch = attention_scratch,
                      .attends = inner->k->attends,
                      .activate = activate,
                      .add_bias_residual = add_bias_residual,
                      .penalize = penalize,
                      .row_best = row_best,
                      .row_mass = row_mass,
                      .row_draw = row_draw};
    m->base.device = (hw_device){.k = k, .act = inner->act, .n_threads = 1, .host_memory = true};
    m->base.destroy = destroy;
    snprintf(m->base.description, sizeof m->base.description, "%s", hw_device_description(inner));
    m->inner = inner;
    *out = &m->base.device;
    return HW_OK;
}
