#include "runtime/step.h"

#include "parallel/watch.h"
#include "runtime/base/clock.h"

/* The work of attention: pairs of rows and the keys that they see; keys that the rows of a sequence see, each once. */
typedef struct seen {
    uint64_t n_pairs, n_keys;
} seen;

/* Rows of a sequence are in the order of their positions. */
static seen count_seen(const hw_batch *b, const hw_attn *attn)
{
    seen n = {0};
    for (int r = 0, first = 0; r < b->n_rows; r++) {
        const int position = b->positions[r], first_of_row = hw_attn_first(attn->window, position);
        n.n_pairs += (uint64_t)(position + 1 - first_of_row);
        if (r == 0 || b->seqs[r] != b->seqs[r - 1]) first = first_of_row;
        if (r + 1 == b->n_rows || b->seqs[r + 1] != b->seqs[r]) n.n_keys += (uint64_t)(position + 1 - first);
    }
    return n;
}

/* Called before each op. On asynchronous devices the watch learns of the work in hw_step_expect. */
static void count(hw_step *s, hw_work_site site, hw_work w)
{
    s->pending_flops += w.flops;
    hw_watch_progress(hw_comm_watch(s->e->world), s->d->host_memory ? w.flops : 0);
    hw_work_record(&s->e->work, site, s->b->n_prefill_rows, s->b->n_decode_rows, w);
    s->since = hw_clock_ticks();
}

/* Called after an op has returned, for the op counted last. */
static hw_status done(hw_step *s, hw_work_site site, hw_status st)
{
    s->e->work.ticks[site] += hw_clock_ticks() - s->since;
    return st;
}

#define RUN(s, call) ((s)->only_counts ? HW_OK : (call))

static uint64_t act_bytes(const hw_step *s, uint64_t n) { return n * hw_dtype_size(s->d->act); }

/* Work of activations [n, dim] that are read or written `times` times, and of `n_vectors` vectors [dim] float32. */
static void count_rows(hw_step *s, int n, uint64_t times, uint64_t n_vectors)
{
    const uint64_t dim = (uint64_t)s->m->dim;
    count(s, HW_WORK_OTHER,
          (hw_work){.weight_bytes = n_vectors * dim * sizeof(float),
                    .activation_bytes = act_bytes(s, times * (uint64_t)n * dim)});
}

static void count_matmul(hw_step *s, hw_work_site site, hw_linear l, int n)
{
    const hw_weight_dims *dims = s->k->weight_dims(l.w);
    const uint64_t n_out = dims->n_out, n_in = dims->n_in, rows = (uint64_t)n;
    hw_work work = {.flops = 2 * rows * n_out * n_in,
                    .weight_bytes =
                        hw_format_size(dims->format, n_out, n_in) + (l.bias ? n_out * sizeof(float) : 0),
                    .activation_bytes = act_bytes(s, rows * (n_in + n_out))};
    /* A rank that begins inside a group of query heads computes K and V of a head that the previous rank computes
     * too. */
    if (site == HW_WORK_QKV && s->e->shard.heads.first_head % s->e->shard.heads.n_rep)
        work.replicated_flops = 2 * rows * n_in * 2 * (uint64_t)s->m->head_dim;
    count(s, site, work);
}

hw_status hw_op_qk_norm(hw_step *s, const float *q_w, const float *k_w)
{
    const hw_heads h = s->e->shard.heads;
    const uint64_t d = (uint64_t)h.head_dim, n_heads = (uint64_t)h.n_heads + (uint64_t)h.n_kv_heads;
    count(s, HW_WORK_QKV,
          (hw_work){.weight_bytes = 2 * d * sizeof(float),
                    .activation_bytes = act_bytes(s, 2 * (uint64_t)s->rows.n_rows * n_heads * d)});
    return done(s, HW_WORK_QKV,
                RUN(s, s->k->qk_norm(s->d, s->buf->qkv, h, q_w, k_w, s->rows.n_rows, s->m->norm_eps)));
}

hw_status hw_op_rope_append(hw_step *s, const float *angles, int half, hw_kv_layer kv)
{
    const hw_heads h = s->e->shard.heads;
    const uint64_t rows = (uint64_t)s->rows.n_rows, d = (uint64_t)h.head_dim, n_kv = (uint64_t)h.n_kv_heads;
    const uint64_t rotated = half ? rows * ((uint64_t)h.n_heads + n_kv) * 2 * (uint64_t)half : 0;
    count(s, HW_WORK_QKV,
          (hw_work){.kv_bytes = 2 * rows * n_kv * d * hw_dtype_size(kv.dtype),
                    .activation_bytes = act_bytes(s, 2 * rotated + 2 * rows * n_kv * d)});
    return done(s, HW_WORK_QKV, RUN(s, s->k->rope_append(s->d, s->buf->qkv, angles, half, h, &s->rows, kv)));
}

hw_status hw_op_attention(hw_step *s, const hw_attn *attn, hw_kv_layer kv)
{
    const hw_heads h = s->e->shard.heads;
    const seen n = count_seen(s->b, attn);
    const uint64_t q = (uint64_t)h.n_heads * (uint64_t)h.head_dim,
                   kv_width = (uint64_t)h.n_kv_heads * (uint64_t)h.head_dim;
    /* Scores read q and K, values read V and write the result. */
    const hw_work half = {.flops = 2 * n.n_pairs * q,
                          .kv_bytes = n.n_keys * kv_width * hw_dtype_size(kv.dtype),
                          .activation_bytes = act_bytes(s, (uint64_t)s->rows.n_rows * q)};
    count(s, HW_WORK_SCORES, half);
    count(s, HW_WORK_VALUES, half);
    return done(
        s, HW_WORK_SCORES,
        RUN(s, s->k->attention(s->d, s->buf->attn, s->buf->qkv, h, attn, &s->rows, kv, s->buf->scratch)));
}

/* Bytes of the table's rows that this rank reads for these ids. */
static uint64_t bytes_of_rows(const hw_weight_dims *dims, const int32_t *ids, int n, int first_id)
{
    uint64_t n_read = 0;
    for (int r = 0; r < n; r++) n_read += ids[r] >= first_id && (size_t)(ids[r] - first_id) < dims->n_out;
    return hw_format_size(dims->format, n_read, dims->n_in);
}

void hw_count_embedding(hw_engine *e, const int32_t *tokens, int n)
{
    const hw_weight_dims *dims = e->device->k->weight_dims(e->weights->embed);
    hw_work_record(&e->work, HW_WORK_EMBED, 0, n,
                   (hw_work){.weight_bytes = bytes_of_rows(dims, tokens, n, (int)e->shard.vocab.begin)});
}

hw_status hw_op_gather(hw_step *s, const hw_weight *table, const int32_t *ids, const int32_t *device_ids,
                       int first_id, bool accumulate)
{
    const hw_weight_dims *dims = s->k->weight_dims(table);
    const uint64_t rows = (uint64_t)s->rows.n_rows;
    count(s, HW_WORK_EMBED,
          (hw_work){.weight_bytes = bytes_of_rows(dims, ids, s->rows.n_rows, first_id),
                    .activation_bytes = act_bytes(s, (accumulate ? 2 : 1) * rows * dims->n_in)});
    return done(
        s, HW_WORK_EMBED,
        RUN(s, s->k->gather(s->d, s->buf->x, table, device_ids, s->rows.n_rows, first_id, accumulate)));
}

/* ---- products with the ops before and after them, fused if the device supports that. The work is counted as for
 * separate ops. */

hw_norm hw_step_norm(const hw_step *s, const float *w, const float *bias)
{
    return (hw_norm){.centred = s->m->norm != HW_NORM_RMS, .eps = s->m->norm_eps, .w = w, .b = bias};
}

static void count_norm(hw_step *s, hw_norm norm, int n) { count_rows(s, n, 2, norm.b ? 2 : 1); }

hw_status hw_op_norm(hw_step *s, const void *x, hw_norm norm, int n)
{
    void *out = s->buf->normed;
    count_norm(s, norm, n);
    return done(s, HW_WORK_OTHER,
                norm.centred ? RUN(s, s->k->layernorm(s->d, out, x, norm.w, norm.b, n, s->m->dim, norm.eps))
                             : RUN(s, s->k->rmsnorm(s->d, out, x, norm.w, n, s->m->dim, norm.eps)));
}

static hw_status matmul(hw_step *s, hw_work_site site, void *out, const void *x, hw_linear l, int n)
{
    count_matmul(s, site, l, n);
    return done(s, site, RUN(s, s->k->matmul(s->d, out, x, l.w, l.bias, n)));
}

hw_status hw_op_matmul(hw_step *s, hw_work_site site, void *out, const void *in, const hw_weight *w)
{
    return matmul(s, site, out, in, (hw_linear){.w = w}, s->rows.n_rows);
}

static void count_activate(hw_step *s, int n, int ffn)
{
    count(
        s, HW_WORK_MLP,
        (hw_work){.activation_bytes = act_bytes(s, (s->m->gated_mlp ? 3 : 2) * (uint64_t)n * (uint64_t)ffn)});
}

hw_status hw_op_norm_matmul(hw_step *s, hw_work_site site, void *out, hw_norm norm, hw_linear l)
{
    const hw_buffers *buf = s->buf;
    const int n = s->rows.n_rows;
    if (!norm.w) return matmul(s, site, out, buf->x, l, n);
    if (!s->k->fused) {
        hw_status st = hw_op_norm(s, buf->x, norm, n);
        return st ? st : matmul(s, site, out, buf->normed, l, n);
    }
    count_norm(s, norm, n);
    count_matmul(s, site, l, n);
    return done(s, site,
                RUN(s, s->k->fused->norm_matmul(s->d, out, buf->x, &norm, l.w, l.bias, n, buf->normed)));
}

hw_status hw_op_norm_matmul_activate(hw_step *s, hw_norm norm, hw_linear l, int ffn)
{
    const hw_buffers *buf = s->buf;
    const hw_activation act = s->m->activation;
    const bool gated = s->m->gated_mlp;
    const int n = s->rows.n_rows;
    if (!norm.w || !s->k->fused) {
        hw_status st = hw_op_norm_matmul(s, HW_WORK_MLP, buf->up, norm, l);
        count_activate(s, n, ffn);
        if (!st) st = RUN(s, s->k->activate(s->d, buf->act, buf->up, n, ffn, act, gated));
        return done(s, HW_WORK_MLP, st);
    }
    count_norm(s, norm, n);
    count_matmul(s, HW_WORK_MLP, l, n);
    count_activate(s, n, ffn);
    return done(s, HW_WORK_MLP,
                RUN(s, s->k->fused->norm_matmul_activate(s->d, buf->act, buf->x, &norm, l.w, l.bias, n, act,
                                                         gated, buf->normed, buf->up)));
}

static void count_residual(hw_step *s, const float *bias) { count_rows(s, s->rows.n_rows, 3, bias ? 1 : 0); }

hw_status hw_op_add(hw_step *s, const void *y, const float *bias)
{
    const int n = s->rows.n_rows;
    count_residual(s, bias);
    return done(s, HW_WORK_OTHER, RUN(s, s->k->add_bias_residual(s->d, s->buf->x, y, bias, n, s->m->dim)));
}

bool hw_step_has_matmul_add(const hw_step *s) { return s->e->shard.n_ranks == 1 && s->k->fused; }

hw_status hw_op_matmul_add(hw_step *s, hw_work_site site, const void *in, hw_linear l)
{
    const hw_buffers *buf = s->buf;
    const int n = s->rows.n_rows;
    count_residual(s, l.bias);
    count_matmul(s, site, (hw_linear){.w = l.w}, n);
    return done(s, site, RUN(s, s->k->fused->matmul_add(s->d, buf->x, in, l.w, l.bias, n, buf->y)));
}

hw_status hw_op_head(hw_step *s, const hw_weight *head, int n)
{
    const hw_buffers *buf = s->buf;
    if (!s->k->logits) return matmul(s, HW_WORK_HEAD, buf->logits, buf->normed, (hw_linear){.w = head}, n);
    count_matmul(s, HW_WORK_HEAD, (hw_linear){.w = head}, n);
    return done(s, HW_WORK_HEAD, RUN(s, s->k->logits(s->d, buf->logits, buf->normed, head, n)));
}

hw_status hw_op_select_rows(hw_step *s, int n)
{
    count_rows(s, n, 2, 0);
    return done(s, HW_WORK_OTHER,
                RUN(s, s->k->select_rows(s->d, s->buf->y, s->buf->x, s->buf->logit_rows, n, s->m->dim)));
}

void hw_step_expect(hw_step *s)
{
    if (!s->d->host_memory) hw_watch_progress(hw_comm_watch(s->e->world), s->pending_flops);
    s->pending_flops = 0;
}

/* The communicator adds on the device if it can. Otherwise it adds in host memory, and device memory is copied there and
 * back. */
static hw_status reduce_on_device(hw_step *s, hw_tag tag, void *buffer, size_t count, hw_dtype type,
                                  hw_reduce op)
{
    if (!s->only_counts) return hw_comm_device_all_reduce(s->e->tensor, tag, buffer, count, type, op, s->err);
    hw_comm_device_count(s->e->tensor, tag, count, type);
    return HW_OK;
}

hw_status hw_op_all_reduce(hw_step *s, hw_site site, int layer, void *partial)
{
    const size_t count = (size_t)s->b->n_rows * (size_t)s->m->dim, n_bytes = act_bytes(s, count);
    const hw_tag tag = hw_batch_tag(s->b, site, layer);
    hw_comm *comm = s->e->tensor;
    if (s->only_counts || hw_comm_on_device(comm))
        return reduce_on_device(s, tag, partial, count, s->d->act, HW_SUM);
    if (hw_comm_n_ranks(comm) == 1) return HW_OK;
    void *const host = s->d->host_memory ? partial : s->buf->stage;
    hw_status st = HW_OK;
    if (host != partial) hw_step_expect(s);
    if (host != partial) st = hw_engine_read(s->e, host, partial, n_bytes, s->err);
    if (!st) st = hw_comm_all_reduce(comm, tag, host, count, s->d->act, HW_SUM, s->err);
    if (!st && host != partial) st = s->k->copy_in(s->d, partial, host, n_bytes);
    return st;
}

static hw_status reduce_keys(hw_step *s, const hw_fed_rows *rows)
{
    const hw_tag tag = hw_batch_tag(s->b, HW_SITE_SAMPLE, 0);
    if (hw_comm_n_ranks(s->e->tensor) == 1) return HW_OK;
    return reduce_on_device(s, tag, rows->keys, (size_t)rows->n_rows, HW_U64, HW_MAX);
}

hw_status hw_op_feed_keys(hw_step *s)
{
    const hw_engine *e = s->e;
    const hw_buffers *buf = s->buf;
    const hw_fed_rows rows = {.n_rows = s->rows.n_rows,
                              .vocab_size = s->m->vocab_size,
                              .keys = buf->keys,
                              .draws = buf->draws,
                              .tokens = buf->tokens,
                              .positions = buf->positions,
                              .ring = buf->ring,
                              .n_slots = HW_DEVICE_LOOP_AHEAD,
                              .slot_rows = e->options.max_logit_rows};
    const int n_local = (int)hw_range_size(e->shard.vocab), first_id = (int)e->shard.vocab.begin;
    hw_status st = RUN(s, s->k->device_loop->choose_keys(s->d, &rows, buf->logits, n_local, first_id));
    if (!st) st = reduce_keys(s, &rows);
    return st ? st : RUN(s, s->k->device_loop->feed_keys(s->d, &rows));
}
