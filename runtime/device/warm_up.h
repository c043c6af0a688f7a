/* What libraries of a device do when they are first used (load kernels, connect ranks) takes longer than a step may: a rank
 * that is seconds behind in one counts as stuck. So it is done while the model is loaded. */
#ifndef HW_RUNTIME_DEVICE_WARM_UP_H
#define HW_RUNTIME_DEVICE_WARM_UP_H

#include "runtime/engine_state.h"

/* Collective, once weights and buffers are there: one product of many rows, and sums of every order of size that steps
 * make, all of zeros. Nothing on devices in host memory. The same error on all ranks: HW_ERR_DEVICE, HW_ERR_RANK. */
hw_status hw_warm_up(hw_engine *e, hw_error *err);

#endif
