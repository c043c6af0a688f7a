#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TILE_LOAD(n, from, stride) _tile_loadd(n, from, stride)
#define TILE_STORE(n, to, stride)  _tile_stored(n, to, stride)
#define TILE_DOT(c, a, b)          _tile_dpbf16ps(c, a, b)
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
static void begin(void)
{
    _Alignas(64) struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.row_bytes[i] = TILE_LINE, config.rows[i] = HW_AMX_ROWS;
    _tile_loadconfig(&config);
}

static void end(void) { _tile_release(); }

const hw_amx hw_amx_units = {usable, begin, run_task, end};
