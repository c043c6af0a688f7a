/* Internal to the peaks of the CPU: what is compiled per instruction set, and the library of matrix products. */
#ifndef HW_KERNELS_CPU_PEAKS_H
#define HW_KERNELS_CPU_PEAKS_H

#include "kernels/peaks.h"

/* Multiply-adds on registers, `n_rounds` of them in each of several independent chains of sixteen lanes. Returns the
 * number of operations, two per multiply-add; results go to `sink` [16], so that the compiler cannot remove any. */
typedef uint64_t hw_cpu_fma_fn(uint64_t n_rounds, float *sink);

/* `ops` is what the device's table points to; the rest differs from one instruction set to the next. */
typedef struct hw_cpu_peak_ops {
    hw_peak_ops ops;
    hw_cpu_fma_fn *fma;
} hw_cpu_peak_ops;

extern const hw_cpu_peak_ops hw_cpu_avx512_peaks, hw_cpu_avx2_peaks, hw_cpu_generic_peaks;

hw_status hw_cpu_peaks_create(hw_peaks **out, hw_device *d, const hw_peak_sizes *sizes, hw_error *err);
void hw_cpu_peaks_destroy(hw_peaks *a);
bool hw_cpu_peaks_have(const hw_peaks *a, hw_peak which);
hw_status hw_cpu_peaks_measure(hw_peaks *a, hw_peak which, double *rate, hw_error *err);

/* ---- a library of matrix products, in a separate shared object (libheadway_onednn.so, symbol hw_onednn_products), so
 * that only a process that measures maps it. Calls come from one thread; the library uses n_threads threads of its
 * own. */

typedef struct hw_products hw_products;

typedef struct hw_product_ops {
    size_t struct_bytes; /* of this table: a plug-in of another version is left alone */
    hw_status (*create)(hw_products **out, const hw_peak_sizes *sizes, int n_threads, hw_error *err);
    void (*destroy)(hw_products *p);
    bool (*has)(const hw_products *p, hw_dtype type); /* HW_F32 or HW_BF16, both sides */
    /* FLOP per second, the best of the shapes. */
    hw_status (*measure)(hw_products *p, hw_dtype type, double *rate, hw_error *err);
} hw_product_ops;

extern const hw_product_ops hw_onednn_products;

#endif
