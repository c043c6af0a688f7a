#include "kernels/cpu/paths.h"

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/peaks.h"
#include "runtime/base/clock.h"

#if defined(__x86_64__)
#include <cpuid.h>

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

/* By CPUID alone: hw_matrix_unit_amx.usable asks the kernel as well. */
static bool has_amx(void)
{
    unsigned a, b, c, d = 0;
    const unsigned bf16 = 1u << 22, tile = 1u << 24;
    return has_avx512() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & (bf16 | tile)) == (bf16 | tile);
}

static bool may_amx(void) { return hw_matrix_unit_amx.usable(); }
static bool has_dot(void) { return has_avx512() && hw_matrix_unit_dot.usable(); }

/* On some processors a dot product of pairs takes four times as long as a multiply-add, on others half as long. In turns, the
 * best of a few: a thread may be held up. */
static double dot_gain(void)
{
    enum { TRIES = 5, DOT_ROUNDS = 256, FMA_ROUNDS = 1024 };
    float sink[16] = {0.75f, 0.25f}; /* a fixed point at 1: no overflow, and nothing denormal */
    double dot = 0, fma = 0;
    for (int i = 0; i < TRIES; i++) {
        uint64_t start = hw_clock_ns();
        double n_flops = (double)hw_matrix_unit_dot.peak(DOT_ROUNDS),
               rate = n_flops / hw_seconds_since(start);
        if (rate > dot) dot = rate;
        start = hw_clock_ns();
        n_flops = (double)hw_cpu_avx512_peaks.fma(FMA_ROUNDS, sink), rate = n_flops / hw_seconds_since(start);
        if (rate > fma) fma = rate;
    }
    return dot / fma;
}

/* Every processor with AVX2 and FMA converts float16 as well (F16C). */
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif

static bool has_generic(void) { return true; }

const hw_cpu_path *hw_cpu_paths(void)
{
    static const hw_cpu_path paths[] = {
#if defined(__x86_64__)
        {"amx", has_amx, may_amx, &hw_cpu_avx512_table, &hw_matrix_unit_amx, NULL, false, 0},
        {"avx512-bf16", has_dot, NULL, &hw_cpu_avx512_table, &hw_matrix_unit_dot, dot_gain, false, 0},
        {"avx512", has_avx512, NULL, &hw_cpu_avx512_table, NULL, NULL, false, 0},
        {"avx2", has_avx2, NULL, &hw_cpu_avx2_table, NULL, NULL, false, 0},
#endif
        {"generic", has_generic, NULL, &hw_cpu_generic_table, NULL, NULL, false, 3},
        {"amx-emulated", has_generic, NULL, NULL, &hw_matrix_unit_emulated, NULL, true, 6},
        {0},
    };
    return paths;
}
