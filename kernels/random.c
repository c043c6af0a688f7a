#include "kernels/random.h"

void hw_philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    hw_philox4x32_here(out, counter, key);
}

float hw_gumbel(uint64_t seed, uint64_t step, uint32_t token) { return hw_gumbel_here(seed, step, token); }
