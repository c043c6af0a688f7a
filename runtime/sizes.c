#include "runtime/sizes.h"

#include <limits.h>

#include "runtime/base/checked.h"

enum { DEFAULT_CONTEXT = 4096, MAX_ROWS = 1 << 20 };

static hw_status check_range(const char *name, int value, int min, int max, hw_error *err)
{
    if (value >= min && value <= max) return HW_OK;
    return hw_fail(err, HW_ERR_INVALID, "%s is %d, wanted %d to %d", name, value, min, max);
}

hw_status hw_options_settle(hw_engine_options *o, const hw_model *m, hw_error *err)
{
    hw_status st;
    if (!o->max_seq_len) o->max_seq_len = m->max_seq_len < DEFAULT_CONTEXT ? m->max_seq_len : DEFAULT_CONTEXT;
    if (o->max_seq_len > m->max_seq_len)
        return hw_fail(err, HW_ERR_INVALID, "max_model_len is %d, but config.json allows %d positions",
                       o->max_seq_len, m->max_seq_len);
    if ((st = check_range("max_model_len", o->max_seq_len, 1, m->max_seq_len, err)) ||
        (st = check_range("threads", o->n_threads, 0, 1024, err)) ||
        (st = check_range("block_tokens", o->block_tokens, 1, 1024, err)) ||
        (st = check_range("max_seqs", o->max_seqs, 1, 65536, err)) ||
        (st = check_range("max_batch_rows", o->max_batch_rows, 1, MAX_ROWS, err)) ||
        (st = check_range("max_logit_rows", o->max_logit_rows, 0, MAX_ROWS, err)))
        return st;
    if (hw_options_kv_shape(o).n_blocks == INT_MAX)
        return hw_fail(
            err, HW_ERR_INVALID,
            "%d sequences of %d tokens are more cache blocks of %d tokens than Headway counts; use larger "
            "blocks, or fewer or shorter sequences",
            o->max_seqs, o->max_seq_len, o->block_tokens);
    if (o->max_logit_rows < o->max_seqs) o->max_logit_rows = o->max_seqs;
    if (o->kv_policy == HW_KV_OFF && o->max_batch_rows < o->max_seq_len) o->max_batch_rows = o->max_seq_len;
    if ((int64_t)o->max_batch_rows > (int64_t)o->max_seqs * o->max_seq_len)
        o->max_batch_rows = o->max_seqs * o->max_seq_len;
    return HW_OK;
}

void hw_options_settle_types(hw_engine_options *o)
{
    if (o->weight_dtype == HW_DTYPE_NONE) o->weight_dtype = o->dtype;
    if (o->kv_dtype == HW_DTYPE_NONE) o->kv_dtype = o->dtype;
}

hw_dtype hw_options_act_dtype(const hw_engine_options *o)
{
    return o->act_dtype != HW_DTYPE_NONE ? o->act_dtype : o->dtype;
}

/* Creating an empty matrix shows whether the device supports the type. */
static hw_status check_weights(const hw_engine_options *o, hw_device *d, hw_error *err)
{
    const hw_weight_dims none = {.format = hw_format_plain(o->weight_dtype)};
    hw_weight *w = NULL;
    const hw_status st = d->k->weight_create(d, &w, &none, err);
    d->k->weight_destroy(d, w);
    return st;
}

hw_status hw_options_settle_device_types(hw_engine_options *o, hw_device *d, hw_error *err)
{
    if (o->act_dtype != HW_DTYPE_NONE && o->act_dtype != d->act)
        return hw_fail(err, HW_ERR_UNSUPPORTED,
                       "activations in %s were asked for, but device \"%s\" computes in %s; leave "
                       "--activation-dtype out, or choose another --device",
                       hw_dtype_name(o->act_dtype), d->k->name, hw_dtype_name(d->act));
    if (o->comm_dtype != HW_DTYPE_NONE && o->comm_dtype != d->act)
        return hw_fail(err, HW_ERR_UNSUPPORTED,
                       "messages in %s were asked for, but ranks add activations in the type that they are "
                       "computed in, %s; leave --comm-dtype out",
                       hw_dtype_name(o->comm_dtype), hw_dtype_name(d->act));
    o->act_dtype = o->comm_dtype = d->act;
    return check_weights(o, d, err);
}

hw_kv_shape hw_options_kv_shape(const hw_engine_options *o)
{
    return hw_kv_shape_of(o->kv_policy, o->block_tokens, o->max_seq_len, o->max_seqs);
}

hw_kv_dims hw_options_kv_dims(const hw_engine_options *o, const hw_model *m, const hw_shard *shard)
{
    const hw_kv_shape shape = hw_options_kv_shape(o);
    hw_kv_dims d = {.n_layers = hw_shard_n_layers(shard),
                    .n_kv_heads = shard->heads.n_kv_heads,
                    .head_dim = m->head_dim,
                    .block_tokens = shape.block_tokens,
                    .n_blocks = 1,
                    .dtype = o->kv_dtype};
    uint64_t one = hw_kv_bytes(d), n = one && o->kv_bytes ? o->kv_bytes / one : (uint64_t)shape.n_blocks;
    d.n_blocks = n < INT_MAX ? (int)n : INT_MAX;
    return d;
}

size_t hw_buffer_sizes(size_t *sizes, const hw_engine_options *o, const hw_model *m, const hw_shard *shard,
                       const hw_device *dev)
{
    const hw_heads h = shard->heads;
    size_t act = hw_dtype_size(dev->act), rows = (size_t)o->max_batch_rows, dim = (size_t)m->dim;
    size_t logits = (size_t)o->max_logit_rows, d = (size_t)m->head_dim, ffn = hw_range_size(shard->ffn);
    size_t q = (size_t)h.n_heads * d, qkv = q + 2 * (size_t)h.n_kv_heads * d,
           vocab = hw_range_size(shard->vocab);
    size_t dim_rows = rows > logits ? rows : logits; /* normed and y also carry the rows of logits */
    const size_t ids = HW_SIZE(rows, sizeof(int32_t));
    const size_t all[HW_N_BUFFERS] = {
        [HW_BUFFER_X] = HW_SIZE(rows, dim, act),
        [HW_BUFFER_NORMED] = HW_SIZE(dim_rows, dim, act),
        [HW_BUFFER_QKV] = HW_SIZE(rows, qkv, act),
        [HW_BUFFER_ATTN] = HW_SIZE(rows, q, act),
        [HW_BUFFER_Y] = HW_SIZE(dim_rows, dim, act),
        [HW_BUFFER_UP] = HW_SIZE(rows, ffn, m->gated_mlp ? 2 : 1, act),
        [HW_BUFFER_ACT] = HW_SIZE(rows, ffn, act),
        [HW_BUFFER_ANGLES] = HW_SIZE(rows, (size_t)m->rope.rotary_dim, sizeof(float)),
        [HW_BUFFER_LOGITS] = HW_SIZE(logits, vocab, sizeof(float)),
        [HW_BUFFER_SCRATCH] = dev->k->attention_scratch(dev, h, o->max_batch_rows, o->max_seq_len),
        [HW_BUFFER_TOKENS] = ids,
        [HW_BUFFER_POSITIONS] = ids,
        [HW_BUFFER_SEQS] = ids,
        [HW_BUFFER_LOGIT_ROWS] = HW_SIZE(logits, sizeof(int32_t)),
        [HW_BUFFER_BLOCK_TABLES] =
            HW_SIZE((size_t)o->max_seqs, (size_t)hw_options_kv_shape(o).seq_blocks, sizeof(int32_t)),
        [HW_BUFFER_KEYS] = dev->k->device_loop ? HW_SIZE(logits, sizeof(uint64_t)) : 0,
        [HW_BUFFER_DRAWS] = dev->k->device_loop ? HW_SIZE(logits, sizeof(hw_draw)) : 0,
    };
    size_t total = 0;
    for (int i = 0; i < HW_N_BUFFERS; i++) {
        sizes[i] = all[i];
        if (all[i] == SIZE_MAX || __builtin_add_overflow(total, all[i], &total)) return SIZE_MAX;
    }
    return total;
}

hw_rank_memory hw_rank_memory_of(const hw_engine_options *o, const hw_model *m, const hw_shard *shard,
                                 const hw_device *d)
{
    size_t sizes[HW_N_BUFFERS];
    hw_rank_memory r = {.weights = hw_weights_estimate(m, shard, hw_format_plain(o->weight_dtype)),
                        .kv = hw_kv_bytes(hw_options_kv_dims(o, m, shard)),
                        .buffers = hw_buffer_sizes(sizes, o, m, shard, d),
                        .reserve = d->host_memory ? 0 : HW_DEVICE_RESERVE_BYTES};
    if (r.kv == SIZE_MAX || r.buffers == SIZE_MAX || !hw_add_u64(r.weights, r.kv, &r.total) ||
        !hw_add_u64(r.total, r.buffers, &r.total) || !hw_add_u64(r.total, r.reserve, &r.total))
        r.total = UINT64_MAX;
    return r;
}
