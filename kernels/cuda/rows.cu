/* Ops that treat every number of a row by itself. */
#include <algorithm>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/numbers.h"

namespace
{

enum { BLOCK = 256, MOST_BLOCKS = 1 << 16 };

/* Enough blocks for one number per thread, up to a limit past which threads take several. */
dim3 grid_for(size_t n) { return dim3(hw_cuda_blocks(std::min(n, (size_t)BLOCK * MOST_BLOCKS), BLOCK)); }

template <typename T>
__global__ void gather(float *out, const T *table, size_t stride, size_t n_table, size_t dim,
                       const int32_t *ids, int64_t first_id, bool accumulate)
{
    const int64_t row = (int64_t)ids[blockIdx.x] - first_id;
    const bool here = row >= 0 && row < (int64_t)n_table;
    float *to = out + (size_t)blockIdx.x * dim;
    for (size_t i = threadIdx.x; i < dim; i += blockDim.x) {
        float value = here ? hw_get(table[(size_t)row * stride + i]) : 0.0f;
        to[i] = (accumulate ? to[i] : 0.0f) + value; /* 0 + -0 is +0 */
    }
}

__global__ void select_rows(float *out, const float *x, const int32_t *rows, size_t dim)
{
    const float *from = x + (size_t)rows[blockIdx.x] * dim;
    for (size_t i = threadIdx.x; i < dim; i += blockDim.x) out[(size_t)blockIdx.x * dim + i] = from[i];
}

__global__ void add_bias_residual(float *x, const float *y, const float *bias, size_t n, size_t dim)
{
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (size_t)gridDim.x * blockDim.x) {
        float added = y[i];
        if (bias) added += bias[i % dim];
        x[i] += added;
    }
}

__device__ float activation(float x, hw_activation act)
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

/* `gate`: numbers from one row of x to the part that multiplies; 0 when nothing does. */
__global__ void activate(float *out, const float *x, size_t total, size_t n, size_t gate, hw_activation act)
{
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < total;
         i += (size_t)gridDim.x * blockDim.x) {
        const float *in = x + i / n * (n + gate) + i % n;
        float y = activation(*in, act);
        out[i] = gate ? y * in[gate] : y;
    }
}

} // namespace

hw_status hw_cuda_gather(hw_device *d, hw_stream *, void *out, const hw_weight *table, const int32_t *ids,
                         int n, int first_id, bool accumulate)
{
    const size_t dim = table->dims.n_in;
    if (!n || !dim) return HW_OK;
    return hw_with_type(table->dims.dtype, [&](auto number) {
        using T = decltype(number);
        return hw_cuda_launch(hw_cuda_of(d), "gather", gather<T>, dim3((unsigned)n), BLOCK, 0, (float *)out,
                              (const T *)(const void *)table->data, table->stride, table->dims.n_out, dim,
                              ids, first_id, accumulate);
    });
}

hw_status hw_cuda_select_rows(hw_device *d, hw_stream *, void *out, const void *x, const int32_t *rows, int n,
                              int dim)
{
    if (!n || !dim) return HW_OK;
    return hw_cuda_launch(hw_cuda_of(d), "select_rows", select_rows, dim3((unsigned)n), BLOCK, 0,
                          (float *)out, (const float *)x, rows, dim);
}

hw_status hw_cuda_add_bias_residual(hw_device *d, hw_stream *, void *x, const void *y, const float *bias,
                                    int n, int dim)
{
    const size_t total = (size_t)n * (size_t)dim;
    if (!total) return HW_OK;
    return hw_cuda_launch(hw_cuda_of(d), "add_bias_residual", add_bias_residual, grid_for(total), BLOCK, 0,
                          (float *)x, (const float *)y, bias, total, dim);
}

hw_status hw_cuda_activate(hw_device *d, hw_stream *, void *out, const void *x, int n_rows, int n,
                           hw_activation act, bool gated)
{
    const size_t total = (size_t)n_rows * (size_t)n;
    if (!total) return HW_OK;
    return hw_cuda_launch(hw_cuda_of(d), "activate", activate, grid_for(total), BLOCK, 0, (float *)out,
                          (const float *)x, total, n, gated ? n : 0, act);
}
