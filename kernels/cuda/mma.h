/* Device code: what tensor cores take and give, in 16-bit types. A warp multiplies together; its lanes hold
 * parts of the matrices. Every function has a plain equivalent with the same result (but for the order of the
 * additions), for hosts that have no such instruction. Sizes are in elements unless said otherwise.
 *
 * With g = lane / 4 and t = lane % 4, and two neighbouring elements in 32 bits (PTX ISA, mma.m16n8k16):
 *   A [16, 16]  a[0], a[2]: row g, columns 2t and 2t + 8 on;  a[1], a[3]: the same of row g + 8
 *   B [16, 8]   b[0], b[1]: column g, rows 2t and 2t + 8 on
 *   C [16, 8]   c[0], c[1]: row g, columns 2t, 2t + 1;  c[2], c[3]: the same of row g + 8 */
#ifndef HW_KERNELS_CUDA_MMA_H
#define HW_KERNELS_CUDA_MMA_H

#include "kernels/cuda/numbers.h"

template <typename T> static __device__ inline uint32_t hw_pair(float low, float high)
{
    T a, b;
    hw_set(&a, low);
    hw_set(&b, high);
    return (uint32_t)a.bits | (uint32_t)b.bits << 16;
}

#ifdef __CUDA_ARCH__

/* C += A B */
static __device__ inline void hw_mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, hw_bf16)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
static __device__ inline void hw_mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, hw_f16)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ inline uint32_t hw_shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Four matrices [8, 8] from shared memory. Lane 8 m + r says where row r of matrix m lies, on a 16-byte
 * boundary. to[m]: row g, columns 2t and 2t + 1; transposed: rows 2t and 2t + 1 of column g. */
template <bool TRANSPOSED> static __device__ inline void hw_load_matrices(uint32_t (&to)[4], const void *row)
{
    const uint32_t at = hw_shared_address(row);
    if (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(at)
                     : "memory");
}

/* Starts copying 16 bytes from global to shared memory, or zeros when they are not wanted. What was started
 * up to a call of hw_commit_copies is a group; hw_wait_copies<N> waits for all groups but the last N. Other
 * threads see what was copied after a barrier. */
static __device__ inline void hw_copy_async(void *to, const void *from, bool wanted)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(hw_shared_address(to)), "l"(from),
                 "r"(wanted ? 16 : 0)
                 : "memory");
}
static __device__ inline void hw_commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> static __device__ inline void hw_wait_copies()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#else

template <typename T> static __device__ inline float hw_half_of(uint64_t halves, int i)
{
    return hw_get(T{(uint16_t)(halves >> 16 * i)});
}

template <typename T>
static __device__ inline void hw_mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, T)
{
    const int lane = (int)threadIdx.x % HW_WARP, g = lane / 4, t = lane % 4;
    for (int q = 0; q < 4; q++) { /* the lanes that have columns (of A) or rows (of B) 2q, 2q + 1, and 8 on */
        const uint64_t upper = __shfl_sync(HW_ALL_LANES, a[0] | (uint64_t)a[2] << 32, 4 * g + q),
                       lower = __shfl_sync(HW_ALL_LANES, a[1] | (uint64_t)a[3] << 32, 4 * g + q),
                       left = __shfl_sync(HW_ALL_LANES, b0 | (uint64_t)b1 << 32, 8 * t + q),
                       right = __shfl_sync(HW_ALL_LANES, b0 | (uint64_t)b1 << 32, 8 * t + 4 + q);
        for (int i = 0; i < 4; i++) {
            c[0] += hw_half_of<T>(upper, i) * hw_half_of<T>(left, i);
            c[1] += hw_half_of<T>(upper, i) * hw_half_of<T>(right, i);
            c[2] += hw_half_of<T>(lower, i) * hw_half_of<T>(left, i);
            c[3] += hw_half_of<T>(lower, i) * hw_half_of<T>(right, i);
        }
    }
}

template <bool TRANSPOSED> static __device__ inline void hw_load_matrices(uint32_t (&to)[4], const void *row)
{
    const int lane = (int)threadIdx.x % HW_WARP, g = lane / 4, t = lane % 4;
    for (int m = 0; m < 4; m++) {
        const uint16_t *first =
            (const uint16_t *)__shfl_sync(HW_ALL_LANES, (uint64_t)row, 8 * m + (TRANSPOSED ? 2 * t : g));
        const uint16_t *second =
            TRANSPOSED ? (const uint16_t *)__shfl_sync(HW_ALL_LANES, (uint64_t)row, 8 * m + 2 * t + 1)
                       : first;
        to[m] = TRANSPOSED ? first[g] | (uint32_t)second[g] << 16
                           : first[2 * t] | (uint32_t)first[2 * t + 1] << 16;
    }
}

static __device__ inline void hw_copy_async(void *to, const void *from, bool wanted)
{
    uint4 raw = {};
    if (wanted) raw = *reinterpret_cast<const uint4 *>(from);
    *reinterpret_cast<uint4 *>(to) = raw;
}
static __device__ inline void hw_commit_copies() {}
template <int N> static __device__ inline void hw_wait_copies() {}

#endif

#endif
