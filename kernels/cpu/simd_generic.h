/* simd.h in plain C, for processors that the other two do not know. */
#ifndef HW_KERNELS_CPU_SIMD_GENERIC_H
#define HW_KERNELS_CPU_SIMD_GENERIC_H

#include <math.h>

#define HW_SIMD_NAME generic
#define HW_TILE_ROWS 4

typedef struct v16 {
    float lane[HW_LANES];
} v16;

#define V16_LANES(expression)                                                                                \
    v16 r;                                                                                                   \
    for (int i = 0; i < HW_LANES; i++) r.lane[i] = (expression);                                             \
    return r

HW_INLINE v16 v16_set1(float f) { V16_LANES(f); }
HW_INLINE v16 v16_load(const float *p) { V16_LANES(p[i]); }
HW_INLINE void v16_store(float *p, v16 v) { memcpy(p, v.lane, sizeof v.lane); }
HW_INLINE v16 v16_load_n(const float *p, int n) { V16_LANES(i < n ? p[i] : 0.0f); }
HW_INLINE void v16_store_n(float *p, v16 v, int n) { memcpy(p, v.lane, (size_t)n * sizeof *p); }
HW_INLINE v16 v16_keep_n(v16 v, int n) { V16_LANES(i < n ? v.lane[i] : 0.0f); }

HW_INLINE v16 v16_add(v16 a, v16 b) { V16_LANES(a.lane[i] + b.lane[i]); }
HW_INLINE v16 v16_sub(v16 a, v16 b) { V16_LANES(a.lane[i] - b.lane[i]); }
HW_INLINE v16 v16_mul(v16 a, v16 b) { V16_LANES(a.lane[i] * b.lane[i]); }
HW_INLINE v16 v16_div(v16 a, v16 b) { V16_LANES(a.lane[i] / b.lane[i]); }
HW_INLINE v16 v16_sqrt(v16 a) { V16_LANES(sqrtf(a.lane[i])); }
HW_INLINE v16 v16_fma(v16 a, v16 b, v16 c) { V16_LANES(fmaf(a.lane[i], b.lane[i], c.lane[i])); }
HW_INLINE v16 v16_min(v16 a, v16 b) { V16_LANES(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]); }
HW_INLINE v16 v16_max(v16 a, v16 b) { V16_LANES(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
HW_INLINE v16 v16_abs(v16 a) { V16_LANES(fabsf(a.lane[i])); }
HW_INLINE v16 v16_pick_lt(v16 a, v16 b, v16 x, v16 y)
{
    V16_LANES(a.lane[i] < b.lane[i] ? x.lane[i] : y.lane[i]);
}
/* NaN has no exponent to give; what multiplies the result is NaN already. */
HW_INLINE v16 v16_pow2(v16 n)
{
    v16 r;
    for (int i = 0; i < HW_LANES; i++) {
        uint32_t u = n.lane[i] == n.lane[i] ? (uint32_t)((int32_t)n.lane[i] + 127) << 23 : 0;
        memcpy(&r.lane[i], &u, sizeof u);
    }
    return r;
}
HW_INLINE unsigned v16_any_not_less(v16 a, v16 limit)
{
    unsigned mask = 0;
    for (int i = 0; i < HW_LANES; i++) mask |= (unsigned)!(a.lane[i] < limit.lane[i]) << i;
    return mask;
}

HW_INLINE uint16_t v16_half_at(const void *p, int i)
{
    uint16_t h;
    memcpy(&h, (const char *)p + (size_t)i * sizeof h, sizeof h);
    return h;
}
HW_INLINE v16 v16_bf16_even(const void *line) { V16_LANES(hw_bf16_to_f32(v16_half_at(line, 2 * i))); }
HW_INLINE v16 v16_bf16_odd(const void *line) { V16_LANES(hw_bf16_to_f32(v16_half_at(line, 2 * i + 1))); }
HW_INLINE v16 v16_f16_even(const void *line) { V16_LANES(hw_f16_to_f32(v16_half_at(line, 2 * i))); }
HW_INLINE v16 v16_f16_odd(const void *line) { V16_LANES(hw_f16_to_f32(v16_half_at(line, 2 * i + 1))); }
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
    for (int i = 0; i < n; i++) h[i] = hw_f32_to_bf16(v.lane[i]);
    memcpy(p, h, (size_t)n * sizeof *h);
}
HW_INLINE void v16_store_f16_n(void *p, v16 v, int n)
{
    uint16_t h[HW_LANES];
    for (int i = 0; i < n; i++) h[i] = hw_f32_to_f16(v.lane[i]);
    memcpy(p, h, (size_t)n * sizeof *h);
}

#undef V16_LANES

#endif
