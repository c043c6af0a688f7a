/* The bodies of hw_philox4x32 and hw_gumbel (kernels.h), also compiled for devices. */
#ifndef HW_KERNELS_RANDOM_H
#define HW_KERNELS_RANDOM_H

#include <math.h>

#include "kernels/kernels.h"

/* Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. */
static inline HW_EVERYWHERE void hw_philox4x32_here(uint32_t out[4], const uint32_t counter[4],
                                                    const uint32_t key[2])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]}, k[2] = {key[0], key[1]};
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t next[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k[0], (uint32_t)p1,
                            (uint32_t)(p0 >> 32) ^ c[3] ^ k[1], (uint32_t)p0};
        memcpy(c, next, sizeof c);
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

static inline HW_EVERYWHERE float hw_gumbel_here(uint64_t seed, uint64_t step, uint32_t token)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {token, 0, (uint32_t)step, (uint32_t)(step >> 32)};
    uint32_t r[4];
    hw_philox4x32_here(r, counter, key);
    /* 52 random bits plus a half: never 0, never 1. */
    double u = ((double)(((uint64_t)r[0] << 20) | (r[1] >> 12)) + 0.5) * 0x1p-52;
    return (float)-log(-log(u));
}

#endif
