#include "runtime/dummy.h"

/* splitmix64's finaliser (Steele, Lea, Flood 2014): every bit of the input reaches every bit of the
 * output. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int is_norm(hw_role role)
{
    return role == HW_ROLE_FINAL_NORM || role == HW_ROLE_ATTN_NORM || role == HW_ROLE_MLP_NORM;
}

void hw_dummy_row(void *dst, hw_dtype type, uint64_t seed, hw_role role, int layer, size_t out,
                  size_t first_in, size_t n_in)
{
    const float half_width = 0.02f * 1.7320508f; /* of a uniform distribution with that standard deviation */
    const uint64_t tensor = mix(seed + 0x9e3779b97f4a7c15u * ((uint64_t)role * 65536 + (uint64_t)layer + 1));
    const uint64_t row = mix(tensor + out);
    for (size_t i = 0; i < n_in; i++) {
        uint64_t place = first_in + i; /* one hash gives four numbers of 16 bits */
        uint64_t bits = mix(row + (place / 4) * 0x9e3779b97f4a7c15u) >> (16 * (place % 4)) & 0xffff;
        float x = is_norm(role) ? 1.0f : ((float)bits - 32767.5f) * (half_width / 32767.5f);
        uint16_t h;
        switch (type) {
        case HW_BF16: h = hw_f32_to_bf16(x), memcpy((char *)dst + 2 * i, &h, 2); break;
        case HW_F16: h = hw_f32_to_f16(x), memcpy((char *)dst + 2 * i, &h, 2); break;
        default: memcpy((char *)dst + 4 * i, &x, 4); break;
        }
    }
}
