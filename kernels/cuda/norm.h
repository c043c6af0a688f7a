/* Device code: one row's norm, for the kernels that norm and those that norm what they multiply. */
#ifndef HW_KERNELS_CUDA_NORM_H
#define HW_KERNELS_CUDA_NORM_H

#include "kernels/cuda/numbers.h"

/* All threads of the block.   to [dim] shared or global, x [dim] global; `shared` [32]
 * The variance is taken about the mean in a pass of its own: as a difference of squares it would lose what
 * the mean is large in. */
template <typename T>
static __device__ inline void hw_norm_row(T *to, const T *x, hw_norm norm, size_t dim, float *shared)
{
    enum { N = hw_pack<T>::N };
    const bool packed = hw_is_packed<T>(dim);
    const size_t first = threadIdx.x * (size_t)N, step = blockDim.x * (size_t)N;
    float in[N], mean = 0, squares = 0;
    if (norm.centred) {
        float sum = 0;
        for (size_t i = first; i < dim; i += step) {
            hw_load_row(in, x, i, dim, packed);
            for (int k = 0; k < N; k++) sum += in[k];
        }
        mean = hw_block_sum(sum, shared) / (float)dim;
    }
    for (size_t i = first; i < dim; i += step) {
        hw_load_row(in, x, i, dim, packed);
        for (int k = 0; k < N; k++)
            if (packed || i + (size_t)k < dim) squares += (in[k] - mean) * (in[k] - mean);
    }
    const float inverse = 1.0f / sqrtf(hw_block_sum(squares, shared) / (float)dim + norm.eps);
    for (size_t i = first; i < dim; i += step) {
        float w[N], b[N] = {};
        hw_load_row(in, x, i, dim, packed);
        for (int k = 0; k < N; k += hw_pack<float>::N) {
            hw_load_row(w + k, norm.w, i + (size_t)k, dim, packed);
            if (norm.b) hw_load_row(b + k, norm.b, i + (size_t)k, dim, packed);
        }
        for (int k = 0; k < N; k++) in[k] = (in[k] - mean) * inverse * w[k] + b[k];
        hw_store_row(to, i, dim, packed, in);
    }
}

#endif
