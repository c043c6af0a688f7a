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
#include "runtime/rope.h"

enum { HW_MAX_LAYERS = 4096, HW_MAX_ATTN_KINDS = 4 };

typedef enum hw_norm_kind { HW_NORM_RMS, HW_NORM_LAYER } hw_norm_kind;

/* What a tensor is for. Matrices are [outputs, inputs]. */
typedef enum hw_role {
    HW_ROLE_EMBED,     /* [vocab_size, dim] */
    HW_ROLE_POSITIONS, /* [max_seq_len, dim]: learned positions */
    HW_ROLE_HEAD,      /* [vocab_size, dim]; absent when tied to the embedding */
    HW_ROLE_FINAL_NORM,
    HW_ROLE_FINAL_NORM_BIAS, /* [dim], as all norms and their biases */
    HW_ROLE_ATTN_NORM,
    HW_ROLE_ATTN_NORM_BIAS,
    HW_ROLE_MLP_NORM,
    HW_ROLE_MLP_NORM_BIAS,
    HW_ROLE_WQ, /* [n_heads * head_dim, dim] */
    HW_ROLE_WK, /* [n_kv_heads * head_dim, dim] */
    HW_ROLE_WV,
    HW_ROLE_WO, /* [dim, n_heads * head_dim] */
    HW_ROLE_BQ, /* biases have the outputs of their matrix */
    HW_ROLE_BK,
    HW_ROLE_BV,
    HW_ROLE_BO,
    HW_ROLE_W_GATE, /* [ffn_dim, dim] */
    HW_ROLE_W_UP,
    HW_ROLE_W_DOWN, /* [dim, ffn_dim] */
    HW_ROLE_B_GATE,
    HW_ROLE_B_UP,
    HW_ROLE_B_DOWN,
    HW_N_ROLES
} hw_role;

/* One tensor of the checkpoint, or one per layer where the name holds %d. Rules that repeat a name share that
 * tensor: their outputs lie one after the other in it, in the order of the rules (GPT-2's c_attn). */
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
    const char *const
        *ignored; /* tensors that may be in the file and mean nothing (old buffers); ends with NULL */
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

/* Whether this model has such a tensor at all, and its sizes in the whole model: [n_out, n_in]; vectors have
 * n_in 1. */
bool hw_model_has(const hw_model *m, hw_role role);
bool hw_role_is_vector(hw_role role);
void hw_model_shape(const hw_model *m, hw_role role, size_t *n_out, size_t *n_in);

static inline const hw_attn *hw_model_attn(const hw_model *m, int layer)
{
    return &m->attn[m->attn_kind[layer]];
}

size_t hw_model_n_params(const hw_model *m); /* a tied table counts once */

#endif
