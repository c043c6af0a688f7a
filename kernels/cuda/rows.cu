/* Ops that treat every number of a row by itself. A thread takes a pack of a row; the grid is packs by
 * rows, so that nothing is divided. */
#include <algorithm>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/cuda.h"

namespace
{

enum { BLOCK = 256, MOST_ROWS = 65535 };

/* A thread per pack of a row [dim]; past a grid's limit, threads take several rows. */
template <typename T> dim3 grid_for(size_t n_rows, size_t dim)
{
    return dim3(hw_cuda_blocks(dim, (size_t)BLOCK * hw_pack<T>::N),
                (unsigned)std::min(n_rows, (size_t)MOST_ROWS));
}

template <typename T> __device__ size_t own_pack()
{
    return ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * hw_pack<T>::N;
}

template <typename T>
__global__ void gather(T *out, const T *table, size_t stride, size_t n_table, size_t dim, const int32_t *ids,
                       size_t n, int64_t first_id, bool accumulate)
{
    enum { N = hw_pack<T>::N };
    const bool packed = hw_is_packed<T>(dim);
    const size_t i = own_pack<T>();
    hw_begin();
    if (i >= dim) return;
    for (size_t r = blockIdx.y; r < n; r += gridDim.y) {
        const int64_t row = (int64_t)ids[r] - first_id;
        float sum[N] = {}, value[N] = {};
        if (accumulate) hw_load_row(sum, out + r * dim, i, dim, packed);
        if (row >= 0 && row < (int64_t)n_table)
            hw_load_row(value, table + (size_t)row * stride, i, dim, packed);
        for (int k = 0; k < N; k++) sum[k] += value[k]; /* 0 + -0 is +0 */
        hw_store_row(out + r * dim, i, dim, packed, sum);
    }
}

template <typename T>
__global__ void select_rows(T *out, const T *x, const int32_t *rows, size_t n, size_t dim)
{
    const bool packed = hw_is_packed<T>(dim);
    const size_t i = own_pack<T>();
    hw_begin();
    if (i >= dim) return;
    for (size_t r = blockIdx.y; r < n; r += gridDim.y) {
        float value[hw_pack<T>::N];
        hw_load_row(value, x + (size_t)rows[r] * dim, i, dim, packed);
        hw_store_row(out + r * dim, i, dim, packed, value);
    }
}

/* Zeros without a bias. */
template <typename T> __device__ void load_bias(float *to, const float *bias, size_t i, size_t n, bool packed)
{
    for (int k = 0; bias && k < hw_pack<T>::N; k += hw_pack<float>::N)
        hw_load_row(to + k, bias, i + (size_t)k, n, packed);
}

/* x += y + bias; without y, x += bias. */
template <typename T>
__global__ void add_bias_residual(T *x, const T *y, const float *bias, size_t n, size_t dim)
{
    enum { N = hw_pack<T>::N };
    const bool packed = hw_is_packed<T>(dim);
    const size_t i = own_pack<T>();
    float plus[N] = {};
    hw_begin();
    if (i >= dim) return;
    load_bias<T>(plus, bias, i, dim, packed);
    for (size_t r = blockIdx.y; r < n; r += gridDim.y) {
        float to[N], added[N] = {};
        hw_load_row(to, x + r * dim, i, dim, packed);
        if (y) hw_load_row(added, y + r * dim, i, dim, packed);
        for (int k = 0; k < N; k++) to[k] += added[k] + plus[k];
        hw_store_row(x + r * dim, i, dim, packed, to);
    }
}

/* bias [n], gated [2 n], or NULL */
template <typename T>
__global__ void activate(T *out, const T *x, const float *bias, size_t n_rows, size_t n, hw_activation act,
                         bool gated)
{
    enum { N = hw_pack<T>::N };
    const bool packed = hw_is_packed<T>(n);
    const size_t i = own_pack<T>();
    float plus[N] = {}, up_plus[N] = {};
    hw_begin();
    if (i >= n) return;
    load_bias<T>(plus, bias, i, n, packed);
    if (gated) load_bias<T>(up_plus, bias ? bias + n : nullptr, i, n, packed);
    for (size_t r = blockIdx.y; r < n_rows; r += gridDim.y) {
        const T *in = x + r * (gated ? 2 * n : n);
        float y[N], up[N] = {};
        hw_load_row(y, in, i, n, packed);
        if (gated) hw_load_row(up, in + n, i, n, packed);
        for (int k = 0; k < N; k++)
            y[k] = hw_activation_of(y[k] + plus[k], act) * (gated ? up[k] + up_plus[k] : 1.0f);
        hw_store_row(out + r * n, i, n, packed, y);
    }
}

} // namespace

hw_status hw_cuda_gather(hw_device *d, void *out, const hw_weight *table, const int32_t *ids, int n,
                         int first_id, bool accumulate)
{
    const size_t dim = table->dims.n_in;
    if (!n || !dim) return HW_OK;
    return hw_with_type(d->act, [&](auto number) {
        using T = decltype(number);
        return hw_cuda_launch(hw_cuda_of(d), "gather", gather<T>, grid_for<T>((size_t)n, dim), BLOCK, 0,
                              (T *)out, (const T *)(const void *)table->data, table->stride,
                              table->dims.n_out, dim, ids, n, first_id, accumulate);
    });
}

hw_status hw_cuda_select_rows(hw_device *d, void *out, const void *x, const int32_t *rows, int n, int dim)
{
    if (!n || !dim) return HW_OK;
    return hw_with_type(d->act, [&](auto number) {
        using T = decltype(number);
        return hw_cuda_launch(hw_cuda_of(d), "select_rows", select_rows<T>,
                              grid_for<T>((size_t)n, (size_t)dim), BLOCK, 0, (T *)out, (const T *)x, rows, n,
                              dim);
    });
}

hw_status hw_cuda_add_bias_residual(hw_device *d, void *x, const void *y, const float *bias, int n, int dim)
{
    if (!n || !dim) return HW_OK;
    return hw_with_type(d->act, [&](auto number) {
        using T = decltype(number);
        return hw_cuda_launch(hw_cuda_of(d), y ? "add_bias_residual" : "add_bias", add_bias_residual<T>,
                              grid_for<T>((size_t)n, (size_t)dim), BLOCK, 0, (T *)x, (const T *)y, bias, n,
                              dim);
    });
}

hw_status hw_cuda_activate_biased(hw_cuda_device *c, void *out, const void *x, const float *bias, int n_rows,
                                  int n, hw_activation act, bool gated)
{
    if (!n_rows || !n) return HW_OK;
    return hw_with_type(c->base.device.act, [&](auto number) {
        using T = decltype(number);
        return hw_cuda_launch(c, "activate", activate<T>, grid_for<T>((size_t)n_rows, (size_t)n), BLOCK, 0,
                              (T *)out, (const T *)x, bias, n_rows, n, act, gated);
    });
}

hw_status hw_cuda_activate(hw_device *d, void *out, const void *x, int n_rows, int n, hw_activation act,
                           bool gated)
{
    return hw_cuda_activate_biased(hw_cuda_of(d), out, x, nullptr, n_rows, n, act, gated);
}
