/* simd.h in plain C, for processors that the other two do not know. Where there is no fused multiply-add,
 * fmaf is a call: right, but slow. */
#ifndef HW_KERNELS_CPU_SIMD_GENERIC_H
#define HW_KERNELS_CPU_SIMD_GENERIC_H

#include <math.h>

#define HW_SIMD_NAME generic
/* Tiles of matmul and attention, see the other two. */
#define HW_TILE_ROWS       4
#define HW_TILE_GROUPS     1
#define HW_TILE_CHAINS     1
#define HW_ATTN_TILE       3
#define HW_ATTN_TILE_LANES 2

/* The compilers' vector type: it becomes whatever registers there are, and arithmetic on it is lane by
 * lane. */
typedef float v16 __attribute__((vector_size(64)));
typedef int32_t v16_int __attribute__((vector_size(64)));
typedef uint32_t v16_bits __attribute__((vector_size(64)));

#define V16_LANES(expression)                                                                                \
    v16 r;                                                                                                   \
    for (int i = 0; i < HW_LANES; i++) r[i] = (expression);                                                  \
    return r

HW_INLINE v16 v16_set1(float f) { return f - (v16){0}; }
HW_INLINE v16 v16_load_n(const float *p, int n)
{
    v16 r = {0};
    memcpy(&r, p, (size_t)n * sizeof *p);
    return r;
}
HW_INLINE void v16_store_n(float *p, v16 v, int n) { memcpy(p, &v, (size_t)n * sizeof *p); }
HW_INLINE v16 v16_load(const float *p) { return v16_load_n(p, HW_LANES); }
HW_INLINE void v16_store(float *p, v16 v) { v16_store_n(p, v, HW_LANES); }
HW_INLINE v16 v16_keep_n(v16 v, int n) { V16_LANES(i < n ? v[i] : 0.0f); }

/* x where the mask's lanes are all ones, y where they are 0. */
HW_INLINE v16 v16_pick(v16_int mask, v16 x, v16 y)
{
    return (v16)((mask & (v16_int)x) | (~mask & (v16_int)y));
}
HW_INLINE v16 v16_add(v16 a, v16 b) { return a + b; }
HW_INLINE v16 v16_sub(v16 a, v16 b) { return a - b; }
HW_INLINE v16 v16_mul(v16 a, v16 b) { return a * b; }
HW_INLINE v16 v16_div(v16 a, v16 b) { return a / b; }
HW_INLINE v16 v16_sqrt(v16 a) { V16_LANES(sqrtf(a[i])); }
HW_INLINE v16 v16_fma(v16 a, v16 b, v16 c) { V16_LANES(fmaf(a[i], b[i], c[i])); }
HW_INLINE v16 v16_min(v16 a, v16 b) { return v16_pick(a < b, a, b); }
HW_INLINE v16 v16_max(v16 a, v16 b) { return v16_pick(a > b, a, b); }
HW_INLINE v16 v16_abs(v16 a) { return (v16)((v16_int)a & 0x7fffffff); }
HW_INLINE v16 v16_pick_lt(v16 a, v16 b, v16 x, v16 y) { return v16_pick(a < b, x, y); }
/* NaN has no exponent to give; what multiplies the result is NaN already. */
HW_INLINE v16 v16_pow2(v16 n)
{
    n = v16_pick(n == n, n, (v16){0});
    return (v16)(((v16_bits) __builtin_convertvector(n, v16_int) + 127u) << 23);
}
HW_INLINE unsigned v16_any_not_less(v16 a, v16 limit)
{
    unsigned mask = 0;
    for (int i = 0; i < HW_LANES; i++) mask |= (unsigned)!(a[i] < limit[i]) << i;
    return mask;
}

HW_INLINE uint16_t v16_half_at(const void *p, int i)
{
    uint16_t h;
    memcpy(&h, (const char *)p + (size_t)i * sizeof h, sizeof h);
    return h;
}
HW_INLINE v16 v16_bf16_even(v16 pairs) { return (v16)((v16_bits)pairs << 16); }
HW_INLINE v16 v16_bf16_odd(v16 pairs) { return (v16)((v16_bits)pairs & 0xffff0000u); }
HW_INLINE v16 v16_load_bf16_n(const void *p, int n)
{
    V16_LANES(i < n ? hw_bf16_to_f32(v16_half_at(p, i)) : 0.0f);
}
HW_INLINE v16 v16_load_f16_n(const void *p, int n)
{
    V16_LANES(i < n ? hw_f16_to_f32(v16_half_at(p, i)) : 0.0f);
}
HW_INLINE v16 v16_load_bf16(const void *p) { return v16_load_bf16_n(p, HW_LANES); }
HW_INLINE v16 v16_load_f16(const void *p) { return v16_load_f16_n(p, HW_LANES); }
HW_INLINE void v16_store_bf16_n(void *p, v16 v, int n)
{
    uint16_t h[HW_LANES];
    for (int i = 0; i < n; i++) h[i] = hw_f32_to_bf16(v[i]);
    memcpy(p, h, (size_t)n * sizeof *h);
}
HW_INLINE void v16_store_f16_n(void *p, v16 v, int n)
{
    uint16_t h[HW_LANES];
    for (int i = 0; i < n; i++) h[i] = hw_f32_to_f16(v[i]);
    memcpy(p, h, (size_t)n * sizeof *h);
}

HW_INLINE void v16_store_upper_2(void *p, v16 a, v16 b)
{
    uint16_t h[2 * HW_LANES];
    for (int i = 0; i < HW_LANES; i++) {
        h[i] = (uint16_t)(((v16_bits)a)[i] >> 16);
        h[HW_LANES + i] = (uint16_t)(((v16_bits)b)[i] >> 16);
    }
    memcpy(p, h, sizeof h);
}
HW_INLINE void v16_stream(float *p, v16 v) { v16_store(p, v); }
HW_INLINE void v16_stream_end(void) {}

HW_INLINE void v16_turn(v16 r[16])
{
    for (int i = 0; i < HW_LANES; i++)
        for (int j = 0; j < i; j++) {
            float swapped = r[i][j];
            r[i][j] = r[j][i], r[j][i] = swapped;
        }
}

HW_INLINE float v16_sum(v16 v)
{
    for (int half = HW_LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) v[i] = v[i] + v[i + half];
    return v[0];
}
HW_INLINE float v16_max_lane(v16 v)
{
    for (int half = HW_LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) v[i] = v[i] > v[i + half] ? v[i] : v[i + half];
    return v[0];
}

#undef V16_LANES

#endif
