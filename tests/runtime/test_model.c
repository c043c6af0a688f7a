#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "runtime/weights/params.h"

static hw_status read(hw_model *m, const char *text, hw_error *err)
{
    json_t *config;
    cr_assert_eq(hw_json_parse(&config, text, strlen(text), "c", HW_ERR_MODEL, err), HW_OK, "%s",
                 err->message);
    hw_status st = hw_model_from_config(m, config, "c", err);
    json_decref(config);
    return st;
}

static hw_model read_good(const char *text)
{
    hw_model m;
    hw_error err = {.rank = -1};
    cr_assert_eq(read(&m, text, &err), HW_OK, "%s", err.message);
    return m;
}

#define LLAMA                                                                                                \
    "{\"model_type\": \"llama\", \"num_hidden_layers\": 3, \"hidden_size\": 48, \"intermediate_size\": 100," \
    " \"num_attention_heads\": 6, \"vocab_size\": 77"
#define GPT2 "{\"model_type\": \"gpt2\", \"n_layer\": 3, \"n_embd\": 48, \"n_head\": 6, \"vocab_size\": 77"

/* configuration_llama.py of transformers. */
Test(model, llama_keys_that_are_missing_have_the_defaults_of_transformers)
{
    hw_model m = read_good(LLAMA "}");
    cr_expect_str_eq(m.architecture, "llama");
    cr_expect(m.n_layers == 3 && m.dim == 48 && m.ffn_dim == 100 && m.n_heads == 6 && m.vocab_size == 77);
    cr_expect(m.n_kv_heads == 6 && m.head_dim == 8 && m.max_seq_len == 2048);
    cr_expect(m.norm == HW_NORM_RMS && m.norm_eps == 1e-6f && m.activation == HW_ACT_SILU && m.gated_mlp);
    cr_expect(!m.qkv_bias && !m.o_bias && !m.mlp_bias && !m.tied_embeddings && !m.learned_positions);
    cr_expect(m.rope.kind == HW_ROPE_DEFAULT && m.rope.theta == 10000 && m.rope.rotary_dim == 8);
    cr_expect_eq(m.stored, HW_DTYPE_NONE);
    cr_expect_float_eq(m.kinds[0].attn.scale, 1 / sqrtf(8), 1e-7f); /* one rounding */
}

/* configuration_gpt2.py. */
Test(model, gpt2_keys_that_are_missing_have_the_defaults_of_transformers)
{
    hw_model m = read_good(GPT2 "}");
    cr_expect(m.ffn_dim == 192 && m.n_kv_heads == 6 && m.head_dim == 8 && m.max_seq_len == 1024);
    cr_expect(m.norm == HW_NORM_LAYER && m.norm_eps == 1e-5f && m.activation == HW_ACT_GELU_TANH &&
              !m.gated_mlp);
    cr_expect(m.qkv_bias && m.o_bias && m.mlp_bias && m.tied_embeddings && m.learned_positions);
    cr_expect_eq(m.rope.kind, HW_ROPE_NONE);
    m = read_good(GPT2 ", \"n_inner\": 50, \"n_positions\": 99, \"activation_function\": \"relu\","
                       " \"tie_word_embeddings\": false, \"scale_attn_weights\": false}");
    cr_expect(m.ffn_dim == 50 && m.max_seq_len == 99 && m.activation == HW_ACT_RELU && !m.tied_embeddings);
    cr_expect_eq(m.kinds[0].attn.scale, 1);
}

#define RELATIVE(type)                                                                                       \
    "{\"model_type\": \"" type                                                                               \
    "\", \"num_hidden_layers\": 3, \"hidden_size\": 48, \"intermediate_size\": 100,"                         \
    " \"num_attention_heads\": 6, \"vocab_size\": 77, \"num_key_value_heads\": 2"

/* configuration_mistral.py: a missing window is one of 4096, and null is none. */
Test(model, of_mistral_has_a_window_in_every_layer)
{
    hw_model m = read_good(RELATIVE("mistral") "}");
    cr_expect(m.kinds[0].pre_norm && !m.kinds[0].post_norm && !m.kinds[0].qk_norm && m.head_dim == 8 &&
              m.max_seq_len == 131072);
    for (int i = 0; i < 3; i++) cr_expect_eq(hw_model_layer(&m, i)->attn.window, 4096);
    m = read_good(RELATIVE("mistral") ", \"sliding_window\": null}");
    cr_expect_eq(hw_model_layer(&m, 0)->attn.window, 0);
}

/* configuration_qwen3.py: windows are off until they are switched on, and then in the last layers. */
Test(model, of_qwen3_has_windows_in_the_layers_that_config_says)
{
    hw_model m = read_good(RELATIVE("qwen3") ", \"sliding_window\": 24, \"max_window_layers\": 1}");
    cr_expect(m.kinds[0].pre_norm && m.kinds[0].qk_norm && m.head_dim == 128 && m.n_kv_heads == 2 &&
              m.max_seq_len == 32768);
    for (int i = 0; i < 3; i++) cr_expect_eq(hw_model_layer(&m, i)->attn.window, 0);
    m = read_good(RELATIVE("qwen3") ", \"sliding_window\": 24, \"max_window_layers\": 1,"
                                    " \"use_sliding_window\": true}");
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(hw_model_layer(&m, i)->attn.window, i < 1 ? 0 : 24);
        cr_expect_float_eq(hw_model_layer(&m, i)->attn.scale, 1 / sqrtf(128), 1e-7f); /* one rounding */
    }
    m = read_good(RELATIVE("qwen3") ", \"sliding_window\": 24, \"use_sliding_window\": true, \"layer_types\":"
                                    " [\"sliding_attention\", \"full_attention\", \"sliding_attention\"]}");
    for (int i = 0; i < 3; i++) cr_expect_eq(hw_model_layer(&m, i)->attn.window, i == 1 ? 0 : 24);
}

Test(model, of_exaone4_has_norms_after_its_blocks)
{
    hw_model m = read_good(RELATIVE("exaone4") ", \"sliding_window\": null}");
    cr_expect(!m.kinds[0].pre_norm && m.kinds[0].post_norm && m.kinds[0].qk_norm && m.norm == HW_NORM_RMS &&
              m.norm_eps == 1e-5f);
}

Test(model, both_spellings_of_rope_and_of_the_type_mean_the_same)
{
    hw_model old = read_good(LLAMA ", \"torch_dtype\": \"bfloat16\", \"rope_theta\": 500000.0,"
                                   " \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}}");
    hw_model new =
        read_good(LLAMA ", \"dtype\": \"bfloat16\", \"rope_parameters\":"
                        " {\"rope_type\": \"linear\", \"factor\": 2.0, \"rope_theta\": 500000.0}}");
    cr_expect(old.stored == HW_BF16 && new.stored == HW_BF16);
    cr_expect(old.rope.kind == HW_ROPE_LINEAR && new.rope.kind == HW_ROPE_LINEAR);
    cr_expect(old.rope.theta == 500000 && new.rope.theta == 500000 && old.rope.factor == new.rope.factor);
}

/* As transformers counts them, model.num_parameters(). */
Test(model, parameters_of_known_shapes)
{
    hw_model m;
    hw_error err = {.rank = -1};
    cr_assert_eq(hw_model_open(&m, HW_SOURCE_DIR "/models/shapes/gpt2-124m", &err), HW_OK, "%s", err.message);
    cr_expect_eq(hw_model_n_params(&m), 124439808);
    cr_assert_eq(hw_model_open(&m, HW_SOURCE_DIR "/models/shapes/llama-1b", &err), HW_OK, "%s", err.message);
    cr_expect_eq(hw_model_n_params(&m), 1235814400);
}

Test(model, what_is_not_understood_is_refused_by_name)
{
    static const char *const bad[][2] = {
        {"{}", "\"model_type\""},
        {"{\"model_type\": \"mamba\"}", "\"mamba\""},
        {"{\"model_type\": \"llama\"}", "\"num_hidden_layers\""},
        {"{\"model_type\": \"gpt2\"}", "\"n_layer\""},
        {LLAMA ", \"num_key_value_heads\": 4}", "6 attention heads"},
        {LLAMA ", \"num_key_value_heads\": 7}", "\"num_key_value_heads\""},
        {LLAMA ", \"hidden_act\": \"mish\"}", "\"mish\""},
        {LLAMA ", \"head_dim\": 0}", "\"head_dim\""},
        {LLAMA ", \"dtype\": \"int3\"}", "\"int3\""},
        {LLAMA ", \"quantization_config\": {}}", "\"quantization_config\""},
        {LLAMA ", \"is_causal\": false}", "\"is_causal\""},
        {GPT2 ", \"is_causal\": false}", "\"is_causal\""},
        {LLAMA ", \"rope_scaling\": {\"rope_type\": \"longrope\", \"factor\": 2}}", "\"longrope\""},
        {LLAMA ", \"rms_norm_eps\": \"small\"}", "\"rms_norm_eps\""},
        {LLAMA ", \"tie_word_embeddings\": 1}", "\"tie_word_embeddings\""},
        {LLAMA ", \"max_position_embeddings\": -1}", "\"max_position_embeddings\""},
        {RELATIVE("mistral") ", \"sliding_window\": 0}", "\"sliding_window\""},
        {RELATIVE("qwen3") ", \"layer_types\": [\"full_attention\"]}", "a list of 3"},
        {RELATIVE(
             "qwen3") ", \"layer_types\": [\"full_attention\", \"linear_attention\", \"full_attention\"]}",
         "\"linear_attention\""},
        {RELATIVE("qwen3") ", \"layer_types\": [\"full_attention\", \"sliding_attention\", 3]}", "no window"},
        {RELATIVE("exaone4") "}", "\"sliding_window\""},
        {RELATIVE("exaone4") ", \"sliding_window\": null, \"attention_bias\": true}", "\"attention_bias\""},
        {GPT2 ", \"scale_attn_by_inverse_layer_idx\": true}", "\"scale_attn_by_inverse_layer_idx\""},
        {GPT2 ", \"add_cross_attention\": true}", "\"add_cross_attention\""},
        {"{\"model_type\": \"gpt2\", \"n_layer\": 1, \"n_embd\": 50, \"n_head\": 6, \"vocab_size\": 7}",
         "n_embd 50"},
        {"{\"model_type\": \"gpt2\", \"n_layer\": 1, \"n_embd\": 48, \"n_head\": 6, \"vocab_size\": "
         "99999999}",
         "\"vocab_size\""},
        {"{\"model_type\": \"llama\", \"num_hidden_layers\": 1, \"hidden_size\": 4, \"intermediate_size\": 8,"
         " \"num_attention_heads\": 6, \"vocab_size\": 7}",
         "hidden_size 4"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hw_model m;
        hw_error err = {.rank = -1};
        cr_expect_eq(read(&m, bad[i][0], &err), HW_ERR_MODEL, "%s", bad[i][0]);
        cr_expect_not_null(strstr(err.message, bad[i][1]), "\"%s\" does not name %s", err.message, bad[i][1]);
    }
}
