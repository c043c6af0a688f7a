/* The most that the matrix unit does: bfloat16 products of tiles that stay where they are. */
#include "kernels/cpu/anchors.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/cpu/amx.h"

/* Two tiles of each side and four sums, as a matrix product uses them: 16 x 32 by 32 x 16 numbers each. */
__attribute__((target("amx-tile,amx-bf16"))) static void multiply_tiles(uint64_t n_rounds)
{
    hw_amx_units.begin();
    for (uint64_t i = 0; i < n_rounds; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    hw_amx_units.end();
}

uint64_t hw_cpu_matrix_rounds(uint64_t n_rounds)
{
    if (!hw_amx_units.usable()) return 0;
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
