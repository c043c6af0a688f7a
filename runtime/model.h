/* What a model is, as data: its sizes, the kinds of its parts, and the names of its tensors. An architecture
 * is one file in `runtime/models/` that fills this in from config.json; the forward pass and the loader read
 * it and know no architecture. All functions are Local. */
#ifndef HW_RUNTIME_MODEL_H
#define HW_RUNTIME_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "runtime/base/json.h"
#include "runtime/models/rope.h"

enum { HW_MAX_LAYERS = 4096, HW_MAX_ATTN_KINDS = 4 };

typedef enum hw_norm_kind { HW_NORM_RMS, HW_NORM_LAYER } hw_norm_kind;

/* What a tensor is for: a row of params.def. */
typedef enum hw_role {
#define HW_MODEL_PARAM(role, ...) HW_ROLE_##role,
#define HW_LAYER_PARAM(role, ...) HW_ROLE_##role,
#include "runtime/weights/params.def"
    HW_N_ROLES
} hw_role;

/* One tensor of the checkpoint for each parameter of a role. The name is a pattern (tensor_pattern.h): a role of layers
 * names {layer}. Rules that repeat a name share that tensor: their outputs lie one after the other in it, in the order of
 * the rules (GPT-2's c_attn). */
typedef struct hw_tensor_rule {
    const char *name;
    hw_role role;
    bool transposed; /* stored [inputs, outputs]: GPT-2's Conv1D */
} hw_tensor_rule;

typedef struct hw_model {
    const char *architecture; /* "llama", "gpt2": static */
    int n_layers, n_heads, n_kv_heads, head_dim;
    int dim, ffn_dim, vocab_size, max_seq_len;
    hw_norm_kind norm;
    bool pre_norm,
        post_norm; /* of what goes into attention and MLP; of what comes out, before the residual */
    bool qk_norm;  /* of every head of q and of k, before the rotation; always RMSNorm */
    float norm_eps;
    hw_activation activation;
    bool gated_mlp;
    bool qkv_bias, o_bias, mlp_bias;
    bool tied_embeddings;
    bool learned_positions;
    hw_rope rope;
    /* How layers attend. A model has a few kinds of layers; where all are alike, the first is all there is. */
    hw_attn attn[HW_MAX_ATTN_KINDS];
    uint8_t attn_kind[HW_MAX_LAYERS]; /* of each layer: an index into attn */
    hw_dtype stored; /* what config.json says the weights are stored in; HW_DTYPE_NONE when it does not say */
    const hw_tensor_rule *rules; /* static, ends with a NULL name */
    const char *prefix;          /* names may also have this in front: GPT-2's "transformer." */
    const char *const *
        ignored; /* patterns of tensors that may be in the file and mean nothing (old buffers); ends with NULL */
} hw_model;

/* One architecture: what fills in an hw_model. The common keys and their checks are in
 * hw_model_from_config. */
typedef struct hw_architecture {
    const char *model_type; /* config.json "model_type" */
    hw_status (*read)(hw_model *out, hw_json_at config);
} hw_architecture;

extern const hw_architecture *const hw_architectures[]; /* runtime/models/registry.c; ends with NULL */

/* Reads <folder>/config.json. Errors: HW_ERR_MODEL naming the key. */
hw_status hw_model_open(hw_model *out, const char *folder, hw_error *err);

/* The same, where rank 0 may be who reads it: then Collective, with the same result on all ranks but for a lack of
 * memory. */
struct hw_source;
hw_status hw_model_open_from(hw_model *out, const struct hw_source *source, hw_error *err);

/* The same from a file of any name. */
hw_status hw_model_open_config(hw_model *out, const char *path, hw_error *err);

/* The same from parsed JSON; `name` is what messages call it. */
hw_status hw_model_from_config(hw_model *out, const json_t *config, const char *name, hw_error *err);

static inline const hw_attn *hw_model_attn(const hw_model *m, int layer)
{
    return &m->attn[m->attn_kind[layer]];
}

#endif
