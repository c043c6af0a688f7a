/* simd.h in AVX-512 (F, BW, DQ, VL). */
#ifndef HW_KERNELS_CPU_SIMD_AVX512_H
#define HW_KERNELS_CPU_SIMD_AVX512_H

#include <immintrin.h>

#define HW_SIMD_NAME avx512
/* A matmul tile: rows, output groups, and how many of the two chains of a block are summed side by side.
 * Their accumulators take 24 of the 32 registers. */
#define HW_TILE_ROWS   6
#define HW_TILE_GROUPS 2
#define HW_TILE_CHAINS 2
/* The same for attention: queries, and registers of keys or of elements of a value. */
#define HW_ATTN_TILE       6
#define HW_ATTN_TILE_LANES 4

typedef __m512 v16;

HW_INLINE __mmask16 v16_mask(int n) { return (__mmask16)((1u << n) - 1); }

HW_INLINE v16 v16_set1(float f) { return _mm512_set1_ps(f); }
HW_INLINE v16 v16_load(const float *p) { return _mm512_loadu_ps(p); }
HW_INLINE void v16_store(float *p, v16 v) { _mm512_storeu_ps(p, v); }
HW_INLINE v16 v16_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(v16_mask(n), p); }
HW_INLINE void v16_store_n(float *p, v16 v, int n) { _mm512_mask_storeu_ps(p, v16_mask(n), v); }
HW_INLINE v16 v16_keep_n(v16 v, int n) { return _mm512_maskz_mov_ps(v16_mask(n), v); }

HW_INLINE v16 v16_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
HW_INLINE v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
HW_INLINE v16 v16_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
HW_INLINE v16 v16_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
HW_INLINE v16 v16_sqrt(v16 a) { return _mm512_sqrt_ps(a); }
HW_INLINE v16 v16_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
HW_INLINE v16 v16_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
HW_INLINE v16 v16_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
HW_INLINE v16 v16_abs(v16 a) { return _mm512_abs_ps(a); }
HW_INLINE v16 v16_pick_lt(v16 a, v16 b, v16 x, v16 y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
HW_INLINE v16 v16_pow2(v16 n)
{
    __m512i e = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(e, 23));
}
HW_INLINE unsigned v16_any_not_less(v16 a, v16 limit) { return _mm512_cmp_ps_mask(a, limit, _CMP_NLT_UQ); }

HW_INLINE v16 v16_bf16_even(v16 pairs)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pairs), 16));
}
HW_INLINE v16 v16_bf16_odd(v16 pairs)
{
    __m512i high = _mm512_set1_epi32((int)0xffff0000);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs), high));
}

HW_INLINE v16 v16_widen_bf16(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
HW_INLINE v16 v16_load_bf16(const void *p) { return v16_widen_bf16(_mm256_loadu_si256((const __m256i *)p)); }
HW_INLINE v16 v16_load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
HW_INLINE v16 v16_load_bf16_n(const void *p, int n)
{
    return v16_widen_bf16(_mm256_maskz_loadu_epi16(v16_mask(n), p));
}
HW_INLINE v16 v16_load_f16_n(const void *p, int n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v16_mask(n), p));
}
HW_INLINE void v16_store_bf16_n(void *p, v16 v, int n)
{
    __m512i u = _mm512_castps_si512(v), one = _mm512_set1_epi32(1);
    __m512i tie = _mm512_and_si512(_mm512_srli_epi32(u, 16), one);
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), tie), 16);
    __m512i nan = _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
    r = _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), nan);
    _mm256_mask_storeu_epi16(p, v16_mask(n), _mm512_cvtepi32_epi16(r));
}
HW_INLINE void v16_store_f16_n(void *p, v16 v, int n)
{
    _mm256_mask_storeu_epi16(p, v16_mask(n),
                             _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

HW_INLINE void v16_store_upper_2(void *p, v16 a, v16 b)
{
    const __m512i odd = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31,
                                         29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    _mm512_storeu_si512(p, _mm512_permutex2var_epi16(_mm512_castps_si512(a), odd, _mm512_castps_si512(b)));
}
HW_INLINE void v16_stream(float *p, v16 v) { _mm512_stream_ps(p, v); }
HW_INLINE void v16_stream_end(void) { _mm_sfence(); }

HW_INLINE void v16_turn(v16 r[16])
{
    __m512 a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) /* b[i + j]: lanes 4 n + j of rows i .. i + 3, in the n-th quarter */
        for (int j = 0; j < 2; j++) {
            __m512d low = _mm512_castps_pd(a[i + j]), high = _mm512_castps_pd(a[i + j + 2]);
            b[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            b[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    for (int j = 0; j < 4; j++) {
        __m512 even_low = _mm512_shuffle_f32x4(b[j], b[j + 4], 0x88);
        __m512 even_high = _mm512_shuffle_f32x4(b[j + 8], b[j + 12], 0x88);
        __m512 odd_low = _mm512_shuffle_f32x4(b[j], b[j + 4], 0xdd);
        __m512 odd_high = _mm512_shuffle_f32x4(b[j + 8], b[j + 12], 0xdd);
        r[j] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
        r[j + 4] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
        r[j + 8] = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
        r[j + 12] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
    }
}

/* See v16_sum in simd.h: lanes i and i + 8 are added already. */
HW_INLINE float v16_sum8(__m256 v)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
HW_INLINE float v16_sum(v16 v)
{
    return v16_sum8(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}
HW_INLINE float v16_max8(__m256 v)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
HW_INLINE float v16_max_lane(v16 v)
{
    return v16_max8(_mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}

#endif
