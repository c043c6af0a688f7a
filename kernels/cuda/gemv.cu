/* A pass over the weights for up to HW_GEMV_ROWS rows.
 *
 * Every block brings the rows into shared memory, normed on the way where that is asked for, padded with
 * zeros to whole packs like the rows of the matrix: all blocks do the same work there, which costs less
 * than a kernel of its own that they would wait for. Then a warp takes OUTS outputs at a time, with OUTS *
 * UNROLL 16-byte loads of weights in flight per thread, and multiplies them with all rows. Where there are
 * few outputs, several warps share the inputs of one and add their sums in ascending order. */
#include "kernels/cuda/gemv.h"

#include <algorithm>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/norm.h"

namespace
{

enum { BLOCK = 256, WARPS = BLOCK / HW_WARP };

/* Blocks that a multiprocessor has registers for at once. The grid is no larger: blocks that had to wait for
 * others to end would bring the rows again, and end alone. */
constexpr int resident(int n_rows) { return n_rows == 1 ? 3 : 2; }

/* As the kernel gets it. */
struct job {
    void *out;
    const void *x, *w;
    const float *bias;
    size_t n_in, stride, n_out; /* n_out: results per row; a gated one comes from outputs o and n_out + o */
    hw_norm norm;
    hw_activation act;
    int n_rows, n_parts; /* warps that share an output: a power of two up to WARPS */
    bool norms, activates, gated, adds, wide;
};

/* Rows of x, normed or not, into shared [n_rows, stride]. */
template <typename T> __device__ void bring_rows(T *to, const job &j, float *shared)
{
    enum { N = hw_pack<T>::N };
    const bool packed = hw_is_packed<T>(j.n_in);
    for (int r = 0; r < j.n_rows; r++) {
        const T *from = (const T *)j.x + (size_t)r * j.n_in;
        T *row = to + (size_t)r * j.stride;
        if (j.norms) hw_norm_row(row, from, j.norm, j.n_in, shared);
        for (size_t i = threadIdx.x * (size_t)N; i < j.n_in && !j.norms; i += BLOCK * N) {
            float x[N];
            hw_load_row(x, from, i, j.n_in, packed);
            hw_store_row(row, i, j.n_in, packed, x);
        }
        for (size_t i = j.n_in + threadIdx.x; i < j.stride; i += BLOCK) hw_set(row + i, 0.0f);
    }
    __syncthreads();
}

/* The row of the matrix that is number k of a warp's OUTS: outputs first .. and, gated, their partners. */
template <int OUTS> __device__ inline size_t weight_row(const job &j, size_t first, int k)
{
    const size_t o = first + (size_t)(j.gated ? k / 2 : k);
    return (o < j.n_out ? o : j.n_out - 1) + (j.gated && k % 2 ? j.n_out : 0);
}

/* Before the rows are there: the weights that this warp begins with are on their way. */
template <typename T, int OUTS, int UNROLL>
__device__ inline void prefetch(const job &j, size_t first, size_t k)
{
    if (first >= j.n_out) return;
    for (int o = 0; o < OUTS; o++)
        for (int u = 0; u < UNROLL; u++, k += HW_WARP * hw_pack<T>::N)
            if (k < j.stride) hw_prefetch((const T *)j.w + weight_row<OUTS>(j, first, o) * j.stride + k);
}

template <typename T, int ROWS, int OUTS, int UNROLL>
__device__ inline void multiply(float (&sum)[OUTS][ROWS], const job &j, const T *rows, size_t first, int part,
                                int lane)
{
    enum { N = hw_pack<T>::N, STEP = HW_WARP * N };
    const T *w[OUTS];
#pragma unroll
    for (int o = 0; o < OUTS; o++) w[o] = (const T *)j.w + weight_row<OUTS>(j, first, o) * j.stride;
    for (size_t k = (size_t)part * UNROLL * STEP + (size_t)lane * N; k < j.stride;
         k += (size_t)j.n_parts * UNROLL * STEP) {
        hw_pack<T> pack[UNROLL][OUTS];
#pragma unroll
        for (int u = 0; u < UNROLL; u++)
#pragma unroll
            for (int o = 0; o < OUTS; o++)
                if (k + (size_t)u * STEP < j.stride) pack[u][o] = hw_load_once(w[o] + k + (size_t)u * STEP);
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            if (k + (size_t)u * STEP >= j.stride) break;
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                const hw_pack<T> x =
                    hw_load_pack(rows + (size_t)(r < j.n_rows ? r : 0) * j.stride + k + (size_t)u * STEP);
#pragma unroll
                for (int i = 0; i < N; i++)
#pragma unroll
                    for (int o = 0; o < OUTS; o++) sum[o][r] += hw_get(pack[u][o].at[i]) * hw_get(x.at[i]);
            }
        }
    }
}

/* What happens to output o of row r: `y` is its sum, `up` its partner's. */
template <typename T> __device__ inline void finish(const job &j, size_t o, int r, float y, float up)
{
    const size_t at = (size_t)r * j.n_out + o;
    if (j.bias) y += j.bias[o];
    if (j.activates) y = hw_activation_of(y, j.act);
    if (j.gated) y *= j.bias ? up + j.bias[j.n_out + o] : up;
    if (j.wide) {
        ((float *)j.out)[at] = y;
        return;
    }
    T *to = (T *)j.out + at;
    hw_set(to, j.adds ? hw_get(*to) + y : y);
}

template <typename T, int ROWS, int OUTS, int UNROLL>
__global__ void __launch_bounds__(BLOCK, resident(ROWS)) gemv(job j)
{
    HW_DYNAMIC_SHARED(memory);
    __shared__ float shared[HW_WARP], sums[WARPS][HW_WARP], partners[WARPS][HW_WARP];
    T *rows = reinterpret_cast<T *>(memory);
    const int lane = (int)threadIdx.x % HW_WARP, warp = (int)threadIdx.x / HW_WARP, part = warp % j.n_parts;
    const size_t outs = j.gated ? OUTS / 2 : OUTS, groups = (size_t)(WARPS / j.n_parts), step = groups * outs;
    const size_t mine = (size_t)(warp / j.n_parts) * outs;
    hw_let_next_start();
    prefetch<T, OUTS, UNROLL>(j, blockIdx.x * step + mine,
                              ((size_t)part * UNROLL * HW_WARP + (size_t)lane) * hw_pack<T>::N);
    hw_wait_for_previous();
    bring_rows(rows, j, shared);
    for (size_t base = blockIdx.x * step; base < j.n_out; base += gridDim.x * step) {
        const size_t first = base + mine;
        float sum[OUTS][ROWS] = {}, y = 0, up = 0;
        if (first < j.n_out) multiply<T, ROWS, OUTS, UNROLL>(sum, j, rows, first, part, lane);
            /* Lane o * ROWS + r takes output o of row r. */
#pragma unroll
        for (int o = 0; o < OUTS; o++)
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                const float total = hw_warp_sum(sum[o][r]);
                if (!j.gated && lane == o * ROWS + r) y = total;
                if (j.gated && lane == o / 2 * ROWS + r) (o % 2 ? up : y) = total;
            }
        if (j.n_parts > 1) {
            sums[warp][lane] = y, partners[warp][lane] = up;
            __syncthreads();
            for (int p = 1; p < j.n_parts && part == 0; p++)
                y += sums[warp + p][lane], up += partners[warp + p][lane];
            __syncthreads();
        }
        const size_t o = first + (size_t)(lane / ROWS);
        if (part == 0 && lane < (int)outs * ROWS && o < j.n_out && lane % ROWS < j.n_rows)
            finish<T>(j, o, lane % ROWS, y, up);
    }
}

/* Several warps share an output where there are too few outputs to keep all multiprocessors busy, as long
 * as each has something to do. */
int parts_for(const hw_cuda_device *c, size_t n_groups, size_t n_steps)
{
    const size_t wanted = (size_t)c->n_multiprocessors * 2 * WARPS;
    int parts = 1;
    while (parts < WARPS && n_groups * (size_t)parts < wanted && n_steps >= (size_t)parts * 2) parts *= 2;
    return parts;
}

template <typename T, int ROWS, int OUTS, int UNROLL> hw_status launch(hw_cuda_device *c, job j)
{
    const size_t outs = j.gated ? OUTS / 2 : OUTS, n_groups = (j.n_out + outs - 1) / outs;
    const size_t n_bytes = (size_t)j.n_rows * j.stride * sizeof(T);
    j.n_parts = parts_for(c, n_groups, hw_cuda_blocks(j.stride, UNROLL * HW_WARP * hw_pack<T>::N));
    const unsigned wanted = hw_cuda_blocks(n_groups, (size_t)(WARPS / j.n_parts));
    const unsigned most = (unsigned)(c->n_multiprocessors * resident(ROWS));
    const char *name = j.norms  ? j.activates ? "gemv, normed and activated" : "gemv, normed"
                       : j.adds ? "gemv, added"
                                : "gemv";
    return hw_cuda_launch(c, name, gemv<T, ROWS, OUTS, UNROLL>, dim3(std::min(wanted, most)), BLOCK, n_bytes,
                          j);
}

} // namespace

bool hw_cuda_gemv_takes(const hw_cuda_device *c, const hw_weight *w, int n)
{
    return n <= HW_GEMV_ROWS &&
           w->stride <= c->most_shared_bytes / hw_dtype_size(w->dims.format.type) / (size_t)(n ? n : 1);
}

hw_status hw_cuda_gemv(hw_cuda_device *c, void *out, const void *x, const hw_weight *w, const hw_gemv *g,
                       int n)
{
    job j = {};
    j.out = out, j.x = x, j.w = w->data, j.bias = g->bias;
    j.n_in = w->dims.n_in, j.stride = w->stride, j.n_out = g->gated ? w->dims.n_out / 2 : w->dims.n_out;
    j.norms = g->norm != nullptr, j.activates = g->activates, j.gated = g->gated, j.adds = g->adds;
    j.wide = g->wide, j.act = g->act, j.n_rows = n;
    if (g->norm) j.norm = *g->norm;
    if (!n || !j.n_out) return HW_OK;
    return hw_with_type(w->dims.format.type, [&](auto number) {
        using T = decltype(number);
        if (n == 1) return launch<T, 1, 2, 4>(c, j);
        if (n == 2) return launch<T, 2, 4, 2>(c, j);
        if (n <= 4) return launch<T, 4, 4, 2>(c, j);
        return launch<T, HW_GEMV_ROWS, 4, 1>(c, j);
    });
}
