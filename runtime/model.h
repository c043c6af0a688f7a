/* The description of a model as data: its sizes, the kinds of its parts, and the names of its tensors. An
 * architecture is one file in `runtime/models/` that fills this in from config.json; the forward pass and the loader
 * read it and do not depend on architectures. All functions are Local unless marked. */
#ifndef HW_RUNTIME_MODEL_H
#define HW_RUNTIME_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "runtime/base/json.h"
#include "runtime/models/rope.h"

enum { HW_MAX_LAYERS = 4096, HW_MAX_LAYER_KINDS = 4 };

typedef enum hw_norm_kind { HW_NORM_RMS, HW_NORM_LAYER } hw_norm_kind;

/* The role of a tensor: a row of params.def. */
typedef enum hw_role {
#define HW_MODEL_PARAM(role, ...) HW_ROLE_##role,
#define HW_LAYER_PARAM(role, ...) HW_ROLE_##role,
#include "runtime/weights/params.def"
    HW_N_ROLES
} hw_role;

/* The tensors of a role in the checkpoint. The name is a pattern (tensor_pattern.h); in a per-layer role it contains
 * {layer}. Rules with the same name share a tensor: their outputs are stored one after the other, in the order of the
 * rules (GPT-2's c_attn). */
typedef struct hw_tensor_rule {
    const char *name;
    hw_role role;
    bool transposed; /* stored [inputs, outputs]: GPT-2's Conv1D */
} hw_tensor_rule;

/* What the layers of a model can differ in. Plain. */
typedef struct hw_layer_kind {
    hw_attn attn;
    bool pre_norm, post_norm; /* before attention and MLP; after them, before the residual */
    bool qk_norm;             /* on every head of q and k, before the rotation; always RMSNorm */
} hw_layer_kind;

typedef struct hw_model {
    const char *architecture; /* "llama", "gpt2": static */
    int n_layers, n_heads, n_kv_heads, head_dim;
    int dim, ffn_dim, vocab_size, max_seq_len;
    hw_norm_kind norm;
    float norm_eps;
    hw_activation activation;
    bool gated_mlp;
    bool qkv_bias, o_bias, mlp_bias;
    bool tied_embeddings;
    bool learned_positions;
    hw_rope rope;
    /* The kinds of layers; if all layers are alike, only the first is used. */
    hw_layer_kind kinds[HW_MAX_LAYER_KINDS];
    uint8_t kind[HW_MAX_LAYERS]; /* of each layer: an index into kinds */
    hw_dtype
        stored; /* type of the stored weights according to config.json; HW_DTYPE_NONE if it does not say */
    const hw_tensor_rule *rules; /* static, ends with a NULL name */
    const char *prefix;          /* optional prefix of names: GPT-2's "transformer." */
    const char *const *
        ignored; /* patterns of tensors that may be in the file but are not used (old buffers); ends with NULL */
} hw_model;

/* One architecture: reads its keys into an hw_model. hw_model_from_config reads and checks the common keys. */
typedef struct hw_architecture {
    const char *model_type; /* config.json "model_type" */
    hw_status (*read)(hw_model *out, hw_json_at config);
} hw_architecture;

extern const hw_architecture *const hw_architectures[]; /* runtime/models/registry.c; ends with NULL */

/* Reads <folder>/config.json. Errors: HW_ERR_MODEL naming the key. */
hw_status hw_model_open(hw_model *out, const char *folder, hw_error *err);

/* The same from a source. Collective if rank 0 reads for all; then the result is the same on all ranks, except for
 * HW_ERR_NO_MEMORY. */
struct hw_source;
hw_status hw_model_open_from(hw_model *out, const struct hw_source *source, hw_error *err);

/* The same from a file with any name. */
hw_status hw_model_open_config(hw_model *out, const char *path, hw_error *err);

/* The same from parsed JSON; `name` is what messages call it. */
hw_status hw_model_from_config(hw_model *out, const json_t *config, const char *name, hw_error *err);

static inline const hw_layer_kind *hw_model_layer(const hw_model *m, int layer)
{
    return &m->kinds[m->kind[layer]];
}

#endif
