/* The matrices of a layer, as products and what is fused with them take them. Inside of the self-test. */
#ifndef HW_KERNELS_SELFTEST_PRODUCTS_H
#define HW_KERNELS_SELFTEST_PRODUCTS_H

#include "kernels/selftest/subject.h"

typedef enum hw_layer_matrix {
    HW_LAYER_QKV,
    HW_LAYER_WO,
    HW_LAYER_UP,
    HW_LAYER_DOWN,
    HW_LAYER_HEAD,
    HW_N_LAYER_MATRICES
} hw_layer_matrix;

/* A matrix of random numbers, and the outputs of it that the plain loops compute. */
typedef struct hw_sampled {
    hw_matrix whole, plain; /* plain has rows `sample` of whole */
    int *sample;            /* [n_sample], ascending */
    size_t n_sample;
    float *bias, *plain_bias; /* [n_out], [n_sample] */
    char shape[32];
} hw_sampled;

/* Outputs and inputs in the model; with `halves`, outputs are of two matrices side by side, and as many of each are
 * sampled, at the same places. More outputs than a check has time for are left out. False once something failed. */
bool hw_sampled_make(hw_selftest *t, hw_sampled *m, hw_layer_matrix which, hw_dtype type, bool halves);

/* Sizes of all outputs of the plain matrix: the sum of |x| |w| + |bias| for each, which rounding is relative to.
 * x [HW_SUBJECT_ROWS, n_in]. NULL once something failed. */
float *hw_sampled_sizes(hw_selftest *t, const hw_sampled *m, const float *x, bool has_bias);

/* The plain loops' product of the plain matrix. */
float *hw_sampled_product(hw_selftest *t, const hw_matrix *m, const float *x, const float *bias);

#endif
