#include "runtime/weights/dummy.h"

enum { CHUNK = 1024 }; /* numbers at a time; a multiple of four */

/* splitmix64's finaliser (Steele, Lea, Flood 2014): every bit of the input affects every bit of the output. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* FNV-1a (Fowler, Noll, Vo) of the name, spread by mix. */
uint64_t hw_dummy_seed(uint64_t seed, const char *tensor_name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char *c = tensor_name; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    return mix(seed + mix(hash));
}

/* Each hash gives four numbers of 16 bits, lowest first. `bits` [4 * n_hashes] */
static void draw(uint16_t *bits, uint64_t row, uint64_t first_hash, size_t n_hashes)
{
    for (size_t i = 0; i < n_hashes; i++) {
        const uint64_t h = mix(row + (first_hash + i) * 0x9e3779b97f4a7c15u);
        for (int j = 0; j < 4; j++) bits[4 * i + (size_t)j] = (uint16_t)(h >> (16 * j));
    }
}

/* Loops without branches, so that the compiler vectorises them: a large model spends seconds here. */
static void store(char *dst, hw_dtype type, const float *x, size_t n)
{
    uint16_t half[CHUNK];
    if (type == HW_F32) {
        memcpy(dst, x, n * sizeof *x);
        return;
    }
    for (size_t i = 0; i < n && type == HW_BF16; i++) { /* hw_f32_to_bf16, without the case of NaN */
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        half[i] = (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
    }
    for (size_t i = 0; i < n && type == HW_F16; i++) half[i] = hw_f32_to_f16(x[i]);
    memcpy(dst, half, n * sizeof *half);
}

void hw_dummy_row(void *dst, hw_dtype type, hw_dummy_fill fill, uint64_t tensor_seed, size_t out,
                  size_t first_in, size_t n_in)
{
    const float step = 0.02f * 1.7320508f / 32767.5f; /* uniform, with a standard deviation of 0.02 */
    const uint64_t row = mix(tensor_seed + out);
    uint16_t bits[CHUNK + 4];
    float x[CHUNK];
    for (size_t done = 0, n; done < n_in; done += n) {
        const size_t place = first_in + done, skip = place % 4;
        n = n_in - done < CHUNK ? n_in - done : CHUNK;
        draw(bits, row, place / 4, (skip + n + 3) / 4);
        for (size_t i = 0; i < n; i++) x[i] = ((float)bits[skip + i] - 32767.5f) * step;
        if (fill == HW_DUMMY_ONES)
            for (size_t i = 0; i < n; i++) x[i] = 1;
        store((char *)dst + done * hw_dtype_size(type), type, x, n);
    }
}
