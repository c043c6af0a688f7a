/* Device code that the kernels share: stored number formats, 16-byte loads and stores, sums over a warp and
 * over a block. Arithmetic is float32; 16-bit formats are for keeping. */
#ifndef HW_KERNELS_CUDA_NUMBERS_H
#define HW_KERNELS_CUDA_NUMBERS_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>

#include "kernels/kernels.h"

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
static __device__ inline void hw_set(hw_bf16 *to, float x)
{
    to->bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
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

/* The same for what no kernel writes and nobody reads again soon: it leaves the caches to others. */
template <typename T> static __device__ inline hw_pack<T> hw_load_once(const T *from)
{
    uint4 raw;
#ifdef __CUDA_ARCH__
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(raw.x), "=r"(raw.y), "=r"(raw.z), "=r"(raw.w)
                 : "l"(from));
#else
    raw = *reinterpret_cast<const uint4 *>(from);
#endif
    hw_pack<T> pack;
    memcpy(&pack, &raw, sizeof pack);
    return pack;
}

template <typename T> static __device__ inline void hw_store_pack(T *to, hw_pack<T> pack)
{
    uint4 raw;
    memcpy(&raw, &pack, sizeof raw);
    *reinterpret_cast<uint4 *>(to) = raw;
}

/* ---- a pack of a row [n] as float32. `packed`: rows are whole packs and begin on 16-byte boundaries;
 * otherwise what is past the end of the row is zeros, or not stored */

template <typename T>
static __device__ inline void hw_load_row(float *to, const T *row, size_t i, size_t n, bool packed)
{
    enum { N = hw_pack<T>::N };
    if (packed) {
        const hw_pack<T> pack = hw_load_pack(row + i);
        for (int k = 0; k < N; k++) to[k] = hw_get(pack.at[k]);
    } else {
        for (int k = 0; k < N; k++) to[k] = i + (size_t)k < n ? hw_get(row[i + (size_t)k]) : 0.0f;
    }
}

template <typename T>
static __device__ inline void hw_store_row(T *row, size_t i, size_t n, bool packed, const float *x)
{
    enum { N = hw_pack<T>::N };
    if (packed) {
        hw_pack<T> pack;
        for (int k = 0; k < N; k++) hw_set(&pack.at[k], x[k]);
        hw_store_pack(row + i, pack);
    } else {
        for (int k = 0; k < N && i + (size_t)k < n; k++) hw_set(row + i + k, x[k]);
    }
}

/* Whether rows of n are packs, for buffers that begin on 16-byte boundaries. */
template <typename T> static inline HW_EVERYWHERE bool hw_is_packed(size_t n)
{
    return n % (size_t)hw_pack<T>::N == 0;
}

/* Calls f with a value of the C++ type of a stored format. */
template <typename F> static inline auto hw_with_type(hw_dtype type, F f)
{
    if (type == HW_F32) return f(float{});
    if (type == HW_F16) return f(hw_f16{});
    return f(hw_bf16{});
}

/* ---- where a kernel begins. A kernel may be started while the one before it still runs: it lets the one
 * after it be started too, and waits until all that came before is done and can be read. What no kernel
 * writes (weights) may be read before. Kernels for older GPUs do not wait, so they must not be started before the one
 * before them has ended (settle_overlap in device.cu). */

#define HW_OLDEST_OVERLAPPING 90

static __device__ inline void hw_let_next_start()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= HW_OLDEST_OVERLAPPING * 10
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

static __device__ inline void hw_wait_for_previous()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= HW_OLDEST_OVERLAPPING * 10
    asm volatile("griddepcontrol.wait;" ::: "memory");
#elif !defined(__CUDACC__)
    hw_simt_wait_for_previous();
#endif
}

static __device__ inline void hw_begin()
{
    hw_let_next_start();
    hw_wait_for_previous();
}

/* Tells the memory that the line at `p` will be wanted. */
static __device__ inline void hw_prefetch(const void *p)
{
#ifdef __CUDA_ARCH__
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
#else
    (void)p;
#endif
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
