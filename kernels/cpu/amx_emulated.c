/* TDPBF16PS as Intel's manual defines it: each number of a tile of sums takes two chains of fused multiply-
 * adds, over the even and the odd inputs of 16 pairs, then their sum. It flushes denormals on its own; here
 * that is what the caller has told the processor to do (kernels/cpu/denormals.h). */
#include <math.h>
#include <string.h>

#include "kernels/cpu/tile_config.h"
#include "runtime/base/dtype.h"

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

static void dot(int sum, const registers *a, const registers *b)
{
    registers *c = &tiles[sum];
    for (int m = 0; m < in_force.rows[sum]; m++)
        for (int n = 0; n < 16; n++) {
            float even = 0, odd = 0;
            for (int k = 0; k < 16; k++) {
                even = fmaf(hw_bf16_to_f32(a->pairs[m][2 * k]), hw_bf16_to_f32(b->pairs[k][2 * n]), even);
                odd =
                    fmaf(hw_bf16_to_f32(a->pairs[m][2 * k + 1]), hw_bf16_to_f32(b->pairs[k][2 * n + 1]), odd);
            }
            c->sums[m][n] += even + odd;
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
const hw_units hw_units_emulated = {.usable = usable,
                                    .begin = begin_tiles,
                                    .multiply = multiply,
                                    .end = nothing,
                                    .min_rows = {1, 1},
                                    .beats_float32 = true};
