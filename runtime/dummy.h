/* Seeded random weights (`load_format: dummy`): any size can be timed and measured from its config.json
 * alone. Local. */
#ifndef HW_RUNTIME_DUMMY_H
#define HW_RUNTIME_DUMMY_H

#include "runtime/model.h"

/* Writes elements [first_in, first_in + n_in) of one output of a tensor. A number depends on the seed and on
 * its place in the whole model alone, so it is the same for any number of ranks. Matrices: uniform with
 * standard deviation 0.02, as transformers initialises them; norms: 1; biases: uniform as matrices. */
void hw_dummy_row(void *dst, hw_dtype type, uint64_t seed, hw_role role, int layer, size_t out,
                  size_t first_in, size_t n_in);

#endif
