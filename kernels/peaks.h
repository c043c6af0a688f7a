/* What a device itself can do, measured in the same process and on the same threads as the model: the figures
 * that a speed is a share of. All functions are Local; several ranks measure at the same time to see what they
 * get together. */
#ifndef HW_KERNELS_PEAKS_H
#define HW_KERNELS_PEAKS_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum hw_anchor {
    HW_ANCHOR_READ,            /* bytes per second of a plain loop of loads */
    HW_ANCHOR_READ_PREFETCHED, /* the same, prefetching ahead; not on a GPU */
    HW_ANCHOR_FMA,             /* FLOP per second of float32 multiply-adds between registers */
    HW_ANCHOR_MATRIX,          /* of the units for bfloat16 (AMX, AVX512-BF16), between registers */
    HW_ANCHOR_PRODUCT_F32,     /* FLOP per second of a library's matrix product: oneDNN, cuBLASLt */
    HW_ANCHOR_PRODUCT_BF16,    /* of two bfloat16 matrices; the best of the shapes, in both */
    HW_N_ANCHORS
} hw_anchor;

/* A product y [n_rows, n_out] = x [n_rows, n_in] W [n_out, n_in]^T. */
typedef struct hw_anchor_shape {
    size_t n_rows, n_out, n_in;
} hw_anchor_shape;

enum { HW_ANCHOR_MAX_SHAPES = 8 };

/* Plain. */
typedef struct hw_anchor_sizes {
    size_t read_bytes; /* per rank; many times the last cache. 0, on a GPU: what suits its own */
    hw_anchor_shape shapes[HW_ANCHOR_MAX_SHAPES];
    int n_shapes; /* 0: no products */
} hw_anchor_sizes;

typedef struct hw_anchors hw_anchors;

/* What a device fills in, see below. */
typedef struct hw_anchor_ops {
    hw_status (*create)(hw_anchors **out, hw_device *d, const hw_anchor_sizes *sizes, hw_error *err);
    void (*destroy)(hw_anchors *a);
    bool (*has)(const hw_anchors *a, hw_anchor which);
    hw_status (*measure)(hw_anchors *a, hw_anchor which, double *rate, hw_error *err);
} hw_anchor_ops;

/* Memory and matrices to measure with, filled, so that they are really there. `d` is borrowed. On HW_OK the
 * caller owns *out. Errors: HW_ERR_UNSUPPORTED on a device without anchors, HW_ERR_NO_MEMORY,
 * HW_ERR_DEVICE. */
static inline hw_status hw_anchors_create(hw_anchors **out, hw_device *d, const hw_anchor_sizes *sizes,
                                          hw_error *err)
{
    *out = NULL;
    if (!d->k->anchors)
        return hw_fail(err, HW_ERR_UNSUPPORTED, "device %s has no anchors to measure", d->k->name);
    return d->k->anchors->create(out, d, sizes, err);
}

static inline void hw_anchors_destroy(const hw_device *d, hw_anchors *a) /* NULL is fine */
{
    if (a) d->k->anchors->destroy(a);
}

/* Whether this device, on this machine and with the libraries that are installed, has such a figure. */
static inline bool hw_anchors_have(const hw_device *d, const hw_anchors *a, hw_anchor which)
{
    return d->k->anchors->has(a, which);
}

/* One measurement, some milliseconds long, by all threads of the device: one that has this anchor. Errors:
 * HW_ERR_DEVICE. */
static inline hw_status hw_anchors_measure(const hw_device *d, hw_anchors *a, hw_anchor which, double *rate,
                                           hw_error *err)
{
    return d->k->anchors->measure(a, which, rate, err);
}

#ifdef __cplusplus
}
#endif
#endif
