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
#include "kernels/cpu/amx_loop.h"

/* Linux gives a process the registers of tiles when it asks, since they enlarge its signal frames. */
enum { ARCH_REQUEST_PERMISSION = 0x1023, XFEATURE_TILE_DATA = 18 };

static bool usable(void)
{
    unsigned a, b, c, d = 0;
    const unsigned bf16 = 1u << 22, tile = 1u << 24;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (bf16 | tile)) != (bf16 | tile)) return false;
    return !syscall(SYS_arch_prctl, ARCH_REQUEST_PERMISSION, XFEATURE_TILE_DATA);
}

/* All eight tiles are whole. */
static const hw_tile_config whole_tiles = {
    .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

static void begin(void) { hw_tile_config_load(&whole_tiles); }
static void end(void) { _tile_release(); }

/* Two tiles of each side and four sums, as a matrix product uses them: 16 x 32 by 32 x 16 numbers each. */
static uint64_t peak(uint64_t n_rounds)
{
    begin();
    for (uint64_t i = 0; i < n_rounds; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    end();
    return n_rounds * 4 * 2 * 16 * 16 * 32;
}

const hw_units hw_units_amx = {.usable = usable,
                               .begin = begin,
                               .run = run_task,
                               .end = end,
                               .peak = peak,
                               .min_rows = {5, 5},
                               .panel_blocks = HW_AMX_BLOCKS,
                               .beats_float32 = true};
