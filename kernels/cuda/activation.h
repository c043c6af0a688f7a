/* Device code: activation functions, as formulas of the reference. */
#ifndef HW_KERNELS_CUDA_ACTIVATION_H
#define HW_KERNELS_CUDA_ACTIVATION_H

#include "kernels/cuda/numbers.h"

static __device__ inline float hw_activation_of(float x, hw_activation act)
{
    switch (act) {
    case HW_ACT_SILU: return x / (1.0f + expf(-x));
    case HW_ACT_GELU: return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case HW_ACT_GELU_TANH:
        return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case HW_ACT_RELU: break;
    }
    return x < 0.0f ? 0.0f : x; /* NaN stays NaN */
}

#endif
