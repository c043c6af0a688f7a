/* The forward pass over a batch: hw_forward, and its parts for the device loop, whose steps upload less and end with the
 * choice of the next tokens. */
#ifndef HW_RUNTIME_FORWARD_H
#define HW_RUNTIME_FORWARD_H

#include "runtime/step.h"

/* Collective. Runs the batch and waits for the device. The logits are then in the buffers. */
hw_status hw_forward(hw_engine *e, const hw_batch *b, hw_error *err);

/* Local. A step over the batch, before its first op. */
hw_step hw_forward_begin(hw_engine *e, const hw_batch *b, hw_error *err);

/* Local. Copies rows and block tables to the device. */
hw_status hw_forward_upload(hw_step *s);

/* Collective. Runs all ops, from the tokens to the logits. */
hw_status hw_forward_layers(hw_step *s);

#endif
