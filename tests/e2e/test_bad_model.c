/* Model folders that are not what they should be: the program says which file, key or tensor, what it found
 * and what it wanted, and ends with exit code 3. `inspect` opens everything in a folder, as `generate` does;
 * a selection runs on two ranks. */
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/e2e/headway.h"
#include "tests/e2e/model_folder.h"

#define LLAMA   "tests/vectors/llama-gqa"     /* bfloat16, tied */
#define SHARDED "tests/vectors/llama-sharded" /* three files and an index */
#define GPT2    "tests/vectors/gpt2-tied"
#define WEIGHTS "model.safetensors"
#define INDEX   "model.safetensors.index.json"

TestSuite(bad_model, .fini = remove_model);

static void refused(const char *const words[])
{
    assert_refused(1, 3, words, (const char *const[]){HEADWAY, "inspect", "-m", in_model(""), NULL});
    assert_refused(1, 3, words,
                   (const char *const[]){HEADWAY, "generate", "-m", in_model(""), "--tokens", "1,2", NULL});
}

/* An edit of one file of a sound folder, and what the message says. */
typedef struct edit {
    const char *of, *file, *from, *to;
    const char *words[6];
} edit;

static void refuse_all(const edit *edits, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        model_like(edits[i].of);
        replace_in(edits[i].file, edits[i].from, edits[i].to);
        refused(edits[i].words);
    }
}
#define REFUSE_ALL(edits) refuse_all(edits, sizeof edits / sizeof *edits)

/* ---- files and folders */

Test(bad_model, folder_that_is_not_there)
{
    REFUSED(1, 3, WORDS("nowhere/at/all: No such file or directory", "folder"), "generate", "-m",
            "nowhere/at/all", "-p", "Hello");
    REFUSED(1, 3, WORDS("nowhere/at/all: No such file or directory", "folder"), "inspect", "-m",
            "nowhere/at/all");
    REFUSED(1, 3, WORDS("nowhere/at/all: No such file or directory", "folder"), "tokenize", "-m",
            "nowhere/at/all", "-p", "Hello");
    REFUSED(1, 3, WORDS("nowhere/at/all: No such file or directory", "folder"), "bench", "-m",
            "nowhere/at/all", "--load-format", "dummy");
    REFUSED(2, 3, WORDS("nowhere/at/all: No such file or directory", "folder"), "generate", "-m",
            "nowhere/at/all", "-p", "Hello");
}

Test(bad_model, file_given_as_the_folder)
{
    REFUSED(1, 3, WORDS("models/tales/model.safetensors: not a folder"), "generate", "-m",
            TALES "/model.safetensors", "-p", "Hello");
    REFUSED(1, 3, WORDS("models/tales/config.json: not a folder"), "inspect", "-m", TALES "/config.json");
    model_like(LLAMA);
    write_text_in_model("model.gguf", "GGUF");
    REFUSED(1, 3, WORDS("model.gguf: not a folder", "GGUF is not read"), "generate", "-m",
            in_model("model.gguf"), "-p", "Hello");
}

Test(bad_model, missing_files)
{
    model_like(LLAMA);
    remove_in_model("config.json");
    refused(WORDS("/config.json", "No such file"));
    model_like(LLAMA);
    remove_in_model(WEIGHTS);
    REFUSED(1, 3, WORDS("no weights", WEIGHTS), "generate", "-m", in_model(""), "--tokens", "1");
    REFUSED(2, 3, WORDS("no weights", WEIGHTS), "generate", "-m", in_model(""), "--tokens", "1");
    model_like(LLAMA);
    REFUSED(1, 3, WORDS("/tokenizer.json", "No such file", "--tokens"), "generate", "-m", in_model(""), "-p",
            "Hello");
    REFUSED(1, 3, WORDS("/tokenizer.json", "No such file"), "tokenize", "-m", in_model(""), "-p", "Hello");
    remove_in_model("config.json");
    REFUSED(1, 3, WORDS("neither config.json nor tokenizer.json", "folder"), "generate", "-m", in_model(""),
            "-p", "Hello");
    REFUSED(2, 3, WORDS("neither config.json nor tokenizer.json", "folder"), "generate", "-m", in_model(""),
            "-p", "Hello");
    model_like(SHARDED);
    remove_in_model("model-00002-of-00003.safetensors");
    refused(WORDS("model-00002-of-00003.safetensors", "No such file"));
}

Test(bad_model, weights_of_another_kind)
{
    model_like(LLAMA);
    remove_in_model(WEIGHTS);
    write_text_in_model("pytorch_model.bin", "PK");
    REFUSED(1, 3, WORDS("pytorch_model.bin", "safetensors"), "generate", "-m", in_model(""), "--tokens", "1");
    model_like(LLAMA);
    write_text_in_model(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 220976\n");
    refused(WORDS(WEIGHTS, "Git LFS"));
}

Test(bad_model, link_that_leads_nowhere)
{
    model_like(LLAMA);
    remove_in_model(WEIGHTS);
    cr_assert_eq(symlink("../blobs/00", in_model(WEIGHTS)), 0);
    REFUSED(1, 3, WORDS(WEIGHTS, "link"), "generate", "-m", in_model(""), "--tokens", "1");
}

Test(bad_model, folder_or_pipe_where_a_file_should_be)
{
    model_like(LLAMA);
    remove_in_model(WEIGHTS);
    cr_assert_eq(mkdir(in_model(WEIGHTS), 0700), 0);
    refused(WORDS(WEIGHTS, "not a regular file"));
    model_like(LLAMA);
    remove_in_model("config.json");
    cr_assert_eq(mkfifo(in_model("config.json"), 0600), 0);
    refused(WORDS("config.json", "not a regular file"));
}

/* ---- safetensors */

Test(bad_model, safetensors_file_of_another_length)
{
    static const size_t lengths[] = {0, 7, 8, 100, 2991, 2992, 220975};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        model_like(LLAMA);
        cut_in_model(WEIGHTS, lengths[i]);
        refused(WORDS(WEIGHTS));
    }
    refused(WORDS(WEIGHTS, "truncated", "220976", "220975"));
    REFUSED(2, 3, WORDS(WEIGHTS, "truncated", "220976", "220975"), "generate", "-m", in_model(""), "--tokens",
            "1");
    model_like(LLAMA);
    append_in_model(WEIGHTS, 3);
    refused(WORDS(WEIGHTS, "3 bytes after the last tensor", "220976", "220979"));
    model_like(SHARDED);
    cut_in_model("model-00003-of-00003.safetensors", 5000);
    refused(WORDS("model-00003-of-00003.safetensors", "truncated"));
}

Test(bad_model, safetensors_header_longer_than_allowed)
{
    static const uint64_t lengths[] = {100000001, (uint64_t)1 << 40, UINT64_MAX - 7, UINT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char number[24];
        snprintf(number, sizeof number, "%llu", (unsigned long long)lengths[i]);
        model_like(LLAMA);
        write_in_model(WEIGHTS, &lengths[i], sizeof lengths[i]);
        refused(WORDS(WEIGHTS, number, "100000000"));
    }
}

#define NORM "\"model.norm.weight\":{\"dtype\":\"BF16\",\"shape\":[64],\"data_offsets\":[217856,217984]}"

static const edit headers[] = {
    {LLAMA,
     WEIGHTS,
     "[217856,217984]",
     "[217854,217982]",
     {WEIGHTS, "model.norm.weight", "overlaps", "2 bytes"}},
    {LLAMA,
     WEIGHTS,
     "[217856,217984]",
     "[217858,217986]",
     {WEIGHTS, "model.norm.weight", "2 bytes", "no tensor"}},
    {LLAMA, WEIGHTS, "[217856,217984]", "[217984,217856]", {WEIGHTS, "model.norm.weight", "no range"}},
    {LLAMA, WEIGHTS, "[217856,217984]", "[-128,0]", {WEIGHTS, "model.norm.weight", "data_offsets", "-128"}},
    {LLAMA, WEIGHTS, "[217856,217984]", "[217856,9223372036854775807]", {WEIGHTS, "model.norm.weight"}},
    {LLAMA,
     WEIGHTS,
     "[217856,217984]",
     "[217856]",
     {WEIGHTS, "model.norm.weight", "data_offsets", "wanted 2"}},
    {LLAMA, WEIGHTS, "[217856,217984]", "null", {WEIGHTS, "model.norm.weight", "data_offsets"}},
    {LLAMA,
     WEIGHTS,
     "[64],\"data_offsets\":[217856",
     "[65],\"data_offsets\":[217856",
     {WEIGHTS, "model.norm.weight", "[65]", "130", "128"}},
    {LLAMA,
     WEIGHTS,
     "[64],\"data_offsets\":[217856",
     "[4294967296,4294967296,4294967296],\"data_offsets\":[217856",
     {WEIGHTS, "model.norm.weight", "64 bits"}},
    {LLAMA,
     WEIGHTS,
     "[64],\"data_offsets\":[217856",
     "[1,1,1,1,1,1,1,1,64],\"data_offsets\":[217856",
     {WEIGHTS, "model.norm.weight", "shape", "9"}},
    {LLAMA, WEIGHTS, NORM, "\"model.norm.weight\":7", {WEIGHTS, "model.norm.weight"}},
    {LLAMA, WEIGHTS, NORM, NORM "," NORM, {WEIGHTS, "duplicate", "model.norm.weight"}},
    {LLAMA, WEIGHTS, "{\"format\":\"pt\"}", "{\"format\":1}", {WEIGHTS, "__metadata__", "format"}},
    {LLAMA, WEIGHTS, "{\"__metadata__\"", " {\"__metadata__\"", {WEIGHTS, "{"}},
    {LLAMA, WEIGHTS, "\"BF16\"", "\"BF16", {WEIGHTS, "JSON"}},
};
Test(bad_model, safetensors_header_that_contradicts_itself) { REFUSE_ALL(headers); }

Test(bad_model, safetensors_header_nested_deeply)
{
    char *deep = nested_json(100000);
    uint64_t n = strlen(deep);
    char *file = malloc(8 + n);
    memcpy(file, &n, 8);
    memcpy(file + 8, deep, n);
    model_like(LLAMA);
    write_in_model(WEIGHTS, file, 8 + n);
    refused(WORDS(WEIGHTS, "nested"));
    free(file);
    free(deep);
}

/* ---- tensors that do not go with the config */

static const edit tensors[] = {
    {LLAMA,
     WEIGHTS,
     "{\"dtype\":\"BF16\",\"shape\":[64],\"data_offsets\":[217856",
     "{\"dtype\":\"I16\",\"shape\":[64],\"data_offsets\":[217856",
     {WEIGHTS, "model.norm.weight", "I16", "BF16"}},
    {LLAMA,
     WEIGHTS,
     "{\"dtype\":\"BF16\",\"shape\":[64],\"data_offsets\":[217856",
     "{\"dtype\":\"F8_E4M3\",\"shape\":[128],\"data_offsets\":[217856",
     {WEIGHTS, "model.norm.weight", "[128]", "[64]"}},
    {LLAMA,
     WEIGHTS,
     "[32,64],\"data_offsets\":[193280,",
     "[64,32],\"data_offsets\":[193280,",
     {WEIGHTS, "k_proj", "[64, 32]", "[32, 64]"}},
    {LLAMA, WEIGHTS, "model.norm.weight", "model.norm.bias", {"\"model.norm.weight\"", "missing"}},
    {LLAMA,
     WEIGHTS,
     "layers.2.self_attn.q_proj",
     "layers.3.self_attn.q_proj",
     {"\"model.layers.2.self_attn.q_proj.weight\"", "missing"}},
    {LLAMA,
     WEIGHTS,
     NORM,
     NORM ",\"model.layers.0.self_attn.q_proj.bias\":{\"dtype\":\"BF16\",\"shape\":[0],\"data_offsets\":["
          "217984,217984]}",
     {WEIGHTS, "model.layers.0.self_attn.q_proj.bias", "no place"}},
    {LLAMA,
     WEIGHTS,
     NORM,
     NORM ",\"model.layers.3.mlp.up_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[0],\"data_offsets\":[217984,"
          "217984]}",
     {WEIGHTS, "model.layers.3.mlp.up_proj.weight", "3 layers"}},
    {LLAMA,
     "config.json",
     "\"tie_word_embeddings\": true",
     "\"tie_word_embeddings\": false",
     {"lm_head.weight", "missing", "tie_word_embeddings"}},
    {LLAMA,
     "config.json",
     "\"num_hidden_layers\": 3",
     "\"num_hidden_layers\": 4",
     {"model.layers.3.", "missing"}},
    {LLAMA,
     "config.json",
     "\"num_hidden_layers\": 3",
     "\"num_hidden_layers\": 2",
     {"model.layers.2.", "2 layers"}},
    {LLAMA,
     "config.json",
     "\"vocab_size\": 256",
     "\"vocab_size\": 257",
     {"model.embed_tokens.weight", "[256, 64]", "[257, 64]"}},
    {LLAMA,
     "config.json",
     "\"attention_bias\": false",
     "\"attention_bias\": true",
     {"self_attn.q_proj.bias", "missing"}},
    {GPT2, WEIGHTS, "[48,144]", "[144,48]", {"h.0.attn.c_attn.weight", "[144, 48]", "[48, 144]"}},
};
Test(bad_model, tensors_that_do_not_go_with_the_config)
{
    REFUSE_ALL(tensors);
    model_like(LLAMA);
    replace_in("config.json", "\"vocab_size\": 256", "\"vocab_size\": 257");
    REFUSED(2, 3, WORDS("model.embed_tokens.weight", "[256, 64]", "[257, 64]"), "generate", "-m",
            in_model(""), "--tokens", "1");
}

Test(bad_model, config_of_another_architecture)
{
    char config[4096];
    FILE *f = fopen(VECTORS "/gpt2-tied/config.json", "r");
    cr_assert_not_null(f);
    size_t n = fread(config, 1, sizeof config, f);
    fclose(f);
    model_like(LLAMA);
    write_in_model("config.json", config, n);
    refused(WORDS("wte.weight", "missing"));
}

/* ---- the index */

#define FIRST_NORM "\"model.layers.0.input_layernorm.weight\": \"model-00002-of-00003.safetensors\""
#define HEAD       "\"lm_head.weight\": \"model-00003-of-00003.safetensors\""

static const edit indexes[] = {
    {SHARDED,
     INDEX,
     HEAD,
     "\"lm_head.weight\": \"../model.safetensors\"",
     {INDEX, "lm_head.weight", "../model", "plain name"}},
    {SHARDED, INDEX, HEAD, "\"lm_head.weight\": \"/etc/passwd\"", {INDEX, "lm_head.weight", "/etc/passwd"}},
    {SHARDED, INDEX, HEAD, "\"lm_head.weight\": \"\"", {INDEX, "lm_head.weight"}},
    {SHARDED, INDEX, HEAD, "\"lm_head.weight\": 3", {INDEX, "lm_head.weight"}},
    {SHARDED,
     INDEX,
     HEAD,
     "\"lm_head.weight\": \"model-00001-of-00003.safetensors\"",
     {INDEX, "lm_head.weight", "model-00001", "not there"}},
    {SHARDED,
     INDEX,
     FIRST_NORM ",",
     "",
     {INDEX, "model.layers.0.input_layernorm.weight", "not in the index"}},
    {SHARDED, INDEX, HEAD, HEAD ", \"more\": \"model-00003-of-00003.safetensors\"", {INDEX, "more"}},
    {SHARDED, INDEX, HEAD, HEAD ", " HEAD, {INDEX, "duplicate", "lm_head.weight"}},
    {SHARDED, INDEX, "\"weight_map\"", "\"weights\"", {INDEX, "weight_map"}},
    {SHARDED, INDEX, "\"weight_map\": {", "\"weight_map\": {,", {INDEX, "JSON"}},
};
Test(bad_model, index_that_does_not_go_with_the_files) { REFUSE_ALL(indexes); }

Test(bad_model, index_outside_the_folder_on_2_ranks)
{
    model_like(SHARDED);
    replace_in(INDEX, HEAD, "\"lm_head.weight\": \"../../etc/passwd\"");
    REFUSED(2, 3, WORDS(INDEX, "lm_head.weight", "../../etc/passwd"), "generate", "-m", in_model(""),
            "--tokens", "1");
}

/* ---- config.json and generation_config.json */

static const edit configs[] = {
    {LLAMA, "config.json", "\"llama\"", "\"mamba\"", {"config.json", "model_type", "mamba", "llama"}},
    {LLAMA, "config.json", "\"model_type\": \"llama\",", "", {"config.json", "model_type", "missing"}},
    {LLAMA, "config.json", "\"silu\"", "\"quick_gelu\"", {"config.json", "hidden_act", "quick_gelu", "silu"}},
    {GPT2, "config.json", "\"gelu_new\"", "\"mish\"", {"config.json", "activation_function", "mish"}},
    {LLAMA,
     "config.json",
     "\"rope_type\": \"default\"",
     "\"rope_type\": \"longrope\"",
     {"config.json", "rope type", "longrope", "yarn"}},
    {LLAMA,
     "config.json",
     "\"rope_type\": \"default\"",
     "\"rope_type\": \"linear\"",
     {"config.json", "factor", "missing"}},
    {LLAMA,
     "config.json",
     "\"dtype\": \"bfloat16\"",
     "\"dtype\": \"float8_e4m3fn\"",
     {"config.json", "dtype", "float8_e4m3fn", "bfloat16"}},
    {LLAMA,
     "config.json",
     "\"dtype\"",
     "\"quantization_config\": {\"bits\": 4}, \"dtype\"",
     {"config.json", "quantization_config"}},
    {LLAMA,
     "config.json",
     "\"hidden_size\": 64",
     "\"hidden_size\": 64.5",
     {"config.json", "hidden_size", "fraction", "integer"}},
    {LLAMA,
     "config.json",
     "\"hidden_size\": 64",
     "\"hidden_size\": \"64\"",
     {"config.json", "hidden_size", "string", "integer"}},
    {LLAMA,
     "config.json",
     "\"hidden_size\": 64",
     "\"hidden_size\": -64",
     {"config.json", "hidden_size", "-64"}},
    {LLAMA,
     "config.json",
     "\"hidden_size\": 64",
     "\"hidden_size\": 9223372036854775808",
     {"config.json", "9223372036854775808"}},
    {LLAMA, "config.json", "\"hidden_size\": 64,", "", {"config.json", "hidden_size", "missing"}},
    {LLAMA,
     "config.json",
     "\"num_key_value_heads\": 4",
     "\"num_key_value_heads\": 3",
     {"config.json", "8 attention heads", "3 key/value heads"}},
    {LLAMA,
     "config.json",
     "\"num_attention_heads\": 8",
     "\"num_attention_heads\": 1048576",
     {"config.json", "hidden_size 64", "1048576"}},
    {LLAMA,
     "config.json",
     "\"dtype\"",
     "\"head_dim\": 7, \"dtype\"",
     {"config.json", "rotary dimension 7", "even"}},
    {LLAMA,
     "config.json",
     "\"hidden_size\": 64",
     "\"hidden_size\": 64, \"hidden_size\": 64",
     {"config.json", "duplicate", "hidden_size"}},
    {LLAMA, "config.json", "\"hidden_size\"", "hidden_size", {"config.json:", "JSON"}},
    {LLAMA, "config.json", "\"silu\"", "\"\xff\"", {"config.json:", "JSON", "byte 0xff"}},
    {LLAMA,
     "generation_config.json",
     "{",
     "{\"eos_token_id\": \"end\",",
     {"generation_config.json", "eos_token_id"}},
    {LLAMA,
     "generation_config.json",
     "{",
     "{\"temperature\": \"hot\",",
     {"generation_config.json", "temperature"}},
    {LLAMA, "generation_config.json", "{", "{\"top_p\": 1.5,", {"generation_config.json", "top_p", "1.5"}},
    {LLAMA,
     "generation_config.json",
     "{",
     "{\"top_k\": 1, \"top_k\": 1,",
     {"generation_config.json", "duplicate", "top_k"}},
    {LLAMA, "generation_config.json", "{", "{{", {"generation_config.json:", "JSON"}},
};
Test(bad_model, config_that_is_wrong_or_asks_for_what_is_not_there) { REFUSE_ALL(configs); }

Test(bad_model, unknown_architecture_on_2_ranks)
{
    model_like(LLAMA);
    replace_in("config.json", "\"llama\"", "\"mamba\"");
    REFUSED(2, 3, WORDS("config.json", "model_type", "mamba", "llama"), "generate", "-m", in_model(""),
            "--tokens", "1");
}

Test(bad_model, json_nested_deeply_or_empty_or_no_object)
{
    static const struct {
        const char *of, *file;
    } files[] = {{LLAMA, "config.json"},
                 {LLAMA, "generation_config.json"},
                 {SHARDED, INDEX},
                 {"models/tales", "tokenizer.json"}};
    char *deep = nested_json(100000);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        model_like(files[i].of);
        write_text_in_model(files[i].file, deep);
        refused(WORDS(files[i].file, "nested", "128"));
        write_text_in_model(files[i].file, "");
        refused(WORDS(files[i].file, "JSON"));
        write_text_in_model(files[i].file, "[]");
        refused(WORDS(files[i].file, "object"));
    }
    free(deep);
}

/* ---- tokenizer.json */

static const edit tokenizers[] = {
    {"models/tales",
     "tokenizer.json",
     "\"type\": \"BPE\"",
     "\"type\": \"Unigram\"",
     {"tokenizer.json", "model", "Unigram"}},
    {"models/tales",
     "tokenizer.json",
     "\"normalizer\": null",
     "\"normalizer\": {\"type\": \"Precompiled\"}",
     {"tokenizer.json", "normalizer", "Precompiled"}},
    {"models/tales",
     "tokenizer.json",
     "\"type\": \"ByteLevel\"",
     "\"type\": \"BertPreTokenizer\"",
     {"tokenizer.json", "pre_tokenizer", "BertPreTokenizer"}},
    {"models/tales",
     "tokenizer.json",
     "\"post_processor\": null",
     "\"post_processor\": {\"type\": \"BertProcessing\"}",
     {"tokenizer.json", "post_processor", "BertProcessing"}},
    {"models/tales",
     "tokenizer.json",
     "\"normalizer\": null",
     "\"normaliser\": null",
     {"tokenizer.json", "normaliser"}},
    {"models/tales",
     "tokenizer.json",
     "\"truncation\": null",
     "\"truncation\": {\"max_length\": 5}",
     {"tokenizer.json", "truncation"}},
    {"models/tales", "tokenizer.json", "\"\\\"\": 1,", "\"!\": 1,", {"tokenizer.json", "duplicate"}},
    {"models/tales", "tokenizer.json", "\"#\": 2,", "\"#\": 1,", {"tokenizer.json", "1"}},
    {"models/tales", "tokenizer.json", "\"#\": 2,", "\"#\": -2,", {"tokenizer.json", "-2"}},
    {"models/tales", "tokenizer.json", "\"#\": 2,", "\"#\": 2000000000,", {"tokenizer.json", "2000000000"}},
    {"models/tales",
     "tokenizer.json",
     "\"dropout\": null",
     "\"dropout\": 0.5",
     {"tokenizer.json", "dropout"}},
    {"models/tales", "tokenizer.json", "\"version\"", "version", {"tokenizer.json:", "JSON"}},
};
Test(bad_model, tokenizer_with_a_part_that_is_not_known)
{
    REFUSE_ALL(tokenizers);
    model_like("models/tales");
    replace_in("tokenizer.json", "\"type\": \"BPE\"", "\"type\": \"Unigram\"");
    REFUSED(2, 3, WORDS("tokenizer.json", "model", "Unigram"), "generate", "-m", in_model(""), "-p", "Hello");
}
