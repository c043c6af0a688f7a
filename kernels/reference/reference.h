/* The ops of the reference device; kernels.h specifies what they compute. Sums run in double, in the natural
 * order, with libm; where kernels.h specifies an order (matmul), it is followed exactly. */
#ifndef HW_KERNELS_REFERENCE_REFERENCE_H
#define HW_KERNELS_REFERENCE_REFERENCE_H

#include "kernels/device.h"

/* Row-major, as stored. */
struct hw_weight {
    hw_weight_dims dims;
    void *data; /* [n_out, n_in] of dims.format.type */
};

/* Element `i` of an array of a floating type. */
float hw_ref_get(const void *data, hw_dtype dtype, size_t i);
void hw_ref_set(void *data, hw_dtype dtype, size_t i, float value);

hw_status hw_ref_weight_create(hw_device *d, hw_weight **out, const hw_weight_dims *dims, hw_error *err);
hw_status hw_ref_weight_put(hw_device *d, hw_weight *w, const hw_weight_piece *piece, hw_error *err);
void hw_ref_weight_destroy(hw_device *d, hw_weight *w);
size_t hw_ref_weight_bytes(const hw_weight *w);
const hw_weight_dims *hw_ref_weight_dims(const hw_weight *w);
hw_status hw_ref_gather(hw_device *d, void *out, const hw_weight *table, const int32_t *ids, int n,
                        int first_id, bool accumulate);
hw_status hw_ref_matmul(hw_device *d, void *out, const void *x, const hw_weight *w, const float *bias, int n);

hw_status hw_ref_select_rows(hw_device *d, void *out, const void *x, const int32_t *rows, int n, int dim);
hw_status hw_ref_rmsnorm(hw_device *d, void *out, const void *x, const float *w, int n, int dim, float eps);
hw_status hw_ref_qk_norm(hw_device *d, void *qkv, hw_heads heads, const float *q_w, const float *k_w, int n,
                         float eps);
hw_status hw_ref_layernorm(hw_device *d, void *out, const void *x, const float *w, const float *b, int n,
                           int dim, float eps);
hw_status hw_ref_activate(hw_device *d, void *out, const void *x, int n_rows, int n, hw_activation act,
                          bool gated);
hw_status hw_ref_add_bias_residual(hw_device *d, void *x, const void *y, const float *bias, int n, int dim);

hw_status hw_ref_rope_angles(hw_device *d, float *out, const int32_t *positions, int n, const float *inv_freq,
                             int half, float scale);
hw_status hw_ref_rope_append(hw_device *d, void *qkv, const float *angles, int half, hw_heads heads,
                             const hw_rows *rows, hw_kv_layer kv);
hw_status hw_ref_attention(hw_device *d, void *out, const void *qkv, hw_heads heads, const hw_attn *attn,
                           const hw_rows *rows, hw_kv_layer kv, void *scratch);
size_t hw_ref_attention_scratch(const hw_device *d, hw_heads heads, int max_rows, int max_positions);

hw_status hw_ref_penalize(hw_device *d, float *row, int n_vocab, int first_id, const int32_t *tokens,
                          int n_tokens, float penalty);
hw_status hw_ref_row_best(hw_device *d, uint64_t *keys, const float *row, int n_vocab, int first_id,
                          int n_valid, int k);
hw_status hw_ref_row_mass(hw_device *d, uint64_t *mass, const float *row, int n_vocab, int first_id,
                          int n_valid, float max, float temperature);
hw_status hw_ref_row_draw(hw_device *d, uint64_t *key, const float *row, int n_vocab, int first_id,
                          int n_valid, float floor, float temperature, uint64_t seed, uint64_t step);

#endif
