/* simd.h in AVX2 with FMA and F16C: two registers of eight lanes. */
#ifndef HW_KERNELS_CPU_SIMD_AVX2_H
#define HW_KERNELS_CPU_SIMD_AVX2_H

#include <immintrin.h>

#define HW_SIMD_NAME avx2
/* A matmul tile: rows, output groups, and how many of the two chains of a block are summed side by side.
 * Their accumulators take 12 of the 16 registers. */
#define HW_TILE_ROWS   6
#define HW_TILE_GROUPS 1
#define HW_TILE_CHAINS 1
/* The same for attention: queries, and vectors of keys or of elements of a value. */
#define HW_ATTN_TILE       3
#define HW_ATTN_TILE_LANES 2

typedef struct v16 {
    __m256 lo, hi;
} v16;

#define V16_2(op, a, b)    ((v16){op((a).lo, (b).lo), op((a).hi, (b).hi)})
#define V16_3(op, a, b, c) ((v16){op((a).lo, (b).lo, (c).lo), op((a).hi, (b).hi, (c).hi)})

HW_INLINE v16 v16_set1(float f) { return (v16){_mm256_set1_ps(f), _mm256_set1_ps(f)}; }
HW_INLINE v16 v16_load(const float *p) { return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
HW_INLINE void v16_store(float *p, v16 v)
{
    _mm256_storeu_ps(p, v.lo);
    _mm256_storeu_ps(p + 8, v.hi);
}

/* All ones in lanes below n. */
HW_INLINE __m256i v16_mask8(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
HW_INLINE v16 v16_load_n(const float *p, int n)
{
    return (v16){_mm256_maskload_ps(p, v16_mask8(n)), _mm256_maskload_ps(p + 8, v16_mask8(n - 8))};
}
HW_INLINE void v16_store_n(float *p, v16 v, int n)
{
    _mm256_maskstore_ps(p, v16_mask8(n), v.lo);
    _mm256_maskstore_ps(p + 8, v16_mask8(n - 8), v.hi);
}
HW_INLINE v16 v16_keep_n(v16 v, int n)
{
    return (v16){_mm256_and_ps(v.lo, _mm256_castsi256_ps(v16_mask8(n))),
                 _mm256_and_ps(v.hi, _mm256_castsi256_ps(v16_mask8(n - 8)))};
}

HW_INLINE v16 v16_add(v16 a, v16 b) { return V16_2(_mm256_add_ps, a, b); }
HW_INLINE v16 v16_sub(v16 a, v16 b) { return V16_2(_mm256_sub_ps, a, b); }
HW_INLINE v16 v16_mul(v16 a, v16 b) { return V16_2(_mm256_mul_ps, a, b); }
HW_INLINE v16 v16_div(v16 a, v16 b) { return V16_2(_mm256_div_ps, a, b); }
HW_INLINE v16 v16_sqrt(v16 a) { return (v16){_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
HW_INLINE v16 v16_fma(v16 a, v16 b, v16 c) { return V16_3(_mm256_fmadd_ps, a, b, c); }
HW_INLINE v16 v16_min(v16 a, v16 b) { return V16_2(_mm256_min_ps, a, b); }
HW_INLINE v16 v16_max(v16 a, v16 b) { return V16_2(_mm256_max_ps, a, b); }
HW_INLINE v16 v16_abs(v16 a)
{
    v16 sign = v16_set1(-0.0f);
    return (v16){_mm256_andnot_ps(sign.lo, a.lo), _mm256_andnot_ps(sign.hi, a.hi)};
}
HW_INLINE v16 v16_pick_lt(v16 a, v16 b, v16 x, v16 y)
{
    return (v16){_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
                 _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
HW_INLINE __m256 v16_pow2_8(__m256 n)
{
    __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(e, 23));
}
HW_INLINE v16 v16_pow2(v16 n) { return (v16){v16_pow2_8(n.lo), v16_pow2_8(n.hi)}; }
HW_INLINE unsigned v16_any_not_less(v16 a, v16 limit)
{
    int lo = _mm256_movemask_ps(_mm256_cmp_ps(a.lo, limit.lo, _CMP_NLT_UQ));
    int hi = _mm256_movemask_ps(_mm256_cmp_ps(a.hi, limit.hi, _CMP_NLT_UQ));
    return (unsigned)lo | (unsigned)hi << 8;
}

HW_INLINE v16 v16_bf16_even(v16 pairs)
{
    return (v16){_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(pairs.lo), 16)),
                 _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(pairs.hi), 16))};
}
HW_INLINE v16 v16_bf16_odd(v16 pairs)
{
    __m256 high = _mm256_castsi256_ps(_mm256_set1_epi32((int)0xffff0000));
    return (v16){_mm256_and_ps(pairs.lo, high), _mm256_and_ps(pairs.hi, high)};
}
/* Eight 32-bit lanes below 2^16, as eight 16-bit ones. */
HW_INLINE __m128i v16_narrow(__m256i v)
{
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0x08);
    return _mm256_castsi256_si128(packed);
}

HW_INLINE __m256 v16_widen_bf16(__m128i h)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
HW_INLINE v16 v16_load_bf16(const void *p)
{
    const __m128i *h = (const __m128i *)p;
    return (v16){v16_widen_bf16(_mm_loadu_si128(h)), v16_widen_bf16(_mm_loadu_si128(h + 1))};
}
HW_INLINE v16 v16_load_f16(const void *p)
{
    const __m128i *h = (const __m128i *)p;
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}
/* AVX2 masks no 16-bit lanes, so the few there are go through memory. */
HW_INLINE v16 v16_load_bf16_n(const void *p, int n)
{
    uint16_t lane[HW_LANES] = {0};
    memcpy(lane, p, (size_t)n * sizeof *lane);
    return v16_load_bf16(lane);
}
HW_INLINE v16 v16_load_f16_n(const void *p, int n)
{
    uint16_t lane[HW_LANES] = {0};
    memcpy(lane, p, (size_t)n * sizeof *lane);
    return v16_load_f16(lane);
}
HW_INLINE __m128i v16_round_bf16(__m256 v)
{
    __m256i u = _mm256_castps_si256(v), high = _mm256_srli_epi32(u, 16);
    __m256i tie = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i r = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), tie), 16);
    __m256i nan = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    return v16_narrow(_mm256_blendv_epi8(r, nan, is_nan));
}
HW_INLINE void v16_store_bf16_n(void *p, v16 v, int n)
{
    __m128i lane[2] = {v16_round_bf16(v.lo), v16_round_bf16(v.hi)};
    memcpy(p, lane, (size_t)n * sizeof(uint16_t));
}
HW_INLINE void v16_store_f16_n(void *p, v16 v, int n)
{
    __m128i lane[2] = {_mm256_cvtps_ph(v.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                       _mm256_cvtps_ph(v.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
    memcpy(p, lane, (size_t)n * sizeof(uint16_t));
}

HW_INLINE void v16_store_upper_2(void *p, v16 a, v16 b)
{
    const __m256 parts[4] = {a.lo, a.hi, b.lo, b.hi};
    for (int i = 0; i < 4; i++)
        _mm_storeu_si128((__m128i *)p + i, v16_narrow(_mm256_srli_epi32(_mm256_castps_si256(parts[i]), 16)));
}
HW_INLINE void v16_stream(float *p, v16 v)
{
    _mm256_stream_ps(p, v.lo);
    _mm256_stream_ps(p + 8, v.hi);
}
HW_INLINE void v16_stream_end(void) { _mm_sfence(); }

/* Eight rows of eight lanes. */
HW_INLINE void v16_turn8(__m256 r[8])
{
    __m256 a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0x44);
            b[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0xee);
        }
    for (int j = 0; j < 4; j++) {
        r[j] = _mm256_permute2f128_ps(b[j], b[j + 4], 0x20);
        r[j + 4] = _mm256_permute2f128_ps(b[j], b[j + 4], 0x31);
    }
}
HW_INLINE void v16_turn(v16 r[16])
{
    __m256 quarter[4][8]; /* rows below 8 and above by lanes below 8 and above */
    for (int i = 0; i < 16; i++) quarter[i / 8][i % 8] = r[i].lo, quarter[2 + i / 8][i % 8] = r[i].hi;
    for (int i = 0; i < 4; i++) v16_turn8(quarter[i]);
    for (int i = 0; i < 16; i++) r[i] = (v16){quarter[i / 8 * 2][i % 8], quarter[i / 8 * 2 + 1][i % 8]};
}

/* See v16_sum in simd.h: lanes i and i + 8 are added already. */
HW_INLINE float v16_sum8(__m256 v)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
HW_INLINE float v16_sum(v16 v) { return v16_sum8(_mm256_add_ps(v.lo, v.hi)); }
HW_INLINE float v16_max8(__m256 v)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
HW_INLINE float v16_max_lane(v16 v) { return v16_max8(_mm256_max_ps(v.lo, v.hi)); }

#undef V16_2
#undef V16_3

#endif
