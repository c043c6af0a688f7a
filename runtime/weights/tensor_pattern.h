/* Names of tensors with places for indices: "model.layers.{layer}.mlp.experts.{expert}.up_proj.weight". All functions are
 * Local. */
#ifndef HW_RUNTIME_WEIGHTS_TENSOR_PATTERN_H
#define HW_RUNTIME_WEIGHTS_TENSOR_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

/* What a name can say of a tensor; 0 where it says nothing. Plain. */
typedef struct hw_tensor_index {
    int layer, expert;
} hw_tensor_index;

/* Writes the name that the pattern makes of these indices into name [size], cut off as by snprintf. */
void hw_tensor_pattern_write(char *name, size_t size, const char *pattern, hw_tensor_index at);

/* Whether `name` is what the pattern makes of some indices, and of which. */
bool hw_tensor_pattern_match(const char *pattern, const char *name, hw_tensor_index *at);

#endif
