/* Whether a device multiplies as kernels.h promises: the bits of the plain loops. */
#ifndef HW_KERNELS_CPU_PROVE_H
#define HW_KERNELS_CPU_PROVE_H

#include <stdbool.h>

#include "kernels/kernels.h"

typedef struct hw_proof {
    bool passed;
    char reason[24];   /* "" when it passed; "wrong bits", "SIGILL" */
    char details[160]; /* of which product */
} hw_proof;

/* Local. Multiplies small matrices of several types and cuts, for few and many rows, in each arithmetic, through the ops
 * of `d`, and compares with kernels/reference. `d`, which has one thread, is left with another arithmetic than it had,
 * and is not to be used any more when it failed. Signals are handled as guard.h says. `max_rows`: of a product, for paths that take
 * long; 0: 33. On HW_OK *out says how it went. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_cpu_prove(hw_proof *out, hw_device *d, int max_rows, hw_error *err);

#endif
