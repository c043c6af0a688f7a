/* Peak rates of a device, measured in the same process and on the same threads as the model; speeds are reported as
 * shares of them. All functions are Local; to get the rate of several ranks, they measure at the same time. */
#ifndef HW_KERNELS_PEAKS_H
#define HW_KERNELS_PEAKS_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum hw_peak {
    HW_PEAK_READ,            /* bytes per second of a plain loop of loads */
    HW_PEAK_READ_PREFETCHED, /* the same, prefetching ahead; not on a GPU */
    HW_PEAK_FMA,             /* FLOP per second of float32 multiply-adds on registers */
    HW_PEAK_MATRIX,          /* of the bfloat16 units (AMX, AVX512-BF16), on registers */
    HW_PEAK_PRODUCT_F32,     /* FLOP per second of a library's matrix product: oneDNN, cuBLASLt */
    HW_PEAK_PRODUCT_BF16,    /* of two bfloat16 matrices; the best of the shapes, in both */
    HW_N_PEAKS
} hw_peak;

/* A product y [n_rows, n_out] = x [n_rows, n_in] W [n_out, n_in]^T. */
typedef struct hw_peak_shape {
    size_t n_rows, n_out, n_in;
} hw_peak_shape;

enum { HW_PEAK_MAX_SHAPES = 8 };

/* Plain. */
typedef struct hw_peak_sizes {
    size_t read_bytes; /* per rank; many times the last-level cache. 0, on a GPU: chosen for its cache */
    hw_peak_shape shapes[HW_PEAK_MAX_SHAPES];
    int n_shapes; /* 0: no products */
} hw_peak_sizes;

typedef struct hw_peaks hw_peaks;

/* Implemented by a device; see the functions below. */
typedef struct hw_peak_ops {
    hw_status (*create)(hw_peaks **out, hw_device *d, const hw_peak_sizes *sizes, hw_error *err);
    void (*destroy)(hw_peaks *a);
    bool (*has)(const hw_peaks *a, hw_peak which);
    hw_status (*measure)(hw_peaks *a, hw_peak which, double *rate, hw_error *err);
} hw_peak_ops;

/* Allocates memory and matrices to measure with, and writes them, so that their pages exist. `d` is borrowed. On
 * HW_OK the caller owns *out. Errors: HW_ERR_UNSUPPORTED on a device without peaks, HW_ERR_NO_MEMORY,
 * HW_ERR_DEVICE. */
static inline hw_status hw_peaks_create(hw_peaks **out, hw_device *d, const hw_peak_sizes *sizes,
                                        hw_error *err)
{
    *out = NULL;
    if (!d->k->peaks)
        return hw_fail(err, HW_ERR_UNSUPPORTED, "device %s has no peaks to measure", d->k->name);
    return d->k->peaks->create(out, d, sizes, err);
}

static inline void hw_peaks_destroy(const hw_device *d, hw_peaks *a) /* NULL is fine */
{
    if (a) d->k->peaks->destroy(a);
}

/* Whether this device has this peak, on this machine and with the installed libraries. */
static inline bool hw_peaks_have(const hw_device *d, const hw_peaks *a, hw_peak which)
{
    return d->k->peaks->has(a, which);
}

/* One measurement of a peak that the device has, some milliseconds long, on all its threads. Errors: HW_ERR_DEVICE. */
static inline hw_status hw_peaks_measure(const hw_device *d, hw_peaks *a, hw_peak which, double *rate,
                                         hw_error *err)
{
    return d->k->peaks->measure(a, which, rate, err);
}

#ifdef __cplusplus
}
#endif
#endif
