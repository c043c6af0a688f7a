/* The most that the matrix unit does: bfloat16 products of tiles that stay where they are. */
#include "kernels/cpu/anchors.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

/* Leaf 7: AMX-BF16 is bit 22 of EDX, AMX-TILE bit 24. The kernel hands out the tiles' state once per process. */
static bool has_tiles(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return false;
    return !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA);
}

/* Two tiles of each side and four sums, as a matrix product uses them: 16 x 32 by 32 x 16 numbers each. */
__attribute__((target("amx-tile,amx-bf16"))) static void multiply_tiles(uint64_t n_rounds)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t columns[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.columns[i] = 64, config.rows[i] = 16;
    _tile_loadconfig(&config);
    for (uint64_t i = 0; i < n_rounds; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
}

uint64_t hw_cpu_matrix_rounds(uint64_t n_rounds)
{
    if (!has_tiles()) return 0;
    multiply_tiles(n_rounds);
    return n_rounds * 4 * 2 * 16 * 16 * 32;
}
#else
uint64_t hw_cpu_matrix_rounds(uint64_t n_rounds)
{
    (void)n_rounds;
    return 0;
}
#endif
