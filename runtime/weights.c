#include "runtime/weights.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/checked.h"
#include "runtime/dummy.h"
#include "runtime/scatter.h"
#include "runtime/tensor_cut.h"

enum { STAGING_BYTES = 8 << 20 };

static_assert((int)HW_N_CUTS == (int)HW_SHARD_CUTS, "kernels and shards cut split inputs alike");

hw_status hw_shard_create(hw_shard *out, const hw_model *m, int rank, int n_ranks, hw_error *err)
{
    if (n_ranks > m->n_heads)
        return hw_fail(err, HW_ERR_INVALID,
                       "%d ranks, but the model has %d attention heads to give out; start 1 to %d ranks",
                       n_ranks, m->n_heads, m->n_heads);
    hw_range q = hw_shard_heads(m->n_heads, m->n_kv_heads, rank, n_ranks);
    hw_range kv = hw_shard_kv_heads(m->n_heads, m->n_kv_heads, rank, n_ranks);
    *out = (hw_shard){
        .rank = rank,
        .n_ranks = n_ranks,
        .n_sharing = 1,
        .heads = {.n_heads = (int)hw_range_size(q),
                  .n_kv_heads = (int)hw_range_size(kv),
                  .first_head = (int)q.begin,
                  .first_kv_head = (int)kv.begin,
                  .n_rep = m->n_heads / m->n_kv_heads,
                  .head_dim = m->head_dim},
        .ffn = hw_shard_granules((size_t)m->ffn_dim, rank, n_ranks),
        .vocab = hw_shard_granules((size_t)m->vocab_size, rank, n_ranks),
    };
    hw_shard_head_cuts(out->head_cuts, m->n_heads, m->n_kv_heads, m->head_dim, rank, n_ranks);
    hw_shard_granule_cuts(out->ffn_cuts, (size_t)m->ffn_dim, rank, n_ranks);
    return HW_OK;
}

void hw_shard_range(const hw_model *m, const hw_shard *shard, hw_role role, hw_range *out, hw_range *in)
{
    size_t n_out, n_in, d = (size_t)m->head_dim, q = (size_t)shard->heads.first_head,
                        kv = (size_t)shard->heads.first_kv_head;
    hw_model_shape(m, role, &n_out, &n_in);
    hw_range q_rows = {q * d, (q + (size_t)shard->heads.n_heads) * d};
    hw_range kv_rows = {kv * d, (kv + (size_t)shard->heads.n_kv_heads) * d};
    *out = (hw_range){0, n_out};
    *in = (hw_range){0, n_in};
    switch (role) {
    case HW_ROLE_EMBED:
    case HW_ROLE_HEAD: *out = shard->vocab; break;
    case HW_ROLE_WQ:
    case HW_ROLE_BQ: *out = q_rows; break;
    case HW_ROLE_WK:
    case HW_ROLE_BK:
    case HW_ROLE_WV:
    case HW_ROLE_BV: *out = kv_rows; break;
    case HW_ROLE_WO: *in = q_rows; break;
    case HW_ROLE_W_GATE:
    case HW_ROLE_B_GATE:
    case HW_ROLE_W_UP:
    case HW_ROLE_B_UP: *out = shard->ffn; break;
    case HW_ROLE_W_DOWN: *in = shard->ffn; break;
    default: break;
    }
}

/* Where a role's local numbers go: a matrix or a vector, and the first output in it. */
typedef struct place {
    hw_weight *matrix;
    float *vector;
    size_t first_out;
} place;

static place destination(const hw_weights *w, const hw_model *m, const hw_shard *shard, hw_role role,
                         int layer)
{
    const hw_layer *l = &w->layers[layer];
    size_t q = (size_t)shard->heads.n_heads * (size_t)m->head_dim,
           kv = (size_t)shard->heads.n_kv_heads * (size_t)m->head_dim;
    size_t up = m->gated_mlp ? hw_range_size(shard->ffn) : 0;
    switch (role) {
    case HW_ROLE_EMBED: return (place){.matrix = w->embed};
    case HW_ROLE_POSITIONS: return (place){.matrix = w->positions};
    case HW_ROLE_HEAD: return (place){.matrix = w->head};
    case HW_ROLE_FINAL_NORM: return (place){.vector = w->final_norm};
    case HW_ROLE_FINAL_NORM_BIAS: return (place){.vector = w->final_norm_bias};
    case HW_ROLE_ATTN_NORM: return (place){.vector = l->attn_norm};
    case HW_ROLE_ATTN_NORM_BIAS: return (place){.vector = l->attn_norm_bias};
    case HW_ROLE_MLP_NORM: return (place){.vector = l->mlp_norm};
    case HW_ROLE_MLP_NORM_BIAS: return (place){.vector = l->mlp_norm_bias};
    case HW_ROLE_WQ: return (place){.matrix = l->wqkv};
    case HW_ROLE_WK: return (place){.matrix = l->wqkv, .first_out = q};
    case HW_ROLE_WV: return (place){.matrix = l->wqkv, .first_out = q + kv};
    case HW_ROLE_BQ: return (place){.vector = l->bqkv};
    case HW_ROLE_BK: return (place){.vector = l->bqkv, .first_out = q};
    case HW_ROLE_BV: return (place){.vector = l->bqkv, .first_out = q + kv};
    case HW_ROLE_WO: return (place){.matrix = l->wo};
    case HW_ROLE_BO: return (place){.vector = l->bo};
    case HW_ROLE_W_GATE: return (place){.matrix = l->w_up};
    case HW_ROLE_B_GATE: return (place){.vector = l->b_up};
    case HW_ROLE_W_UP: return (place){.matrix = l->w_up, .first_out = up};
    case HW_ROLE_B_UP: return (place){.vector = l->b_up, .first_out = up};
    case HW_ROLE_W_DOWN: return (place){.matrix = l->w_down};
    case HW_ROLE_B_DOWN: return (place){.vector = l->b_down};
    case HW_N_ROLES: break;
    }
    return (place){0};
}

/* ---- making room */

typedef struct maker {
    hw_weights *w;
    const hw_model *m;
    hw_dtype dtype;
    hw_error *err;
} maker;

static hw_status make_matrix(maker *k, hw_weight **out, size_t n_out, size_t n_in, const size_t *cuts)
{
    hw_weight_dims dims = {.n_out = n_out, .n_in = n_in, .dtype = k->dtype};
    for (int i = 1; i <= HW_N_CUTS; i++) dims.cuts[i] = cuts ? cuts[i] : n_in;
    const hw_kernels *ops = k->w->device->k;
    hw_status st = ops->weight_create(k->w->device, out, &dims, k->err);
    if (!st) k->w->n_bytes += ops->weight_bytes(*out);
    return st;
}

static hw_status make_vector(maker *k, float **out, size_t n, bool wanted)
{
    if (!wanted) return HW_OK;
    void *p;
    hw_status st = k->w->device->k->alloc(k->w->device, &p, (n ? n : 1) * sizeof(float), k->err);
    if (st) return st;
    *out = p;
    k->w->n_bytes += n * sizeof(float);
    return HW_OK;
}

static hw_status make_layer(maker *k, hw_layer *l, const hw_shard *shard)
{
    const hw_model *m = k->m;
    hw_status st;
    bool norm_bias = m->norm == HW_NORM_LAYER;
    size_t dim = (size_t)m->dim, d = (size_t)m->head_dim, q = (size_t)shard->heads.n_heads * d;
    size_t qkv = q + 2 * (size_t)shard->heads.n_kv_heads * d, ffn = hw_range_size(shard->ffn),
           up = m->gated_mlp ? 2 * ffn : ffn;
    if ((st = make_vector(k, &l->attn_norm, dim, true)) ||
        (st = make_vector(k, &l->attn_norm_bias, dim, norm_bias)) ||
        (st = make_vector(k, &l->mlp_norm, dim, true)) ||
        (st = make_vector(k, &l->mlp_norm_bias, dim, norm_bias)) ||
        (st = make_vector(k, &l->bqkv, qkv, m->qkv_bias)) || (st = make_vector(k, &l->bo, dim, m->o_bias)) ||
        (st = make_vector(k, &l->b_up, up, m->mlp_bias)) ||
        (st = make_vector(k, &l->b_down, dim, m->mlp_bias)) ||
        (st = make_matrix(k, &l->wqkv, qkv, dim, NULL)) ||
        (st = make_matrix(k, &l->wo, dim, q, shard->head_cuts)) ||
        (st = make_matrix(k, &l->w_up, up, dim, NULL)) ||
        (st = make_matrix(k, &l->w_down, dim, ffn, shard->ffn_cuts)))
        return st;
    return HW_OK;
}

static hw_status make_room(maker *k, const hw_shard *shard)
{
    const hw_model *m = k->m;
    hw_weights *w = k->w;
    size_t dim = (size_t)m->dim, vocab = hw_range_size(shard->vocab);
    hw_status st = make_matrix(k, &w->embed, vocab, dim, NULL);
    if (!st && m->tied_embeddings) w->head = w->embed;
    else if (!st) st = make_matrix(k, &w->head, vocab, dim, NULL);
    if (!st && m->learned_positions) st = make_matrix(k, &w->positions, (size_t)m->max_seq_len, dim, NULL);
    if (!st) st = make_vector(k, &w->final_norm, dim, true);
    if (!st) st = make_vector(k, &w->final_norm_bias, dim, m->norm == HW_NORM_LAYER);
    for (int i = 0; i < m->n_layers && !st; i++) st = make_layer(k, &w->layers[i], shard);
    return st;
}

/* ---- filling */

typedef struct loader {
    hw_weights *w;
    const hw_model *m;
    const hw_shard *shard;
    hw_checkpoint *c;
    const hw_load_options *options;
    hw_scatter *scatter; /* NULL: everybody reads for itself */
    hw_status failed;    /* of a rank that goes on receiving, since rank 0 goes on sending */
    void *staging;       /* [STAGING_BYTES] */
    uint64_t done, total;
    hw_error *err;
} loader;

static void report(loader *l, uint64_t n_bytes)
{
    l->done += n_bytes;
    if (l->options->progress) l->options->progress(l->options->progress_user, l->done, l->total);
}

/* A rectangle of numbers has arrived in the staging buffer, tightly packed: [n_rows, n_columns] as stored. */
static hw_status deliver(loader *l, place to, hw_dtype type, bool transposed, size_t first_out,
                         size_t first_in, size_t n_rows, size_t n_columns)
{
    hw_device *d = l->w->device;
    if (to.vector) {
        float *numbers = (float *)((char *)l->staging + STAGING_BYTES / 2);
        hw_convert(numbers, HW_F32, l->staging, type, n_rows);
        return d->k->copy_in(d, to.vector + to.first_out + first_out, numbers, n_rows * sizeof(float));
    }
    hw_weight_piece piece = {.src = l->staging, .dtype = type};
    piece.stride_out = transposed ? 1 : n_columns;
    piece.stride_in = transposed ? n_columns : 1;
    piece.first_out = to.first_out + first_out;
    piece.first_in = first_in;
    piece.n_out = transposed ? n_columns : n_rows;
    piece.n_in = transposed ? n_rows : n_columns;
    return d->k->weight_put(d, to.matrix, &piece, l->err);
}

static bool receives(const loader *l) { return l->scatter && !l->c; }

/* Rows [r, r + n) of what this rank holds of a tensor, into the staging buffer. */
static hw_status fetch(loader *l, const hw_tensor_cut *cut, const hw_tensor_place *p, size_t r, size_t n)
{
    if (receives(l)) return hw_scatter_receive(l->scatter, l->staging, n * cut->row_bytes, l->err);
    return hw_tensor_cut_read(cut, p, l->c, r, n, l->staging, l->err);
}

static hw_status load_part(loader *l, const hw_tensor_place *p, const hw_tensor_rule *rule, int layer,
                           size_t room)
{
    const place to = destination(l->w, l->m, l->shard, rule->role, layer);
    const hw_tensor_cut cut = hw_tensor_cut_of(p, l->m, l->shard, rule->role);
    size_t at_once, n_rows = hw_range_size(cut.rows);
    hw_status st = hw_tensor_cut_rows(&at_once, &cut, p, room, l->err);
    for (size_t r = 0; r < n_rows && at_once && !st; r += at_once) {
        const size_t n = n_rows - r < at_once ? n_rows - r : at_once;
        st = fetch(l, &cut, p, r, n);
        if (!st && !l->failed)
            l->failed = deliver(l, to, p->tensor.info->dtype, p->transposed, p->transposed ? 0 : r,
                                p->transposed ? r : 0, n, hw_range_size(cut.columns));
        if (!receives(l) && l->failed) st = l->failed;
        report(l, n * cut.row_bytes);
    }
    return st;
}

static hw_status load_tensor(loader *l, const hw_tensor_rule *rule, int layer)
{
    /* A vector is converted in the upper half of the buffer, so a piece of it must leave that free. */
    const size_t room = hw_role_is_vector(rule->role) ? STAGING_BYTES / 4 : STAGING_BYTES;
    hw_tensor_place p;
    hw_status st = l->scatter ? hw_scatter_locate(l->scatter, &p, rule, layer, l->err)
                              : hw_tensor_locate(&p, l->m, l->c, rule, layer, l->err);
    if (!st && l->scatter && l->c) {
        const uint64_t before = hw_scatter_sent(l->scatter);
        st = hw_scatter_send(l->scatter, &p, rule->role, l->staging, room, l->err);
        report(l, hw_scatter_sent(l->scatter) - before);
    }
    return st ? st : load_part(l, &p, rule, layer, room);
}

static hw_status fill_with_dummy(loader *l, const hw_tensor_rule *rule, int layer)
{
    hw_range out, in;
    hw_status st = HW_OK;
    hw_shard_range(l->m, l->shard, rule->role, &out, &in);
    place to = destination(l->w, l->m, l->shard, rule->role, layer);
    size_t n_out = hw_range_size(out), n_in = hw_range_size(in);
    if (!n_out || !n_in) return HW_OK;
    hw_dtype type = to.vector ? HW_F32 : hw_weights_dtype(l->m, NULL, l->options->dtype);
    size_t row_bytes = n_in * hw_dtype_size(type),
           at_once = (to.vector ? STAGING_BYTES / 4 : STAGING_BYTES) / row_bytes;
    for (size_t r = 0; r < n_out && !st; r += at_once) {
        size_t n = n_out - r < at_once ? n_out - r : at_once;
        for (size_t i = 0; i < n; i++)
            hw_dummy_row((char *)l->staging + i * row_bytes, type, l->options->dummy_seed, rule->role, layer,
                         out.begin + r + i, in.begin, n_in);
        st = deliver(l, to, type, false, r, 0, n, n_in);
        report(l, n * row_bytes);
    }
    return st;
}

static hw_status for_each_tensor(loader *l, hw_status (*each)(loader *, const hw_tensor_rule *, int))
{
    hw_status st = HW_OK;
    for (const hw_tensor_rule *r = l->m->rules; r->name && !st; r++) {
        int n = hw_tensor_per_layer(r) ? l->m->n_layers : 1;
        for (int layer = 0; layer < n && !st && hw_model_has(l->m, r->role); layer++) st = each(l, r, layer);
    }
    return st;
}

static hw_status locate_only(loader *l, const hw_tensor_rule *rule, int layer)
{
    hw_tensor_place p;
    return hw_tensor_locate(&p, l->m, l->c, rule, layer, l->err);
}

static hw_status fill(loader *l)
{
    hw_status st;
    if (l->options->dummy) return for_each_tensor(l, fill_with_dummy);
    /* Everything is checked before anything is read. */
    if ((st = for_each_tensor(l, locate_only)) || (st = hw_tensor_check_extra(l->m, l->c, l->err))) return st;
    return for_each_tensor(l, load_tensor);
}

/* Rank 0's error is the one that is told. */
static hw_status fill_together(loader *l)
{
    hw_error other;
    hw_status st = hw_scatter_create(&l->scatter, l->options->comm, l->m, l->c, l->err);
    if (st) return st;
    l->total += hw_scatter_planned(l->scatter);
    st = for_each_tensor(l, load_tensor);
    if (st && l->c) hw_scatter_stop(l->scatter, &other);
    if (!st) st = l->failed;
    l->w->n_bytes_sent = hw_scatter_sent(l->scatter);
    if (!st && l->w->n_bytes_sent != hw_scatter_planned(l->scatter))
        st = hw_fail(
            l->err, HW_ERR_FAILED, "weights: %llu bytes were sent, but the parts of the other ranks are %llu",
            (unsigned long long)l->w->n_bytes_sent, (unsigned long long)hw_scatter_planned(l->scatter));
    return st;
}

/* ---- the whole */

hw_dtype hw_weights_dtype(const hw_model *m, const hw_checkpoint *c, hw_dtype wanted)
{
    if (wanted != HW_DTYPE_NONE) return wanted;
    if (!c) return m->stored != HW_DTYPE_NONE ? m->stored : HW_F32;
    /* As stored: what most bytes of the files are. */
    uint64_t bytes[HW_I32 + 1] = {0};
    for (size_t i = 0; i < hw_checkpoint_n_tensors(c); i++) {
        const hw_tensor_info *t = hw_checkpoint_at(c, i).info;
        bytes[t->dtype] += t->n_bytes;
    }
    hw_dtype most = HW_F32;
    if (bytes[HW_BF16] > bytes[most]) most = HW_BF16;
    if (bytes[HW_F16] > bytes[most]) most = HW_F16;
    return most;
}

uint64_t hw_weights_estimate(const hw_model *m, const hw_shard *shard, hw_dtype dtype)
{
    uint64_t n = 0;
    for (int role = 0; role < HW_N_ROLES; role++) {
        hw_range out, in;
        if (!hw_model_has(m, (hw_role)role)) continue;
        hw_shard_range(m, shard, (hw_role)role, &out, &in);
        size_t number = hw_role_is_vector((hw_role)role) ? sizeof(float) : hw_dtype_size(dtype);
        size_t n_times = role >= HW_ROLE_ATTN_NORM ? (size_t)m->n_layers : 1;
        size_t bytes = HW_SIZE(hw_range_size(out), hw_range_size(in), number, n_times);
        if (bytes == SIZE_MAX || !hw_add_u64(n, bytes, &n)) return UINT64_MAX;
    }
    return n;
}

static hw_status prepare(loader *l, hw_weights *w, hw_device *device)
{
    if (!w) return hw_fail(l->err, HW_ERR_NO_MEMORY, "weights: no memory");
    w->device = device;
    w->n_layers = l->m->n_layers;
    w->layers = calloc((size_t)l->m->n_layers, sizeof *w->layers);
    l->staging = malloc(STAGING_BYTES);
    if (!w->layers || !l->staging) return hw_fail(l->err, HW_ERR_NO_MEMORY, "weights: no memory");
    maker k = {.w = w, .m = l->m, .dtype = hw_weights_dtype(l->m, l->c, l->options->dtype), .err = l->err};
    l->total = hw_weights_estimate(l->m, l->shard, k.dtype);
    return make_room(&k, l->shard);
}

hw_status hw_weights_load(hw_weights **out, hw_device *device, const hw_model *m, const hw_shard *shard,
                          hw_checkpoint *c, const hw_load_options *options, hw_error *err)
{
    *out = NULL;
    hw_weights *w = calloc(1, sizeof *w);
    loader l = {.w = w, .m = m, .shard = shard, .c = c, .options = options, .err = err};
    const uint64_t before = c ? hw_checkpoint_bytes_read(c) : 0;
    hw_status st = prepare(&l, w, device);
    if (options->comm) st = hw_comm_agree(options->comm, st, err);
    if (!st) st = options->comm ? fill_together(&l) : fill(&l);
    hw_status told = device->k->synchronize(device, err); /* what a copy could not say */
    if (told) st = told;
    hw_scatter_destroy(l.scatter);
    free(l.staging);
    if (st) {
        hw_weights_destroy(w);
        return st;
    }
    w->n_bytes_read = c ? hw_checkpoint_bytes_read(c) - before : 0;
    *out = w;
    return HW_OK;
}

void hw_weights_destroy(hw_weights *w)
{
    if (!w) return;
    hw_device *d = w->device;
    for (int i = 0; w->layers && i < w->n_layers; i++) {
        hw_layer *l = &w->layers[i];
        hw_weight *matrices[] = {l->wqkv, l->wo, l->w_up, l->w_down};
        float *vectors[] = {l->attn_norm, l->attn_norm_bias, l->mlp_norm, l->mlp_norm_bias, l->bqkv,
                            l->bo,        l->b_up,           l->b_down};
        for (size_t j = 0; j < sizeof matrices / sizeof *matrices; j++) d->k->weight_destroy(d, matrices[j]);
        for (size_t j = 0; j < sizeof vectors / sizeof *vectors; j++) d->k->free(d, vectors[j]);
    }
    if (w->head != w->embed) d->k->weight_destroy(d, w->head);
    d->k->weight_destroy(d, w->embed);
    d->k->weight_destroy(d, w->positions);
    d->k->free(d, w->final_norm);
    d->k->free(d, w->final_norm_bias);
    free(w->layers);
    free(w);
}
