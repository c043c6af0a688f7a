/* Norms: one block of threads per row. */
#include "kernels/cuda/norm.h"

#include "kernels/cuda/cuda.h"

namespace
{

enum { BLOCK = 256 };

template <typename T> __global__ void norm_rows(T *out, const T *x, hw_norm norm, size_t dim)
{
    __shared__ float shared[HW_WARP];
    hw_begin();
    hw_norm_row(out + blockIdx.x * dim, x + blockIdx.x * dim, norm, dim, shared);
}

} // namespace

hw_status hw_cuda_norm(hw_device *d, void *out, const void *x, hw_norm norm, int n, int dim)
{
    if (!n || !dim) return HW_OK;
    return hw_with_type(d->act, [&](auto number) {
        using T = decltype(number);
        return hw_cuda_launch(hw_cuda_of(d), norm.centred ? "layernorm" : "rmsnorm", norm_rows<T>,
                              dim3((unsigned)n), BLOCK, 0, (T *)out, (const T *)x, norm, dim);
    });
}

hw_status hw_cuda_rmsnorm(hw_device *d, void *out, const void *x, const float *w, int n, int dim, float eps)
{
    return hw_cuda_norm(d, out, x, {false, eps, w, nullptr}, n, dim);
}

hw_status hw_cuda_layernorm(hw_device *d, void *out, const void *x, const float *w, const float *b, int n,
                            int dim, float eps)
{
    return hw_cuda_norm(d, out, x, {true, eps, w, b}, n, dim);
}
