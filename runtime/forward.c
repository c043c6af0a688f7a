/* The forward pass: the only one, for every architecture, any number of ranks and any mix of prefill and
 * decode rows.
 *
 * Shapes of the buffers are in engine_state.h. "replicated", "split" and "partial" are states of a tensor
 * across ranks: the same on all; each rank has some heads, columns or vocabulary rows; to be summed over
 * ranks. An all-reduce turns partial into replicated, and nothing else is sent between ranks: keys and
 * values stay where they are computed. */
#include "runtime/forward.h"

#include "runtime/device/decode_graph.h"

#define TRY(call)                                                                                            \
    do {                                                                                                     \
        hw_status st_ = (call);                                                                              \
        if (st_) return st_;                                                                                 \
    } while (0)

hw_status hw_forward_upload(hw_step *s)
{
    const hw_batch *b = s->b;
    hw_buffers *buf = s->buf;
    size_t n = (size_t)b->n_rows * sizeof(int32_t);
    TRY(s->k->copy_in(s->d, buf->tokens, b->tokens, n));
    TRY(s->k->copy_in(s->d, buf->positions, b->positions, n));
    TRY(s->k->copy_in(s->d, buf->seqs, b->seqs, n));
    TRY(s->k->copy_in(s->d, buf->logit_rows, b->logit_rows, (size_t)b->n_logits * sizeof(int32_t)));
    TRY(s->k->copy_in(s->d, buf->block_tables, b->block_tables,
                      (size_t)b->n_seqs * (size_t)s->e->shape.seq_blocks * sizeof(int32_t)));
    return HW_OK;
}

static hw_rows rows_of(const hw_step *s)
{
    const hw_batch *b = s->b;
    const hw_buffers *buf = s->buf;
    return (hw_rows){.n_rows = b->n_rows,
                     .n_seqs = b->n_seqs,
                     .positions = buf->positions,
                     .seqs = buf->seqs,
                     .block_tables = buf->block_tables,
                     .max_blocks = s->e->shape.seq_blocks,
                     .max_position = b->max_position};
}

static hw_status embed(hw_step *s)
{
    const hw_weights *w = s->e->weights;
    hw_buffers *buf = s->buf;
    int n = s->rows.n_rows, first_id = (int)s->e->shard.vocab.begin;
    TRY(hw_op_gather(s, w->embed, s->b->tokens, buf->tokens, first_id, false)); /* x: partial */
    TRY(hw_op_all_reduce(s, HW_SITE_EMBED, 0, buf->x));                         /* x: replicated */
    if (s->m->learned_positions) TRY(hw_op_gather(s, w->positions, s->b->positions, buf->positions, 0, true));
    if (s->e->inv_freq && !s->only_counts)
        TRY(s->k->rope_angles(s->d, buf->angles, buf->positions, n, s->e->inv_freq, s->m->rope.rotary_dim / 2,
                              (float)s->m->rope.attention_factor));
    return HW_OK;
}

/* The end of a block: x += all_reduce(W in) + bias, or, with a norm after the block, x += norm(all_reduce(W in)) without
 * a bias.   in [n_rows, n_in]: split */
static hw_status into_residual(hw_step *s, hw_work_site work, hw_site site, int layer, const void *in,
                               hw_linear l, hw_norm norm)
{
    const hw_buffers *buf = s->buf;
    if (!norm.w && hw_step_has_matmul_add(s)) return hw_op_matmul_add(s, work, in, l);
    TRY(hw_op_matmul(s, work, buf->y, in, l.w));   /* y: partial */
    TRY(hw_op_all_reduce(s, site, layer, buf->y)); /* y: replicated */
    if (!norm.w) return hw_op_add(s, buf->y, l.bias);
    TRY(hw_op_norm(s, buf->y, norm, s->rows.n_rows)); /* normed: replicated */
    return hw_op_add(s, buf->normed, NULL);
}

static hw_status attention_block(hw_step *s, int layer)
{
    const hw_layer *w = hw_weights_layer(s->e->weights, layer);
    const hw_kv_layer kv = hw_kv_cache_layer(s->e->kv, layer - s->e->shard.first_layer);
    const hw_norm norm = hw_step_norm(s, w->attn_norm, w->attn_norm_bias),
                  post_norm = hw_step_norm(s, w->attn_post_norm, NULL);
    const hw_linear qkv = {w->wqkv, w->bqkv}, wo = {w->wo, w->bo};
    const hw_layer_kind *kind = hw_model_layer(s->m, layer);
    hw_buffers *buf = s->buf;
    int half = s->e->inv_freq ? s->m->rope.rotary_dim / 2 : 0;

    TRY(hw_op_norm_matmul(s, HW_WORK_QKV, buf->qkv, norm, qkv)); /* qkv: split by heads */
    if (kind->qk_norm) TRY(hw_op_qk_norm(s, w->q_norm, w->k_norm));
    TRY(hw_op_rope_append(s, half ? buf->angles : NULL, half, kv));
    TRY(hw_op_attention(s, &kind->attn, kv)); /* attn: split by heads */
    return into_residual(s, HW_WORK_WO, HW_SITE_ATTN, layer, buf->attn, wo, post_norm);
}

static hw_status mlp_block(hw_step *s, int layer)
{
    const hw_layer *w = hw_weights_layer(s->e->weights, layer);
    const hw_norm norm = hw_step_norm(s, w->mlp_norm, w->mlp_norm_bias),
                  post_norm = hw_step_norm(s, w->mlp_post_norm, NULL);
    const hw_linear up = {w->w_up, w->b_up}, down = {w->w_down, w->b_down};

    TRY(hw_op_norm_matmul_activate(s, norm, up,
                                   (int)hw_range_size(s->e->shard.ffn))); /* act: split by columns */
    return into_residual(s, HW_WORK_MLP, HW_SITE_MLP, layer, s->buf->act, down, post_norm);
}

/* Only rows that need logits go through the head; each rank computes its slice of the vocabulary. */
static hw_status head(hw_step *s)
{
    const hw_weights *w = s->e->weights;
    int n = s->b->n_logits;
    if (!n) return HW_OK;
    TRY(hw_op_select_rows(s, n));
    TRY(hw_op_norm(s, s->buf->y, hw_step_norm(s, w->final_norm, w->final_norm_bias), n));
    return hw_op_head(s, w->head, n); /* logits: split by vocabulary */
}

hw_status hw_forward_layers(hw_step *s)
{
    const hw_shard *shard = &s->e->shard;
    TRY(embed(s));
    for (int layer = shard->first_layer; layer < shard->end_layer; layer++) {
        TRY(attention_block(s, layer));
        TRY(mlp_block(s, layer));
    }
    return head(s);
}

hw_step hw_forward_begin(hw_engine *e, const hw_batch *b, hw_error *err)
{
    hw_step s = {
        .e = e, .b = b, .d = e->device, .k = e->device->k, .m = &e->model, .buf = &e->buffers, .err = err};
    s.rows = rows_of(&s);
    return s;
}

static hw_status run(hw_step *s)
{
    TRY(hw_forward_upload(s));
    return hw_graph_suits(s) ? hw_graph_run(s, hw_forward_layers) : hw_forward_layers(s);
}

hw_status hw_forward(hw_engine *e, const hw_batch *b, hw_error *err)
{
    hw_step s = hw_forward_begin(e, b, err);
    const hw_status st = run(&s);
    hw_step_expect(&s);
    return hw_engine_wait(e, st, err);
}
