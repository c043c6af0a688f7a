/* The ops that are compiled once per instruction set, with names of that set. kernels.h specifies them. */
#ifndef HW_KERNELS_CPU_OPS_H
#define HW_KERNELS_CPU_OPS_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

hw_status HW_CPU_FN(matmul)(hw_device *d, void *out, const void *x, const hw_weight *w, const float *bias,
                            int n);
hw_status HW_CPU_FN(rmsnorm)(hw_device *d, void *out, const void *x, const float *w, int n, int dim,
                             float eps);
hw_status HW_CPU_FN(qk_norm)(hw_device *d, void *qkv, hw_heads heads, const float *q_w, const float *k_w,
                             int n, float eps);
hw_status HW_CPU_FN(layernorm)(hw_device *d, void *out, const void *x, const float *w, const float *b, int n,
                               int dim, float eps);
hw_status HW_CPU_FN(activate)(hw_device *d, void *out, const void *x, int n_rows, int n, hw_activation act,
                              bool gated);
hw_status HW_CPU_FN(add_bias_residual)(hw_device *d, void *x, const void *y, const float *bias, int n,
                                       int dim);
hw_status HW_CPU_FN(rope_append)(hw_device *d, void *qkv, const float *angles, int half, hw_heads heads,
                                 const hw_rows *rows, hw_kv_layer kv);
hw_status HW_CPU_FN(attention)(hw_device *d, void *out, const void *qkv, hw_heads heads, const hw_attn *attn,
                               const hw_rows *rows, hw_kv_layer kv, void *scratch);
size_t HW_CPU_FN(attention_scratch)(const hw_device *d, hw_heads heads, int max_rows, int max_positions);
hw_status HW_CPU_FN(row_best)(hw_device *d, uint64_t *keys, const float *row, int n_vocab, int first_id,
                              int n_valid, int k);
hw_status HW_CPU_FN(row_mass)(hw_device *d, uint64_t *mass, const float *row, int n_vocab, int first_id,
                              int n_valid, float max, float temperature);
hw_status HW_CPU_FN(row_draw)(hw_device *d, uint64_t *key, const float *row, int n_vocab, int first_id,
                              int n_valid, float floor, float temperature, uint64_t seed, uint64_t step);

#endif
