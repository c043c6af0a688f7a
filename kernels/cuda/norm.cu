/* Norms: one block of threads per row. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/numbers.h"

namespace
{

enum { BLOCK = 256 };

__global__ void rmsnorm(float *out, const float *x, const float *w, int dim, float eps)
{
    __shared__ float shared[HW_WARP];
    const float *in = x + (size_t)blockIdx.x * (size_t)dim;
    float *to = out + (size_t)blockIdx.x * (size_t)dim;
    float squares = 0;
    for (int i = (int)threadIdx.x; i < dim; i += BLOCK) squares += in[i] * in[i];
    const float inverse = 1.0f / sqrtf(hw_block_sum(squares, shared) / (float)dim + eps);
    for (int i = (int)threadIdx.x; i < dim; i += BLOCK) to[i] = in[i] * inverse * w[i];
}

/* The variance is taken about the mean in a second pass: as a difference of squares it would lose what the
 * mean is large in. */
__global__ void layernorm(float *out, const float *x, const float *w, const float *b, int dim, float eps)
{
    __shared__ float shared[HW_WARP];
    const float *in = x + (size_t)blockIdx.x * (size_t)dim;
    float *to = out + (size_t)blockIdx.x * (size_t)dim;
    float sum = 0, squares = 0;
    for (int i = (int)threadIdx.x; i < dim; i += BLOCK) sum += in[i];
    const float mean = hw_block_sum(sum, shared) / (float)dim;
    for (int i = (int)threadIdx.x; i < dim; i += BLOCK) squares += (in[i] - mean) * (in[i] - mean);
    const float inverse = 1.0f / sqrtf(hw_block_sum(squares, shared) / (float)dim + eps);
    for (int i = (int)threadIdx.x; i < dim; i += BLOCK)
        to[i] = (in[i] - mean) * inverse * w[i] + (b ? b[i] : 0.0f);
}

} // namespace

hw_status hw_cuda_rmsnorm(hw_device *d, hw_stream *, void *out, const void *x, const float *w, int n, int dim,
                          float eps)
{
    if (!n || !dim) return HW_OK;
    return hw_cuda_launch(hw_cuda_of(d), "rmsnorm", rmsnorm, dim3((unsigned)n), BLOCK, 0, (float *)out,
                          (const float *)x, w, dim, eps);
}

hw_status hw_cuda_layernorm(hw_device *d, hw_stream *, void *out, const void *x, const float *w,
                            const float *b, int n, int dim, float eps)
{
    if (!n || !dim) return HW_OK;
    return hw_cuda_launch(hw_cuda_of(d), "layernorm", layernorm, dim3((unsigned)n), BLOCK, 0, (float *)out,
                          (const float *)x, w, b, dim, eps);
}
