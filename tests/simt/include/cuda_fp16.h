/* float16 as kernels/cuda/ uses it. */
#ifndef HW_TESTS_SIMT_CUDA_FP16_H
#define HW_TESTS_SIMT_CUDA_FP16_H

#include "runtime/base/dtype.h"

struct __half {
    uint16_t bits;
};

static inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
static inline unsigned short __half_as_ushort(__half h) { return h.bits; }
static inline float __half2float(__half h) { return hw_f16_to_f32(h.bits); }
static inline __half __float2half_rn(float x) { return {hw_f32_to_f16(x)}; }

#endif
