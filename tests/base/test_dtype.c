#include "runtime/base/dtype.h"

#include <criterion/criterion.h>
#include <math.h>

/* What a 16-bit format means, computed from its definition: value = significand * 2^exponent, in double,
 * where both are exact. */
static double value_of(unsigned bits, int mantissa_bits, int bias)
{
    int exponent_bits = 15 - mantissa_bits;
    unsigned e = bits >> mantissa_bits & ((1u << exponent_bits) - 1), m = bits & ((1u << mantissa_bits) - 1);
    double sign = bits & 0x8000 ? -1 : 1;
    if (e == (1u << exponent_bits) - 1) return m ? NAN : sign * INFINITY;
    double significand = e ? m + ldexp(1, mantissa_bits) : m;
    return sign * ldexp(significand, (e ? (int)e : 1) - bias - mantissa_bits);
}

static double f16_value(unsigned bits) { return value_of(bits, 10, 15); }
static double bf16_value(unsigned bits) { return value_of(bits, 7, 127); }
static float widen_bf16(uint16_t h) { return hw_bf16_to_f32(h); }
static uint16_t narrow_bf16(float f) { return hw_f32_to_bf16(f); }

typedef struct format {
    double (*value)(unsigned);
    float (*widen)(uint16_t);
    uint16_t (*narrow)(float);
    unsigned infinity;
} format;

static const format f16 = {f16_value, hw_f16_to_f32, hw_f32_to_f16, 0x7c00};
static const format bf16 = {bf16_value, widen_bf16, narrow_bf16, 0x7f80};

static void check_widening(format t)
{
    for (unsigned h = 0; h < 65536; h++) {
        double want = t.value(h);
        float got = t.widen((uint16_t)h);
        if (isnan(want)) cr_assert(isnan(got), "%#x", h);
        else cr_assert(got == want && !signbit(got) == !signbit(want), "%#x: %g, wanted %g", h, got, want);
    }
}

Test(dtype, every_float16_widens_to_its_value) { check_widening(f16); }
Test(dtype, every_bfloat16_widens_to_its_value) { check_widening(bf16); }

static void check_way_back(format t)
{
    for (unsigned h = 0; h < 65536; h++) {
        uint16_t back = t.narrow(t.widen((uint16_t)h));
        if (isnan(t.value(h))) cr_assert(isnan(t.value(back)), "%#x", h);
        else cr_assert_eq(back, h);
    }
}

Test(dtype, every_float16_survives_the_way_to_float32_and_back) { check_way_back(f16); }
Test(dtype, every_bfloat16_survives_the_way_to_float32_and_back) { check_way_back(bf16); }

/* All the decisions there are: between each value and the next larger one lies a middle, exact in float32,
 * which goes to the even one; the float32 on either side of the middle go to their own side. Infinity's place
 * is one step beyond the largest value. */
static void check_rounding(format t)
{
    for (unsigned h = 0; h < t.infinity; h++) {
        double below = t.value(h);
        double above = h + 1 < t.infinity ? t.value(h + 1) : 2 * below - t.value(h - 1);
        float middle = (float)((below + above) / 2);
        cr_assert_eq((double)middle, (below + above) / 2);
        for (unsigned sign = 0; sign <= 0x8000; sign += 0x8000) {
            float s = sign ? -1.0f : 1.0f;
            cr_assert_eq(t.narrow(s * middle), sign | (h & 1 ? h + 1 : h), "the middle above %#x", h);
            cr_assert_eq(t.narrow(s * nextafterf(middle, 0)), sign | h);
            cr_assert_eq(t.narrow(s * nextafterf(middle, INFINITY)), sign | (h + 1));
        }
    }
}

Test(dtype, float16_rounds_to_nearest_and_ties_to_even) { check_rounding(f16); }
Test(dtype, bfloat16_rounds_to_nearest_and_ties_to_even) { check_rounding(bf16); }

Test(dtype, far_too_large_is_infinity_and_nan_stays_nan)
{
    const float nans[] = {NAN, -NAN};
    cr_assert_eq(hw_f32_to_f16(3e38f), 0x7c00);
    cr_assert_eq(hw_f32_to_f16(-INFINITY), 0xfc00);
    cr_assert_eq(hw_f32_to_bf16(INFINITY), 0x7f80);
    for (int i = 0; i < 2; i++) {
        cr_assert(isnan(hw_f16_to_f32(hw_f32_to_f16(nans[i]))));
        cr_assert(isnan(hw_bf16_to_f32(hw_f32_to_bf16(nans[i]))));
    }
    /* NaNs whose payload lies only in the bits that are cut off must not turn into infinity. */
    const uint32_t low = 0x7f800001;
    float f;
    memcpy(&f, &low, sizeof f);
    cr_assert(isnan(hw_f16_to_f32(hw_f32_to_f16(f))));
    cr_assert(isnan(hw_bf16_to_f32(hw_f32_to_bf16(f))));
}

/* By hand: 1 is 3c00 and 3f80, -2.5 is c100 and c020, 2^-24 is 0001 and 3380; 1 + 2^-7 is one bfloat16 step
 * above 1. */
Test(dtype, arrays_convert_between_any_two_formats_at_any_alignment)
{
    const float f[4] = {1, -2.5f, 0x1p-24f, 1 + 0x1p-7f};
    const uint16_t halves[4] = {0x3c00, 0xc100, 0x0001, 0x3c08}, brains[4] = {0x3f80, 0xc020, 0x3380, 0x3f81};
    const hw_dtype types[3] = {HW_F32, HW_F16, HW_BF16};
    const void *stored[3] = {f, halves, brains};
    for (int from = 0; from < 3; from++)
        for (int to = 0; to < 3; to++) {
            char src[32], dst[32];
            memset(dst, 0x55, sizeof dst);
            memcpy(src + 1, stored[from], 4 * hw_dtype_size(types[from]));
            hw_convert(dst + 3, types[to], src + 1, types[from], 4);
            cr_assert_arr_eq(dst + 3, stored[to], 4 * hw_dtype_size(types[to]));
            cr_assert_eq(dst[2], 0x55);
            cr_assert_eq(dst[3 + 4 * hw_dtype_size(types[to])], 0x55);
        }
}

Test(dtype, names_are_read_as_they_are_written)
{
    int known;
    for (hw_dtype t = HW_DTYPE_NONE; t <= HW_BF16; t++) {
        cr_assert_eq(hw_dtype_parse(hw_dtype_name(t), &known), t);
        cr_assert(known);
    }
    cr_assert_eq(hw_dtype_parse("half", &known), HW_F16);
    cr_assert_eq(hw_dtype_parse("float", &known), HW_F32);
    cr_assert_eq(hw_dtype_parse("float8", &known), HW_DTYPE_NONE);
    cr_assert_not(known);
    cr_assert_str_eq(hw_dtype_name(HW_U64), "uint64");
    cr_assert_str_eq(hw_dtype_name(HW_I32), "int32");
}

Test(dtype, sizes_are_those_of_the_formats)
{
    cr_assert_eq(hw_dtype_size(HW_DTYPE_NONE), 0);
    cr_assert_eq(hw_dtype_size(HW_F32), 4);
    cr_assert_eq(hw_dtype_size(HW_F16), 2);
    cr_assert_eq(hw_dtype_size(HW_BF16), 2);
    cr_assert_eq(hw_dtype_size(HW_U64), 8);
    cr_assert_eq(hw_dtype_size(HW_I32), 4);
}
