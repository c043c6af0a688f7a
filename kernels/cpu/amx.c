#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/cpu/tile_config.h"

/* Not gcc's _tile_loadd, which does not declare that it reads memory: plain stores could move behind it. */
#define TILE_LOAD(n, from, stride)                                                                           \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #n : : "r"(from), "r"((size_t)(stride)) : "memory")
#define TILE_STORE(n, to, stride)                                                                            \
    __asm__ volatile("tilestored %%tmm" #n ", (%0,%1,1)" : : "r"(to), "r"((size_t)(stride)) : "memory")
#define TILE_DOT(c, a, b) _tile_dpbf16ps(c, a, b)
#define TILE_ZERO(n)      _tile_zero(n)
#define tiles_begin       hw_tile_config_load
#include "kernels/cpu/tile_loop.h"

/* Linux gives a process the registers of tiles when it asks, since they enlarge its signal frames. */
enum { ARCH_REQUEST_PERMISSION = 0x1023, XFEATURE_TILE_DATA = 18 };

static bool usable(void)
{
    unsigned a, b, c, d = 0;
    const unsigned bf16 = 1u << 22, tile = 1u << 24;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (bf16 | tile)) != (bf16 | tile)) return false;
    if (!hw_matrix_unit_dot.usable()) return false; /* its conversion makes single terms */
    return !syscall(SYS_arch_prctl, ARCH_REQUEST_PERMISSION, XFEATURE_TILE_DATA);
}

/* Two tiles of each side and four sums: 16 x 32 by 32 x 16 numbers each, of many values: products of zeros take less power
 * and so less time. */
static uint64_t peak(uint64_t n_rounds)
{
    _Alignas(64) uint16_t numbers[4][16][32];
    uint64_t state = 1;
    for (size_t i = 0; i < sizeof numbers / 2; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        /* any sign and fraction, 2^-3 to 2^0 */
        (&numbers[0][0][0])[i] = (uint16_t)((state >> 40 & 0x807f) | (0x7c + (state >> 33) % 4) << 7);
    }
    hw_tile_config_load(&whole_tiles);
    TILE_LOAD(4, numbers[0], TILE_LINE);
    TILE_LOAD(5, numbers[1], TILE_LINE);
    TILE_LOAD(6, numbers[2], TILE_LINE);
    TILE_LOAD(7, numbers[3], TILE_LINE);
    for (uint64_t i = 0; i < n_rounds; i++) {
        TILE_DOT(0, 4, 6);
        TILE_DOT(1, 4, 7);
        TILE_DOT(2, 5, 6);
        TILE_DOT(3, 5, 7);
    }
    _tile_release();
    return n_rounds * 4 * 2 * 16 * 16 * 32;
}

static void end_tiles(void) { _tile_release(); }

const hw_matrix_unit hw_matrix_unit_amx = {.usable = usable,
                                           .begin = begin_tiles,
                                           .multiply = multiply,
                                           .end = end_tiles,
                                           .peak = peak,
                                           .min_rows = {1, 1},
                                           .beats_float32 = true};
