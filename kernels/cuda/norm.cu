/* Norms: one block of threads per row, or per head of a row. */
#include "kernels/cuda/norm.h"

#include "kernels/cuda/cuda.h"

namespace
{

enum { BLOCK = 256, HEAD_BLOCK = 64 };

template <typename T> __global__ void norm_rows(T *out, const T *x, hw_norm norm, size_t dim)
{
    __shared__ float shared[HW_WARP];
    hw_begin();
    hw_norm_row(out + blockIdx.x * dim, x + blockIdx.x * dim, norm, dim, shared);
}

/* Grid: row, head of q or k. */
template <typename T> __global__ void norm_heads(T *qkv, hw_heads heads, hw_norm q, hw_norm k)
{
    __shared__ float shared[HW_WARP];
    hw_begin();
    const size_t dim = (size_t)heads.head_dim, n_heads = (size_t)(heads.n_heads + 2 * heads.n_kv_heads);
    T *x = qkv + (blockIdx.x * n_heads + blockIdx.y) * dim;
    hw_norm_row(x, x, (int)blockIdx.y < heads.n_heads ? q : k, dim, shared);
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

hw_status hw_cuda_qk_norm(hw_device *d, void *qkv, hw_heads heads, const float *q_w, const float *k_w, int n,
                          float eps)
{
    const hw_norm q = {false, eps, q_w, nullptr}, k = {false, eps, k_w, nullptr};
    const unsigned n_heads = (unsigned)(heads.n_heads + heads.n_kv_heads);
    if (!n || !n_heads) return HW_OK;
    return hw_with_type(d->act, [&](auto number) {
        using T = decltype(number);
        return hw_cuda_launch(hw_cuda_of(d), "qk_norm", norm_heads<T>, dim3((unsigned)n, n_heads), HEAD_BLOCK,
                              0, (T *)qkv, heads, q, k);
    });
}

hw_status hw_cuda_layernorm(hw_device *d, void *out, const void *x, const float *w, const float *b, int n,
                            int dim, float eps)
{
    return hw_cuda_norm(d, out, x, {true, eps, w, b}, n, dim);
}
