/* exp and erf on sixteen lanes, made of lane operations only, so that they give the same bits on every
 * instruction set and need no scalar version for tails. The coefficients are our own Chebyshev fits in double,
 * rounded to float32. */
#ifndef HW_KERNELS_CPU_VMATH_H
#define HW_KERNELS_CPU_VMATH_H

#include "kernels/cpu/simd.h"

/* The integer nearest to x, |x| < 2^22: adding 1.5 * 2^23 leaves no bits for a fraction. */
HW_INLINE v16 v16_round(v16 x)
{
    const v16 magic = v16_set1(0x1.8p23f);
    return v16_sub(v16_add(x, magic), magic);
}

/* x * 2^n, rounded once, for integers n in -252 .. 254 and x near 1. Without an instruction for it, 2^n is applied as two
 * factors, since n reaches -150; the first product is exact. */
HW_INLINE v16 v16_scale(v16 x, v16 n)
{
#if defined(HW_SIMD_AVX512)
    return _mm512_scalef_ps(x, n);
#else
    v16 half = v16_round(v16_mul(n, v16_set1(0.5f)));
    return v16_mul(v16_mul(x, v16_pow2(half)), v16_pow2(v16_sub(n, half)));
#endif
}

/* Within 1.1 ulp. Below -104 it is 0 (the true value rounds to 0), above 88.73 infinity; results under 2^-126
 * are rounded once. exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln(2) / 2. For inputs below -104, such as attention's
 * masked keys, exp(0) is computed and discarded: a result that underflows takes processors a hundred cycles and more. */
HW_INLINE v16 v16_exp(v16 x)
{
    static const float c[5] = {0x1p-1f, 0x1.5554dcp-3f, 0x1.5554e8p-5f, 0x1.120be8p-7f, 0x1.6d43b4p-10f};
    const v16 least = v16_set1(-104.0f), given = x;
    x = v16_min(v16_set1(89.0f), v16_pick_lt(given, least, v16_zero(), given));
    v16 n = v16_round(v16_mul(x, v16_set1(0x1.715476p0f)));
    v16 r = v16_fma(n, v16_set1(-0x1.62e4p-1f), x); /* ln 2 in two parts; the first has trailing zeros */
    r = v16_fma(n, v16_set1(-0x1.7f7d1cp-20f), r);
    v16 p = v16_set1(c[4]);
    for (int i = 3; i >= 0; i--) p = v16_fma(p, r, v16_set1(c[i]));
    p = v16_add(v16_fma(v16_mul(p, r), r, r), v16_set1(1.0f));
    return v16_pick_lt(given, least, v16_zero(), v16_scale(p, n));
}

/* Within 1.2e-7. An odd polynomial below 1; above it 1 - exp(g(|z| - 1)), where g fits log(erfc), up to 4.1,
 * from where erf is 1. */
HW_INLINE v16 v16_erf(v16 z)
{
    static const float near[7] = {1.1283791065216064f,   -0.3761262595653534f,  0.11283597350120544f,
                                  -0.02685432881116867f, 0.005189312156289816f, -0.0008018855005502701f,
                                  7.882497448008507e-05f};
    static const float far[9] = {-1.8496055603027344f,   -2.638967275619507f,    -0.8431081771850586f,
                                 -0.04156641289591789f,  0.010065325535833836f,  -0.002045216504484415f,
                                 0.0003165747912134975f, -3.21910047205165e-05f, 1.5714821302026394e-06f};
    v16 a = v16_abs(z), z2 = v16_mul(z, z), one = v16_set1(1.0f);
    v16 p = v16_set1(near[6]);
    for (int i = 5; i >= 0; i--) p = v16_fma(p, z2, v16_set1(near[i]));
    v16 t = v16_min(v16_set1(3.1f), v16_sub(a, one)), g = v16_set1(far[8]);
    for (int i = 7; i >= 0; i--) g = v16_fma(g, t, v16_set1(far[i]));
    v16 tail = v16_sub(one, v16_exp(g));
    tail = v16_pick_lt(z, v16_zero(), v16_sub(v16_zero(), tail), tail);
    return v16_pick_lt(a, one, v16_mul(p, z), tail);
}

#endif
