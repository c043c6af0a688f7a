/* Products of a few rows with a weight matrix, and what is done to the rows before and to the outputs
 * after, in one pass over the weights. */
#ifndef HW_KERNELS_CUDA_GEMV_H
#define HW_KERNELS_CUDA_GEMV_H

#include "kernels/cuda/cuda.h"

enum { HW_GEMV_ROWS = 8 };

typedef struct hw_gemv {
    const hw_norm *norm; /* of x, before; NULL: none */
    const float *bias;   /* [n_out] or NULL */
    bool activates, gated;
    hw_activation act;
    bool adds; /* the result is added to what is in `out` */
    bool wide; /* out is float32 */
} hw_gemv;

/* Whether n rows of this matrix's inputs fit into the shared memory that a block gets. */
bool hw_cuda_gemv_takes(const hw_cuda_device *c, const hw_weight *w, int n);

/* y = W norm(x) + bias, then what `g` says.   x [n, n_in]   out [n, n_out], gated [n, n_out / 2] */
hw_status hw_cuda_gemv(hw_cuda_device *c, void *out, const void *x, const hw_weight *w, const hw_gemv *g,
                       int n);

#endif
