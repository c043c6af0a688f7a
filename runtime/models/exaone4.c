/* EXAONE 4.0 (LG AI Research 2025), the models without windows: Llama with norms after the blocks instead of before them,
 * and one of every head of q and k. Keys and defaults: transformers, configuration_exaone4.py. */
#include "runtime/models/llama.h"

static const hw_tensor_rule rules[] = {
    {"model.embed_tokens.weight", HW_ROLE_EMBED, false},
    {"model.layers.{layer}.self_attn.q_proj.weight", HW_ROLE_WQ, false},
    {"model.layers.{layer}.self_attn.k_proj.weight", HW_ROLE_WK, false},
    {"model.layers.{layer}.self_attn.v_proj.weight", HW_ROLE_WV, false},
    {"model.layers.{layer}.self_attn.q_norm.weight", HW_ROLE_Q_NORM, false},
    {"model.layers.{layer}.self_attn.k_norm.weight", HW_ROLE_K_NORM, false},
    {"model.layers.{layer}.self_attn.o_proj.weight", HW_ROLE_WO, false},
    {"model.layers.{layer}.post_attention_layernorm.weight", HW_ROLE_ATTN_POST_NORM, false},
    {"model.layers.{layer}.mlp.gate_proj.weight", HW_ROLE_W_GATE, false},
    {"model.layers.{layer}.mlp.up_proj.weight", HW_ROLE_W_UP, false},
    {"model.layers.{layer}.mlp.down_proj.weight", HW_ROLE_W_DOWN, false},
    {"model.layers.{layer}.post_feedforward_layernorm.weight", HW_ROLE_MLP_POST_NORM, false},
    {"model.norm.weight", HW_ROLE_FINAL_NORM, false},
    {"lm_head.weight", HW_ROLE_HEAD, false},
    {NULL, HW_N_ROLES, false},
};

/* In a model with windows, the layers that see everything have no rotary positions. */
static hw_status refuse_windows(hw_json_at at)
{
    int window;
    hw_status st = hw_read_window(at, "sliding_window", 4096, &window);
    if (st || !window) return st;
    return hw_fail(
        at.err, at.failure,
        "%s: \"sliding_window\": %d is not supported, since layers without a window have no rotary "
        "positions then; known are EXAONE 4.0 models where it is null",
        at.name, window);
}

static hw_status read(hw_model *m, hw_json_at at)
{
    hw_status st =
        hw_read_llama(m, at, (hw_llama_defaults){.n_kv_heads = 32, .max_seq_len = 2048, .norm_eps = 1e-5});
    m->rules = rules;
    m->kinds[0].pre_norm = false;
    m->kinds[0].post_norm = m->kinds[0].qk_norm = true;
    return st ? st : refuse_windows(at);
}

const hw_architecture hw_exaone4 = {"exaone4", read};
