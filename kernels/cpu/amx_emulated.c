/* TDPBF16PS as Intel's manual defines it: each number of a tile of sums takes two chains of fused multiply-
 * adds, over the even and the odd inputs of 16 pairs, then their sum. It flushes denormals on its own; here
 * that is what the caller has told the processor to do (kernels/cpu/denormals.h). */
#include <math.h>
#include <string.h>

#include "runtime/base/dtype.h"

typedef union tile {
    float sums[16][16];
    uint16_t pairs[16][32];
    char line[16][64];
} tile;

/* A thread has its own tiles, as it has its own registers. */
static _Thread_local tile tiles[8];

static void load(tile *t, const void *from, size_t stride)
{
    for (size_t i = 0; i < 16; i++) memcpy(t->line[i], (const char *)from + i * stride, sizeof t->line[i]);
}

static void store(const tile *t, void *to, size_t stride)
{
    for (size_t i = 0; i < 16; i++) memcpy((char *)to + i * stride, t->line[i], sizeof t->line[i]);
}

static void dot(tile *c, const tile *a, const tile *b)
{
    for (int m = 0; m < 16; m++)
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

#define TILE_LOAD(n, from, stride) load(&tiles[n], from, stride)
#define TILE_STORE(n, to, stride)  store(&tiles[n], to, stride)
#define TILE_DOT(c, a, b)          dot(&tiles[c], &tiles[a], &tiles[b])
#include "kernels/cpu/amx_loop.h"

static bool usable(void) { return true; }
static void nothing(void) {}

/* As if it were one. */
const hw_units hw_units_emulated = {.usable = usable,
                                    .begin = nothing,
                                    .run = run_task,
                                    .end = nothing,
                                    .min_rows = {5, 5},
                                    .panel_blocks = HW_AMX_BLOCKS,
                                    .beats_float32 = true};
