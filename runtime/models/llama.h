/* What Llama's relatives share with it: keys of config.json and names of tensors, of which a model has those that its
 * settings ask for. */
#ifndef HW_RUNTIME_MODELS_LLAMA_H
#define HW_RUNTIME_MODELS_LLAMA_H

#include "runtime/models/read.h"

/* What a missing key means; 0: as many KV heads as heads, and heads that share `dim`. */
typedef struct hw_llama_defaults {
    int n_kv_heads, head_dim, max_seq_len;
    double norm_eps;
} hw_llama_defaults;

/* Fills in the model that Llama is: RMSNorm before the blocks, rotary positions, full attention in all layers, gated MLP.
 * What a relative does otherwise it sets afterwards. Errors: HW_ERR_MODEL. */
hw_status hw_read_llama(hw_model *m, hw_json_at at, hw_llama_defaults missing);

#endif
