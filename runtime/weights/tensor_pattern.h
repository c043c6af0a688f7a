/* Tensor names with placeholders for indices: "model.layers.{layer}.mlp.experts.{expert}.up_proj.weight". All functions
 * are Local. */
#ifndef HW_RUNTIME_WEIGHTS_TENSOR_PATTERN_H
#define HW_RUNTIME_WEIGHTS_TENSOR_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

/* The indices in a name; 0 if the name does not have them. Plain. */
typedef struct hw_tensor_index {
    int layer, expert;
} hw_tensor_index;

/* Writes the name for these indices into name [size], cut off as by snprintf. */
void hw_tensor_pattern_write(char *name, size_t size, const char *pattern, hw_tensor_index at);

/* Whether `name` matches the pattern, and with which indices. */
bool hw_tensor_pattern_match(const char *pattern, const char *name, hw_tensor_index *at);

#endif
