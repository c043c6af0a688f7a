/* Products with a weight matrix. Few rows (decode) are a pass over the weights: a warp, or several, per
 * output. Many rows (prefill) go to cuBLASLt in float32; a 16-bit matrix is turned into float32 on the way,
 * a part at a time, as activations are float32. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/numbers.h"

namespace
{

enum { BLOCK = 256, WARPS = BLOCK / HW_WARP, FEW_ROWS = 8 };

/* Inputs k .. k + N - 1 of a row; those past the end are zeros. */
template <int N>
__device__ inline void load_inputs(float *to, const float *x, size_t k, size_t n_in, bool aligned)
{
    if (aligned && k + N <= n_in) {
        for (int i = 0; i < N; i += 4) {
            const float4 four = *reinterpret_cast<const float4 *>(x + k + i);
            to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
        }
    } else {
        for (int i = 0; i < N; i++) to[i] = k + (size_t)i < n_in ? x[k + (size_t)i] : 0.0f;
    }
}

/* y = W x (+ bias) for up to ROWS rows. `n_parts` warps (a power of two up to WARPS) share the inputs of an
 * output, and their sums are added in ascending order. `aligned`: every row of x begins on a 16-byte
 * boundary. */
template <typename T, int ROWS>
__global__ void __launch_bounds__(BLOCK)
    gemv(float *out, const float *x, const T *w, const float *bias, size_t n_in, size_t stride, size_t n_out,
         int n_rows, int n_parts, bool aligned)
{
    enum { N = hw_pack<T>::N };
    __shared__ float sums[WARPS][ROWS];
    const int lane = (int)threadIdx.x % HW_WARP, warp = (int)threadIdx.x / HW_WARP;
    const int part = warp % n_parts, outs_per_block = WARPS / n_parts;
    const size_t first_out = (size_t)blockIdx.x * (size_t)outs_per_block,
                 o = first_out + (size_t)(warp / n_parts);
    float sum[ROWS] = {};
    if (o < n_out) {
        const T *row = w + o * stride;
        const size_t step = (size_t)n_parts * HW_WARP * N;
#pragma unroll 4
        for (size_t k = ((size_t)part * HW_WARP + (size_t)lane) * N; k < n_in; k += step) {
            const hw_pack<T> pack = hw_load_pack(row + k);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                float in[N];
                load_inputs<N>(in, x + (size_t)(r < n_rows ? r : 0) * n_in, k, n_in, aligned);
#pragma unroll
                for (int i = 0; i < N; i++) sum[r] += hw_get(pack.at[i]) * in[i];
            }
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) sum[r] = hw_warp_sum(sum[r]);
    if (lane == 0)
        for (int r = 0; r < ROWS; r++) sums[warp][r] = sum[r];
    __syncthreads();
    const int t = (int)threadIdx.x, r = t / outs_per_block, mine = t % outs_per_block;
    const size_t to = first_out + (size_t)mine;
    if (r >= n_rows || to >= n_out) return;
    float total = 0;
    for (int p = 0; p < n_parts; p++) total += sums[mine * n_parts + p][r];
    out[(size_t)r * n_out + to] = bias ? total + bias[to] : total;
}

/* Several warps share an output where there are too few outputs to keep all multiprocessors busy, as long
 * as each has something to do. */
int parts_for(const hw_cuda_device *c, size_t n_out, size_t n_in)
{
    const size_t wanted_warps = (size_t)c->n_multiprocessors * 4 * WARPS;
    int parts = 1;
    while (parts < WARPS && n_out * (size_t)parts < wanted_warps && n_in >= (size_t)parts * 2 * HW_WARP * 8)
        parts *= 2;
    return parts;
}

template <typename T, int ROWS>
hw_status launch_gemv(hw_cuda_device *c, float *out, const float *x, const hw_weight *w, const float *bias,
                      int n)
{
    const int parts = parts_for(c, w->dims.n_out, w->dims.n_in);
    const bool aligned = w->dims.n_in % 4 == 0 && (uintptr_t)x % 16 == 0;
    return hw_cuda_launch(
        c, "gemv", gemv<T, ROWS>, dim3(hw_cuda_blocks(w->dims.n_out, (size_t)(WARPS / parts))), BLOCK, 0, out,
        x, (const T *)(const void *)w->data, bias, w->dims.n_in, w->stride, w->dims.n_out, n, parts, aligned);
}

hw_status few_rows(hw_cuda_device *c, float *out, const float *x, const hw_weight *w, const float *bias,
                   int n)
{
    return hw_with_type(w->dims.dtype, [&](auto number) {
        using T = decltype(number);
        if (n == 1) return launch_gemv<T, 1>(c, out, x, w, bias, n);
        if (n == 2) return launch_gemv<T, 2>(c, out, x, w, bias, n);
        if (n <= 4) return launch_gemv<T, 4>(c, out, x, w, bias, n);
        return launch_gemv<T, FEW_ROWS>(c, out, x, w, bias, n);
    });
}

/* Both are whole packs: rows of a weight are padded. */
template <typename T> __global__ void widen(float *wide, const T *w, size_t n_packs)
{
    enum { N = hw_pack<T>::N };
    for (size_t p = (size_t)blockIdx.x * blockDim.x + threadIdx.x; p < n_packs;
         p += (size_t)gridDim.x * blockDim.x) {
        const hw_pack<T> pack = hw_load_pack(w + p * N);
        for (int i = 0; i < N; i += 4)
            *reinterpret_cast<float4 *>(wide + p * N + i) = float4{
                hw_get(pack.at[i]), hw_get(pack.at[i + 1]), hw_get(pack.at[i + 2]), hw_get(pack.at[i + 3])};
    }
}

template <typename T>
hw_status launch_widen(hw_cuda_device *c, const hw_weight *w, size_t first_out, size_t n_out)
{
    const size_t n_packs = n_out * w->stride / hw_pack<T>::N;
    return hw_cuda_launch(c, "widen", widen<T>, dim3(hw_cuda_blocks(n_packs, BLOCK)), BLOCK, 0, c->wide,
                          (const T *)(const void *)w->data + first_out * w->stride, n_packs);
}

hw_status many_rows(hw_cuda_device *c, float *out, const float *x, const hw_weight *w, const float *bias,
                    size_t n)
{
    const size_t n_out = w->dims.n_out, n_in = w->dims.n_in;
    if (w->dims.dtype == HW_F32)
        return hw_cuda_blas_product(c, out, n_out, x, (const float *)(const void *)w->data, w->stride, bias,
                                    n, n_out, n_in);
    size_t fitting = HW_CUDA_WIDE_BYTES / sizeof(float) / w->stride;
    hw_status st = HW_OK;
    for (size_t first = 0; first < n_out && !st; first += fitting) {
        const size_t now = n_out - first < fitting ? n_out - first : fitting;
        st = w->dims.dtype == HW_BF16 ? launch_widen<hw_bf16>(c, w, first, now)
                                      : launch_widen<hw_f16>(c, w, first, now);
        if (!st)
            st = hw_cuda_blas_product(c, out + first, n_out, x, c->wide, w->stride,
                                      bias ? bias + first : nullptr, n, now, n_in);
    }
    return st;
}

} // namespace

/* A row of a 16-bit matrix that does not fit into the memory for widening, or a matrix without inputs, is
 * taken as few rows at a time. */
hw_status hw_cuda_matmul(hw_device *d, hw_stream *, void *out, const void *x, const hw_weight *w,
                         const float *bias, int n)
{
    hw_cuda_device *c = hw_cuda_of(d);
    const size_t n_out = w->dims.n_out, n_in = w->dims.n_in;
    const bool widens = w->dims.dtype == HW_F32 || w->stride <= HW_CUDA_WIDE_BYTES / sizeof(float);
    if (!n || !n_out) return HW_OK;
    if (n > FEW_ROWS && n_in && widens)
        return many_rows(c, (float *)out, (const float *)x, w, bias, (size_t)n);
    hw_status st = HW_OK;
    for (int r = 0; r < n && !st; r += FEW_ROWS)
        st = few_rows(c, (float *)out + (size_t)r * n_out, (const float *)x + (size_t)r * n_in, w, bias,
                      n - r < FEW_ROWS ? n - r : FEW_ROWS);
    return st;
}
