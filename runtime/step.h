/* The ops of the forward pass on the rows of one step. They call the ops of the same name in kernels.h, and count
 * their work (runtime/work.h) from the shapes. All functions are Local unless marked. */
#ifndef HW_RUNTIME_STEP_H
#define HW_RUNTIME_STEP_H

#include "runtime/batch.h"
#include "runtime/engine_state.h"

typedef struct hw_step {
    hw_engine *e;
    const hw_batch *b;
    hw_device *d;
    const hw_kernels *k;
    const hw_model *m;
    hw_buffers *buf;
    hw_rows rows;
    uint64_t since;         /* hw_clock_ticks at the start of the current op */
    uint64_t pending_flops; /* of ops since the last wait for the device */
    bool only_counts;       /* a graph launch has run the ops already: only count their work */
    hw_error *err;
} hw_step;

/* Call before waiting for the device: tells the watch how much work is pending. */
void hw_step_expect(hw_step *s);

/* A matrix and the bias of its outputs. */
typedef struct hw_linear {
    const hw_weight *w;
    const float *bias; /* [n_out] D or NULL */
} hw_linear;

/* The model's kind of norm: RMSNorm or LayerNorm.   w, bias [dim] D; w NULL: no norm at this place */
hw_norm hw_step_norm(const hw_step *s, const float *w, const float *bias);

/* From x [n, dim] D to the buffer normed [n, dim]. */
hw_status hw_op_norm(hw_step *s, const void *x, hw_norm norm, int n);

/* The norm, if there is one, then the product with `l`; all rows.   out [n_rows, n_out] D, from the buffer x */
hw_status hw_op_norm_matmul(hw_step *s, hw_work_site site, void *out, hw_norm norm, hw_linear l);

/* Norm, if there is one, product, activation: the first half of an MLP, from the buffer x to the buffer act [n_rows, ffn]. */
hw_status hw_op_norm_matmul_activate(hw_step *s, hw_norm norm, hw_linear l, int ffn);

/* out = W in.   out [n_rows, n_out] D   in [n_rows, n_in] D */
hw_status hw_op_matmul(hw_step *s, hw_work_site site, void *out, const void *in, const hw_weight *w);

/* x += y + bias.   y [n_rows, dim] D: replicated   bias [dim] D or NULL */
hw_status hw_op_add(hw_step *s, const void *y, const float *bias);

/* x += W in + bias in one op, where hw_step_has_matmul_add: with one rank there is nothing to wait for between the
 * product and the residual, and the device has such an op. */
bool hw_step_has_matmul_add(const hw_step *s);
hw_status hw_op_matmul_add(hw_step *s, hw_work_site site, const void *in, hw_linear l);

/* From the buffer normed to the buffer logits. */
hw_status hw_op_head(hw_step *s, const hw_weight *head, int n);

/* On the buffer qkv.   q_w, k_w [head_dim] D */
hw_status hw_op_qk_norm(hw_step *s, const float *q_w, const float *k_w);

/* On the buffer qkv. */
hw_status hw_op_rope_append(hw_step *s, const float *angles, int half, hw_kv_layer kv);

/* From the buffer qkv to the buffer attn. */
hw_status hw_op_attention(hw_step *s, const hw_attn *attn, hw_kv_layer kv);

/* Into the buffer x. `ids` [n_rows] on the host, and the same on the device; rows of other ranks are not read. Tokens
 * that the host does not know yet (HW_TOKEN_UNKNOWN) are counted later, by hw_count_embedding. */
hw_status hw_op_gather(hw_step *s, const hw_weight *table, const int32_t *ids, const int32_t *device_ids,
                       int first_id, bool accumulate);

/* Counts the embedding rows read for these tokens [n] in a decode step. */
void hw_count_embedding(hw_engine *e, const int32_t *tokens, int n);

/* Collective. Chooses the tokens of the next step, from the buffer logits into the buffer tokens; see hw_fed_rows. */
hw_status hw_op_feed_keys(hw_step *s);

/* Gathers the rows of x that need logits into the buffer y [n, dim]. */
hw_status hw_op_select_rows(hw_step *s, int n);

/* Collective. Sums over ranks, in place.   partial [n_rows, dim] D */
hw_status hw_op_all_reduce(hw_step *s, hw_site site, int layer, void *partial);

#endif
