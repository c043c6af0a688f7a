/* TDPBF16PS as Intel's manual defines it: each number of a tile of sums takes two chains of fused multiply-
 * adds, over the even and the odd inputs of 16 pairs, then their sum. It flushes denormals on its own; here
 * that is what the caller has told the processor to do (kernels/cpu/denormals.h). */
#include <math.h>
#include <string.h>

#include "kernels/cpu/tile_config.h"

typedef union registers {
    float sums[16][16];
    uint16_t pairs[16][32];
    char line[16][64];
} registers;

/* A thread has its own tiles, as it has its own registers. */
static _Thread_local registers tiles[8];
static _Thread_local hw_tile_config in_force;

static void load(int n, const void *from, size_t stride)
{
    for (size_t i = 0; i < in_force.rows[n]; i++)
        memcpy(tiles[n].line[i], (const char *)from + i * stride, sizeof tiles[n].line[i]);
}

static void store(int n, void *to, size_t stride)
{
    for (size_t i = 0; i < in_force.rows[n]; i++)
        memcpy((char *)to + i * stride, tiles[n].line[i], sizeof tiles[n].line[i]);
}

static void zero(int n) { memset(&tiles[n], 0, sizeof tiles[n]); }

/* Compiled for processors with fused multiply-adds as well, where fmaf is not a call, and left alone by the sanitizers: it
 * takes most of the time of every test on emulated tiles. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define HOT __attribute__((target_clones("avx512f", "fma", "default"), no_sanitize("address", "undefined")))
#else
#define HOT
#endif

HOT static void dot(int sum, const registers *a, const registers *b)
{
    float weights[2][16][16]; /* even and odd inputs, [k, n] */
    for (int k = 0; k < 16; k++)
        for (int i = 0; i < 32; i++) {
            const uint32_t bits = (uint32_t)b->pairs[k][i] << 16;
            memcpy(&weights[i % 2][k][i / 2], &bits, sizeof bits);
        }
    for (int m = 0; m < in_force.rows[sum]; m++) {
        float chain[2][16] = {{0}};
        for (int k = 0; k < 32; k++) {
            const uint32_t bits = (uint32_t)a->pairs[m][k] << 16;
            float x;
            memcpy(&x, &bits, sizeof x);
            for (int n = 0; n < 16; n++) chain[k % 2][n] = fmaf(x, weights[k % 2][k / 2][n], chain[k % 2][n]);
        }
        for (int n = 0; n < 16; n++) tiles[sum].sums[m][n] += chain[0][n] + chain[1][n];
    }
}

static void tiles_begin(const hw_tile_config *c) { in_force = *c; }

#define TILE_LOAD(n, from, stride) load(n, from, stride)
#define TILE_STORE(n, to, stride)  store(n, to, stride)
#define TILE_ZERO(n)               zero(n)
#define TILE_DOT(c, a, b)          dot(c, &tiles[a], &tiles[b])
#include "kernels/cpu/tile_loop.h"

static bool usable(void) { return true; }
static void nothing(void) {}

/* As if it were one. */
const hw_matrix_unit hw_matrix_unit_emulated = {.usable = usable,
                                                .begin = begin_tiles,
                                                .multiply = multiply,
                                                .end = nothing,
                                                .min_rows = {1, 1},
                                                .beats_float32 = true};
