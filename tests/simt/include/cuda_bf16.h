/* bfloat16 as kernels/cuda/ uses it. */
#ifndef HW_TESTS_SIMT_CUDA_BF16_H
#define HW_TESTS_SIMT_CUDA_BF16_H

#include "runtime/base/dtype.h"

struct __nv_bfloat16 {
    uint16_t bits;
};

static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 b) { return b.bits; }
static inline __nv_bfloat16 __float2bfloat16_rn(float x) { return {hw_f32_to_bf16(x)}; }

#endif
