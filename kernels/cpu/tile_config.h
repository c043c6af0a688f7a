/* The operand of LDTILECFG: number of rows and bytes per row of each of the eight tiles (Intel's manual, volume 1, chapter
 * "Programming with Intel AMX"). */
#ifndef HW_KERNELS_CPU_TILE_CONFIG_H
#define HW_KERNELS_CPU_TILE_CONFIG_H

#include <stdint.h>

typedef struct hw_tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} hw_tile_config;

_Static_assert(sizeof(hw_tile_config) == 64, "LDTILECFG reads 64 bytes");

#if defined(__x86_64__)
/* gcc's _tile_loadconfig is not used: up to gcc 12 it declares that it reads 8 bytes of its operand, so the compiler drops
 * the stores to the other 56. */
static inline void hw_tile_config_load(const hw_tile_config *config)
{
    __asm__ volatile("ldtilecfg %0" : : "m"(*config) : "memory");
}

/* Reads the current configuration. */
static inline void hw_tile_config_store(hw_tile_config *config)
{
    __asm__ volatile("sttilecfg %0" : "=m"(*config));
}
#endif

#endif
