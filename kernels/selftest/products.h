/* The matrices of a layer, for checks of products and fused ops. Internal to the self-test. */
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

/* A random matrix, and the sample of its outputs that the plain loops compute. */
typedef struct hw_sampled {
    hw_matrix whole, plain; /* plain has rows `sample` of whole */
    int *sample;            /* [n_sample], ascending */
    size_t n_sample;
    float *bias, *plain_bias; /* [n_out], [n_sample] */
    char shape[32];
} hw_sampled;

/* Makes a matrix with the outputs and inputs of the model. With `halves` it is two matrices concatenated, and the
 * same outputs of each are sampled. Outputs beyond what a check has time for are left out. False once something has
 * failed. */
bool hw_sampled_make(hw_selftest *t, hw_sampled *m, hw_layer_matrix which, hw_dtype type, bool halves);

/* The magnitude of each output of the plain matrix, to which rounding errors are relative: the sum of |x| |w|, plus
 * |bias|.   x [HW_SUBJECT_ROWS, n_in]. NULL once something has failed. */
float *hw_sampled_sizes(hw_selftest *t, const hw_sampled *m, const float *x, bool has_bias);

/* The plain loops' product of the plain matrix. */
float *hw_sampled_product(hw_selftest *t, const hw_matrix *m, const float *x, const float *bias);

#endif
