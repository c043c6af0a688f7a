/* The forward pass over a batch. hw_forward is all of it; the device loop, whose steps differ in what goes to the device
 * before and what they end with, is put together from its parts. */
#ifndef HW_RUNTIME_FORWARD_H
#define HW_RUNTIME_FORWARD_H

#include "runtime/step.h"

/* Collective. Runs the batch, and waits for the device. Logits are in the buffers. */
hw_status hw_forward(hw_engine *e, const hw_batch *b, hw_error *err);

/* Local. A step of the batch that has not begun. */
hw_step hw_forward_begin(hw_engine *e, const hw_batch *b, hw_error *err);

/* Local. Rows and block tables of the batch, to the device. */
hw_status hw_forward_upload(hw_step *s);

/* Collective. From the tokens to the logits. */
hw_status hw_forward_layers(hw_step *s);

#endif
