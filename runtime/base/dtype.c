#include "runtime/base/dtype.h"

#include <assert.h>

const char *hw_dtype_name(hw_dtype t)
{
    switch (t) {
    case HW_F32: return "float32";
    case HW_F16: return "float16";
    case HW_BF16: return "bfloat16";
    case HW_U64: return "uint64";
    case HW_I32: return "int32";
    case HW_DTYPE_NONE: break;
    }
    return "auto";
}

hw_dtype hw_dtype_parse(const char *name, int *known)
{
    static const struct {
        const char *name;
        hw_dtype type;
    } names[] = {{"auto", HW_DTYPE_NONE}, {"float32", HW_F32}, {"float", HW_F32},
                 {"float16", HW_F16},     {"half", HW_F16},    {"bfloat16", HW_BF16}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i].name)) {
            *known = 1;
            return names[i].type;
        }
    *known = 0;
    return HW_DTYPE_NONE;
}

/* Integer arithmetic only, which needs no instruction set and is exact by construction. */
float hw_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ff, u;
    if (exponent == 31) {
        u = sign | 0x7f800000u | mantissa << 13;
    } else if (exponent) {
        u = sign | (exponent + 112) << 23 | mantissa << 13;
    } else {
        float f = (float)mantissa * 0x1p-24f; /* subnormal: exact in float32 */
        memcpy(&u, &f, sizeof u);
        u |= sign;
    }
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

uint16_t hw_f32_to_f16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* 65520 and up round to infinity */
    if (magnitude < 0x38800000u) {                                  /* below 2^-14: a multiple of 2^-24 */
        if (magnitude < 0x33000000u) return (uint16_t)sign;         /* below 2^-25 */
        uint32_t shift = 126 - (magnitude >> 23), m = (magnitude & 0x7fffff) | 0x800000;
        uint32_t half = 1u << (shift - 1), rest = m & ((1u << shift) - 1), q = m >> shift;
        return (uint16_t)(sign | (q + (rest > half || (rest == half && (q & 1)))));
    }
    uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
}

void hw_convert(void *dst, hw_dtype dst_type, const void *src, hw_dtype src_type, size_t n)
{
    size_t dst_size = hw_dtype_size(dst_type), src_size = hw_dtype_size(src_type);
    if (dst_type == src_type) {
        memcpy(dst, src, n * dst_size);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const char *in = (const char *)src + i * src_size;
        char *out = (char *)dst + i * dst_size;
        float f = 0;
        uint16_t h;
        switch (src_type) {
        case HW_F32: memcpy(&f, in, 4); break;
        case HW_F16: memcpy(&h, in, 2), f = hw_f16_to_f32(h); break;
        case HW_BF16: memcpy(&h, in, 2), f = hw_bf16_to_f32(h); break;
        default: assert(!"not a floating format");
        }
        switch (dst_type) {
        case HW_F32: memcpy(out, &f, 4); break;
        case HW_F16: h = hw_f32_to_f16(f), memcpy(out, &h, 2); break;
        case HW_BF16: h = hw_f32_to_bf16(f), memcpy(out, &h, 2); break;
        default: assert(!"not a floating format");
        }
    }
}
