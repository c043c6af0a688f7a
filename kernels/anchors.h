/* What the machine itself can do, measured in the same process and on the same threads as the model: the
 * figures that a speed is a share of. Local. */
#ifndef HW_KERNELS_ANCHORS_H
#define HW_KERNELS_ANCHORS_H

#include "kernels/kernels.h"

typedef struct hw_anchors hw_anchors;

/* Memory to read, `n_bytes` per rank, filled, so that it is really there. It should be several times the last
 * cache. On HW_OK the caller owns *out. Errors: HW_ERR_NO_MEMORY, HW_ERR_UNSUPPORTED on a device that is not
 * the host. */
hw_status hw_anchors_create(hw_anchors **out, hw_device *device, size_t n_bytes, hw_error *err);
void hw_anchors_destroy(hw_anchors *a); /* NULL is fine */

/* Bytes per second of one pass over that memory by all threads of the device: a plain loop of loads, or one
 * that also prefetches ahead. */
double hw_anchors_read(hw_anchors *a, bool prefetch);

#endif
