/* Device code that the kernels share: stored number formats, 16-byte loads, sums over a warp and over a
 * block. Arithmetic is float32; 16-bit formats are for keeping. */
#ifndef HW_KERNELS_CUDA_NUMBERS_H
#define HW_KERNELS_CUDA_NUMBERS_H

#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>

#include "runtime/base/dtype.h"

enum { HW_WARP = 32 };
#define HW_ALL_LANES 0xffffffffu

/* The block's shared memory of the size that it was launched with. */
#ifdef __CUDACC__
#define HW_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#else
#define HW_DYNAMIC_SHARED(name) unsigned char *const name = hw_simt_dynamic_shared()
#endif

struct hw_bf16 {
    uint16_t bits;
};
struct hw_f16 {
    uint16_t bits;
};

static __device__ inline float hw_get(float x) { return x; }
static __device__ inline float hw_get(hw_bf16 x)
{
    uint32_t u = (uint32_t)x.bits << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static __device__ inline float hw_get(hw_f16 x) { return __half2float(__ushort_as_half(x.bits)); }

static __device__ inline void hw_set(float *to, float x) { *to = x; }
static __device__ inline void hw_set(hw_f16 *to, float x) { to->bits = __half_as_ushort(__float2half_rn(x)); }
/* Rounds as hw_f32_to_bf16 does. */
static __device__ inline void hw_set(hw_bf16 *to, float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) to->bits = (uint16_t)(u >> 16 | 0x40);
    else to->bits = (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* What one 16-byte load brings. */
template <typename T> struct hw_pack {
    enum { N = 16 / sizeof(T) };
    T at[N];
};

/* `from` is on a 16-byte boundary. */
template <typename T> static __device__ inline hw_pack<T> hw_load_pack(const T *from)
{
    uint4 raw = *reinterpret_cast<const uint4 *>(from);
    hw_pack<T> pack;
    memcpy(&pack, &raw, sizeof pack);
    return pack;
}

/* Calls f with a value of the C++ type of a stored format. */
template <typename F> static inline auto hw_with_type(hw_dtype type, F f)
{
    if (type == HW_F32) return f(float{});
    if (type == HW_F16) return f(hw_f16{});
    return f(hw_bf16{});
}

/* ---- over the lanes of a warp: every lane gets the result, added in the same order everywhere */

static __device__ inline float hw_warp_sum(float x)
{
    for (int step = HW_WARP / 2; step; step /= 2) x += __shfl_xor_sync(HW_ALL_LANES, x, step);
    return x;
}

static __device__ inline float hw_warp_max(float x)
{
    for (int step = HW_WARP / 2; step; step /= 2) x = fmaxf(x, __shfl_xor_sync(HW_ALL_LANES, x, step));
    return x;
}

/* ---- over the threads of a block of at most 1024; `shared` [32] is free for the next call when it returns */

template <typename T, typename Combine>
static __device__ inline T hw_block_reduce(T x, T nothing, T *shared, Combine combine)
{
    const unsigned lane = threadIdx.x % HW_WARP, warp = threadIdx.x / HW_WARP, n_warps = blockDim.x / HW_WARP;
    for (int step = HW_WARP / 2; step; step /= 2) x = combine(x, __shfl_xor_sync(HW_ALL_LANES, x, step));
    if (lane == 0) shared[warp] = x;
    __syncthreads();
    x = lane < n_warps ? shared[lane] : nothing;
    for (int step = HW_WARP / 2; step; step /= 2) x = combine(x, __shfl_xor_sync(HW_ALL_LANES, x, step));
    __syncthreads();
    return x;
}

static __device__ inline float hw_block_sum(float x, float *shared)
{
    return hw_block_reduce(x, 0.0f, shared, [](float a, float b) { return a + b; });
}

#endif
