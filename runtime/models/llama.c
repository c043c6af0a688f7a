/* Llama 1, 2 and 3 (Touvron et al. 2023; Grattafiori et al. 2024) and what shares their config.json: RMSNorm,
 * rotary positions, grouped-query attention, gated MLP. Keys and defaults: transformers,
 * configuration_llama.py. */
#include <math.h>

#include "runtime/models/llama.h"

static const hw_tensor_rule rules[] = {
    {"model.embed_tokens.weight", HW_ROLE_EMBED, false},
    {"model.layers.{layer}.input_layernorm.weight", HW_ROLE_ATTN_NORM, false},
    {"model.layers.{layer}.self_attn.q_proj.weight", HW_ROLE_WQ, false},
    {"model.layers.{layer}.self_attn.k_proj.weight", HW_ROLE_WK, false},
    {"model.layers.{layer}.self_attn.v_proj.weight", HW_ROLE_WV, false},
    {"model.layers.{layer}.self_attn.q_norm.weight", HW_ROLE_Q_NORM, false},
    {"model.layers.{layer}.self_attn.k_norm.weight", HW_ROLE_K_NORM, false},
    {"model.layers.{layer}.self_attn.o_proj.weight", HW_ROLE_WO, false},
    {"model.layers.{layer}.self_attn.q_proj.bias", HW_ROLE_BQ, false},
    {"model.layers.{layer}.self_attn.k_proj.bias", HW_ROLE_BK, false},
    {"model.layers.{layer}.self_attn.v_proj.bias", HW_ROLE_BV, false},
    {"model.layers.{layer}.self_attn.o_proj.bias", HW_ROLE_BO, false},
    {"model.layers.{layer}.post_attention_layernorm.weight", HW_ROLE_MLP_NORM, false},
    {"model.layers.{layer}.mlp.gate_proj.weight", HW_ROLE_W_GATE, false},
    {"model.layers.{layer}.mlp.up_proj.weight", HW_ROLE_W_UP, false},
    {"model.layers.{layer}.mlp.down_proj.weight", HW_ROLE_W_DOWN, false},
    {"model.layers.{layer}.mlp.gate_proj.bias", HW_ROLE_B_GATE, false},
    {"model.layers.{layer}.mlp.up_proj.bias", HW_ROLE_B_UP, false},
    {"model.layers.{layer}.mlp.down_proj.bias", HW_ROLE_B_DOWN, false},
    {"model.norm.weight", HW_ROLE_FINAL_NORM, false},
    {"lm_head.weight", HW_ROLE_HEAD, false},
    {NULL, HW_N_ROLES, false},
};

static const char *const ignored[] = {"model.layers.{layer}.self_attn.rotary_emb.inv_freq", NULL};

hw_status hw_read_llama(hw_model *m, hw_json_at at, hw_llama_defaults missing)
{
    hw_status st;
    double eps = missing.norm_eps;
    bool attention_bias = false;
    m->rules = rules;
    m->ignored = ignored;
    m->prefix = "";
    if ((st = hw_read_size(at, "num_hidden_layers", HW_MAX_LAYERS, &m->n_layers)) ||
        (st = hw_read_size(at, "hidden_size", HW_MAX_WIDTH, &m->dim)) ||
        (st = hw_read_size(at, "intermediate_size", HW_MAX_WIDTH, &m->ffn_dim)) ||
        (st = hw_read_size(at, "num_attention_heads", HW_MAX_WIDTH, &m->n_heads)) ||
        (st = hw_read_size(at, "vocab_size", HW_MAX_VOCAB, &m->vocab_size)))
        return st;
    m->n_kv_heads = missing.n_kv_heads && missing.n_kv_heads < m->n_heads ? missing.n_kv_heads : m->n_heads;
    m->head_dim = missing.head_dim ? missing.head_dim : m->dim / m->n_heads;
    m->max_seq_len = missing.max_seq_len;
    if ((st = hw_json_size(at, "num_key_value_heads", 1, m->n_heads, &m->n_kv_heads)) ||
        (st = hw_json_size(at, "head_dim", 1, HW_MAX_WIDTH, &m->head_dim)) ||
        (st = hw_json_size(at, "max_position_embeddings", 1, HW_MAX_POSITIONS, &m->max_seq_len)) ||
        (st = hw_json_number(at, "rms_norm_eps", 0, 1, &eps)) ||
        (st = hw_json_bool(at, "attention_bias", &attention_bias)) ||
        (st = hw_json_bool(at, "mlp_bias", &m->mlp_bias)) ||
        (st = hw_json_bool(at, "tie_word_embeddings", &m->tied_embeddings)) ||
        (st = hw_read_activation(at, "hidden_act", "silu", &m->activation)))
        return st;
    if (m->head_dim < 1)
        return hw_fail(at.err, at.failure, "%s: hidden_size %d is smaller than num_attention_heads %d",
                       at.name, m->dim, m->n_heads);
    m->norm = HW_NORM_RMS;
    m->kinds[0].pre_norm = true;
    m->norm_eps = (float)eps;
    m->gated_mlp = true;
    m->qkv_bias = m->o_bias = attention_bias;
    m->kinds[0].attn.scale = (float)(1.0 / sqrt(m->head_dim));
    return hw_rope_from_config(&m->rope, at, m->head_dim, m->max_seq_len, 10000.0);
}

static hw_status read(hw_model *m, hw_json_at at)
{
    return hw_read_llama(m, at, (hw_llama_defaults){.max_seq_len = 2048, .norm_eps = 1e-6});
}

const hw_architecture hw_llama = {"llama", read};
