/* The most float32 arithmetic that an instruction set does: compiled once for each. */
#include "kernels/cpu/ops.h"
#include "kernels/cpu/peaks.h"

/* As many independent chains as hide the latency of a multiply-add (4 to 5 cycles, two at a time) and still
 * fit the registers: AVX2 has sixteen, and takes two for sixteen lanes. */
#if defined(HW_SIMD_AVX512)
enum { CHAINS = 12 };
#else
enum { CHAINS = 6 };
#endif

static uint64_t fma_rounds(uint64_t n_rounds, float *sink)
{
    v16 chain[CHAINS];
    const v16 scale = v16_set1(sink[0]), step = v16_set1(sink[1]);
    for (int c = 0; c < CHAINS; c++) chain[c] = v16_set1((float)c);
    for (uint64_t i = 0; i < n_rounds; i++)
        for (int c = 0; c < CHAINS; c++) chain[c] = v16_fma(chain[c], scale, step);
    for (int c = 1; c < CHAINS; c++) chain[0] = v16_add(chain[0], chain[c]);
    v16_store(sink, chain[0]);
    return n_rounds * CHAINS * HW_LANES * 2;
}

const hw_cpu_peak_ops HW_CPU_FN(peaks) = {
    .ops = {.create = hw_cpu_peaks_create,
            .destroy = hw_cpu_peaks_destroy,
            .has = hw_cpu_peaks_have,
            .measure = hw_cpu_peaks_measure},
    .fma = fma_rounds,
};
