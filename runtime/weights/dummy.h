/* Seeded random weights (`load_format: dummy`): any size can be timed and measured from its config.json
 * alone. Local. */
#ifndef HW_RUNTIME_WEIGHTS_DUMMY_H
#define HW_RUNTIME_WEIGHTS_DUMMY_H

#include "runtime/base/dtype.h"
#include "runtime/weights/params.h"

/* What a tensor of this name is seeded with. Its name alone counts, so that other tensors can come and go. */
uint64_t hw_dummy_seed(uint64_t seed, const char *tensor_name);

/* Writes elements [first_in, first_in + n_in) of output `out` of a tensor. A number depends on the tensor's seed and on
 * its place in the whole tensor alone, so it is the same for any number of ranks. Random: uniform with standard deviation
 * 0.02, as transformers initialises matrices. */
void hw_dummy_row(void *dst, hw_dtype type, hw_dummy_fill fill, uint64_t tensor_seed, size_t out,
                  size_t first_in, size_t n_in);

#endif
