/* GPT-2 (Radford et al. 2019): LayerNorm, learned positions, biases everywhere, plain MLP. Its matrices are
 * stored as Conv1D, that is transposed, and q, k and v lie in one tensor. Keys and defaults: transformers,
 * configuration_gpt2.py. */
#include <math.h>

#include "runtime/models/read.h"

static const hw_tensor_rule rules[] = {
    {"wte.weight", HW_ROLE_EMBED, false},
    {"wpe.weight", HW_ROLE_POSITIONS, false},
    {"h.{layer}.ln_1.weight", HW_ROLE_ATTN_NORM, false},
    {"h.{layer}.ln_1.bias", HW_ROLE_ATTN_NORM_BIAS, false},
    {"h.{layer}.attn.c_attn.weight", HW_ROLE_WQ, true},
    {"h.{layer}.attn.c_attn.weight", HW_ROLE_WK, true},
    {"h.{layer}.attn.c_attn.weight", HW_ROLE_WV, true},
    {"h.{layer}.attn.c_attn.bias", HW_ROLE_BQ, false},
    {"h.{layer}.attn.c_attn.bias", HW_ROLE_BK, false},
    {"h.{layer}.attn.c_attn.bias", HW_ROLE_BV, false},
    {"h.{layer}.attn.c_proj.weight", HW_ROLE_WO, true},
    {"h.{layer}.attn.c_proj.bias", HW_ROLE_BO, false},
    {"h.{layer}.ln_2.weight", HW_ROLE_MLP_NORM, false},
    {"h.{layer}.ln_2.bias", HW_ROLE_MLP_NORM_BIAS, false},
    {"h.{layer}.mlp.c_fc.weight", HW_ROLE_W_UP, true},
    {"h.{layer}.mlp.c_fc.bias", HW_ROLE_B_UP, false},
    {"h.{layer}.mlp.c_proj.weight", HW_ROLE_W_DOWN, true},
    {"h.{layer}.mlp.c_proj.bias", HW_ROLE_B_DOWN, false},
    {"ln_f.weight", HW_ROLE_FINAL_NORM, false},
    {"ln_f.bias", HW_ROLE_FINAL_NORM_BIAS, false},
    {"lm_head.weight", HW_ROLE_HEAD, false},
    {NULL, HW_N_ROLES, false},
};

/* Causal masks that old versions of transformers saved as buffers. */
static const char *const ignored[] = {"h.{layer}.attn.bias", "h.{layer}.attn.masked_bias", NULL};

static hw_status read(hw_model *m, hw_json_at at)
{
    hw_status st;
    double eps = 1e-5;
    bool scale = true;
    m->rules = rules;
    m->ignored = ignored;
    m->prefix = "transformer.";
    m->tied_embeddings = true;
    m->max_seq_len = 1024;
    if ((st = hw_read_size(at, "n_layer", HW_MAX_LAYERS, &m->n_layers)) ||
        (st = hw_read_size(at, "n_embd", HW_MAX_WIDTH / 4, &m->dim)) ||
        (st = hw_read_size(at, "n_head", HW_MAX_WIDTH, &m->n_heads)) ||
        (st = hw_read_size(at, "vocab_size", HW_MAX_VOCAB, &m->vocab_size)))
        return st;
    m->ffn_dim = 4 * m->dim;
    if ((st = hw_json_size(at, "n_ctx", 1, HW_MAX_POSITIONS, &m->max_seq_len)) ||
        (st = hw_json_size(at, "n_positions", 1, HW_MAX_POSITIONS, &m->max_seq_len)) ||
        (st = hw_json_size(at, "n_inner", 1, HW_MAX_WIDTH, &m->ffn_dim)) ||
        (st = hw_json_number(at, "layer_norm_epsilon", 0, 1, &eps)) ||
        (st = hw_json_bool(at, "tie_word_embeddings", &m->tied_embeddings)) ||
        (st = hw_json_bool(at, "scale_attn_weights", &scale)) ||
        (st = hw_read_activation(at, "activation_function", "gelu_new", &m->activation)) ||
        (st = hw_read_only_bool(at, "scale_attn_by_inverse_layer_idx", false)) ||
        (st = hw_read_only_bool(at, "add_cross_attention", false)))
        return st;
    if (m->dim % m->n_heads)
        return hw_fail(at.err, at.failure, "%s: n_embd %d is not a multiple of n_head %d", at.name, m->dim,
                       m->n_heads);
    m->n_kv_heads = m->n_heads;
    m->head_dim = m->dim / m->n_heads;
    m->norm = HW_NORM_LAYER;
    m->kinds[0].pre_norm = true;
    m->norm_eps = (float)eps;
    m->qkv_bias = m->o_bias = m->mlp_bias = true;
    m->learned_positions = true;
    m->kinds[0].attn.scale = scale ? (float)(1.0 / sqrt(m->head_dim)) : 1.0f;
    return HW_OK;
}

const hw_architecture hw_gpt2 = {"gpt2", read};
