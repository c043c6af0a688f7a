/* Models whose output head is their embedding. All functions are Local. */
#ifndef HW_RUNTIME_WEIGHTS_TIED_HEAD_H
#define HW_RUNTIME_WEIGHTS_TIED_HEAD_H

#include "runtime/model.h"
#include "runtime/weights/checkpoint.h"

/* A checkpoint decides what config.json's tie_word_embeddings comes to, as in transformers 5: where it has a head with
 * other numbers than the embedding, the model is not tied (m->tied_embeddings becomes false). Reads both tables up to
 * the first difference. Errors as hw_checkpoint_read, HW_ERR_NO_MEMORY. */
hw_status hw_model_settle_head(hw_model *m, hw_checkpoint *c, hw_error *err);

#endif
