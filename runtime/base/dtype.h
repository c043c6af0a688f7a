/* Number formats of weights, activations, caches and messages. */
#ifndef HW_RUNTIME_BASE_DTYPE_H
#define HW_RUNTIME_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum hw_dtype {
    HW_DTYPE_NONE = 0, /* "auto" in options: the type in which the model is stored */
    HW_F32,
    HW_F16,
    HW_BF16,
    HW_U64,
    HW_I32,
} hw_dtype;

/* Local. Bytes of one element; 0 for HW_DTYPE_NONE. */
static inline size_t hw_dtype_size(hw_dtype t)
{
    switch (t) {
    case HW_F32:
    case HW_I32: return 4;
    case HW_F16:
    case HW_BF16: return 2;
    case HW_U64: return 8;
    case HW_DTYPE_NONE: break;
    }
    return 0;
}

/* Local. "float32", "float16", "bfloat16"...; "auto" for HW_DTYPE_NONE. Never NULL. */
const char *hw_dtype_name(hw_dtype t);

/* Local. Parses a Hugging Face name (float32, float16, bfloat16), "auto", or vLLM's float and half. Other names
 * give HW_DTYPE_NONE with *known = 0. */
hw_dtype hw_dtype_parse(const char *name, int *known);

static inline float hw_bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t hw_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float hw_f16_to_f32(uint16_t h);
uint16_t hw_f32_to_f16(float f); /* round to nearest, ties to even */

/* Local. Converts `n` numbers between floating formats. `dst` and `src` need no alignment and do not overlap. */
void hw_convert(void *dst, hw_dtype dst_type, const void *src, hw_dtype src_type, size_t n);

#ifdef __cplusplus
}
#endif
#endif
