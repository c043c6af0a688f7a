/* Attention has two kernels: one for every type and head size, and one on tensor cores. */
#ifndef HW_KERNELS_CUDA_ATTENTION_H
#define HW_KERNELS_CUDA_ATTENTION_H

#include "kernels/cuda/cuda.h"

/* Whether the cache and the activations are of one 16-bit type, and heads of whole packs, up to 128. */
bool hw_cuda_attention_has_tiles(const hw_cuda_device *c, hw_heads heads, hw_dtype kv_type);

/* As the op. */
hw_status hw_cuda_attention_tiles(hw_cuda_device *c, void *out, const void *qkv, hw_heads heads,
                                  const hw_attn *attn, const hw_rows *rows, hw_kv_layer kv, void *scratch);
size_t hw_cuda_attention_tiles_scratch(hw_heads heads, int max_rows, int max_positions);

#endif
