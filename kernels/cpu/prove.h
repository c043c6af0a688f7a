/* Tests whether a device multiplies as kernels.h specifies, with the bits of the plain loops. */
#ifndef HW_KERNELS_CPU_PROVE_H
#define HW_KERNELS_CPU_PROVE_H

#include <stdbool.h>

#include "kernels/kernels.h"

typedef struct hw_proof {
    bool passed;
    char reason[24];   /* "" if it passed; "wrong bits", "SIGILL" */
    char details[160]; /* the failing product */
} hw_proof;

/* Local. Multiplies small matrices of several types and cuts, for few and many rows, in each arithmetic, with the ops of
 * `d`, and compares the results with kernels/reference. `d` has one thread; its arithmetic is changed, and it must not be
 * used after a failure. Signals are handled as in guard.h. `max_rows`: limit of rows, for slow paths; 0: 33. On HW_OK *out
 * has the result. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_cpu_prove(hw_proof *out, hw_device *d, int max_rows, hw_error *err);

#endif
