/* Reads the .npy files of tests: golden logits written by numpy, and logits written by our own programs. */
#ifndef HW_TESTS_SUPPORT_NPY_H
#define HW_TESTS_SUPPORT_NPY_H

#include <stddef.h>

#include "runtime/base/status.h"

/* A matrix in memory. Plain: start with {0}; the caller frees it (hw_npy_free). */
typedef struct hw_npy {
    float *data; /* [n_rows, n_cols] */
    size_t n_rows, n_cols;
} hw_npy;

/* Local. Reads a .npy file of format version 1.0 that holds a float32, little-endian, C-order matrix, and
 * nothing after it. Strict, so that it also judges what we write: the header must be as numpy writes it, its
 * keys in numpy's order, padded with spaces to a multiple of 64 bytes with a newline at the end, and the data
 * must have exactly the size that the shape says. On HW_OK the caller owns *out (hw_npy_free); on failure
 * *out is {0}.
 * Errors: HW_ERR_FAILED saying what is wrong, HW_ERR_NO_MEMORY. */
hw_status hw_npy_read(hw_npy *out, const char *path, hw_error *err);
void hw_npy_free(hw_npy *m); /* leaves {0}; a second call does nothing */

#endif
