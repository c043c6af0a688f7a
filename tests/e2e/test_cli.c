/* The program when all is well: what it prints, on how many ranks, and that nothing else is on standard
 * output. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/e2e/headway.h"
#include "tests/e2e/model_folder.h"
#include "tests/support/npy.h"

#define GQA     VECTORS "/llama-gqa"
#define SHARDED VECTORS "/llama-sharded"
#define FLOATS  "--dtype", "float32", "--kv-cache-dtype", "float32" /* what the reference computed with */

#ifdef HW_SANITIZE /* slow starts; test_golden has 4 ranks under the sanitizers */
static const int ranks[] = {1, 2, 3};
#else
static const int ranks[] = {1, 2, 3, 4, 8};
#endif
enum { N_RANKS = sizeof ranks / sizeof *ranks };

TestSuite(cli, .fini = remove_model);

static json_t *load(const char *path)
{
    hw_error err;
    json_t *json;
    cr_assert_eq(hw_json_load(&json, path, 1 << 20, HW_ERR_FAILED, &err), HW_OK, "%s", err.message);
    return json;
}

/* A value by its path: get(report, "traffic.ranks"). */
static const json_t *get(const json_t *json, const char *path)
{
    char keys[128];
    snprintf(keys, sizeof keys, "%s", path);
    for (char *key = strtok(keys, "."); key; key = strtok(NULL, ".")) {
        json = json_object_get(json, key);
        cr_assert_not_null(json, "no \"%s\" (%s)", key, path);
    }
    return json;
}

static const char *text_of(const json_t *json, const char *path)
{
    return json_string_value(get(json, path));
}
static long long number_of(const json_t *json, const char *path)
{
    return json_integer_value(get(json, path));
}

/* "1,2,3"; the caller frees it. */
static char *list_of(const json_t *ids)
{
    char *text = calloc(json_array_size(ids) * 12 + 1, 1);
    for (size_t i = 0; i < json_array_size(ids); i++)
        sprintf(text + strlen(text), i ? ",%lld" : "%lld",
                (long long)json_integer_value(json_array_get(ids, i)));
    return text;
}

/* ---- help */

Test(cli, every_subcommand_has_help)
{
    static const char *const names[] = {"generate", "logits",  "perplexity", "tokenize", "detokenize",
                                        "inspect",  "traffic", "check",      "bench",    "selftest"};
    char *all = OUTPUT(1, "--help");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *help = OUTPUT(1, names[i], "--help");
        cr_expect(strstr(help, "Usage: headway ") == help, "%s", help);
        cr_expect(strstr(help, names[i]) && strstr(help, "--model"), "%s", help);
        cr_expect(strstr(all, names[i]), "%s is not in the list", names[i]);
        free(help);
    }
    cr_expect(strstr(all, "Exit status: 0 done, 1 failed, 2 usage or configuration, 3 model files, 4 not "
                          "enough memory, 5 "),
              "%s", all);
    free(all);
}

Test(cli, help_and_version_appear_once_on_2_ranks)
{
    const char *const what[] = {"--help", "--version"};
    for (int i = 0; i < 2; i++) {
        char *one = OUTPUT(1, what[i]), *two = OUTPUT(2, what[i]);
        cr_expect_str_eq(one, two);
        free(one);
        free(two);
    }
    char *one = OUTPUT(1, "generate", "--help"), *two = OUTPUT(2, "generate", "--help");
    cr_expect_str_eq(one, two);
    free(one);
    free(two);
}

/* ---- generate */

Test(cli, text_of_the_demo_model_is_transformers_on_1_2_3_4_and_8_ranks)
{
    json_t *golden = load(VECTORS "/tales_golden.json");
    char want[4096];
    snprintf(want, sizeof want, "%s\n", text_of(golden, "greedy_text"));
    for (int i = 0; i < N_RANKS; i++) {
        char *out =
            OUTPUT(ranks[i], "generate", "-m", TALES, "-p", text_of(golden, "prompt"), "-n", "64", FLOATS);
        cr_expect_str_eq(out, want, "%d ranks", ranks[i]);
        free(out);
    }
    json_decref(golden);
}

Test(cli, prompt_comes_from_an_argument_a_file_a_pipe_or_standard_input)
{
    char *want = OUTPUT(1, "generate", "-m", TALES, "-p", "Once upon", "-n", "5"), command[512];
    model_like("models/tales");
    write_text_in_model("prompt.txt", "Once upon");
    char *out = OUTPUT(1, "generate", "-m", TALES, "-f", in_model("prompt.txt"), "-n", "5");
    cr_expect_str_eq(out, want);
    free(out);
    for (int n = 1; n <= 2; n++)
        for (int dash = 0; dash < 2; dash++) {
            hw_run_result r = dash ? RUN(n, "Once upon", "generate", "-m", TALES, "-n", "5", "-f", "-")
                                   : RUN(n, "Once upon", "generate", "-m", TALES, "-n", "5", "-");
            cr_expect_str_eq(r.out, want, "%s", r.err);
            hw_run_free(&r);
        }
    snprintf(command, sizeof command,
             "mkfifo %s/fifo && { printf 'Once upon' >%s/fifo & " HEADWAY " generate -m " TALES
             " -f %s/fifo -n 5; }",
             in_model("."), in_model("."), in_model("."));
    hw_run_result r = hw_run((const char *const[]){"sh", "-c", command, NULL}, NULL, HEADWAY_TIMEOUT_S);
    cr_expect_str_eq(r.out, want, "%s", r.err);
    hw_run_free(&r);
    free(want);
}

Test(cli, trailing_slashes_and_links_are_no_matter)
{
    char *want = OUTPUT(1, "generate", "-m", TALES, "-p", "Once upon", "-n", "5");
    char *out = OUTPUT(1, "generate", "-m", TALES "//", "-p", "Once upon", "-n", "5");
    cr_expect_str_eq(out, want);
    free(out);
    model_like("models/tales");
    cr_assert_eq(symlink(".", in_model("link")), 0);
    out = OUTPUT(1, "generate", "-m", in_model("link"), "-p", "Once upon", "-n", "5");
    cr_expect_str_eq(out, want);
    free(out);
    free(want);
}

/* The golden text begins " Kit lived in a cottage with a blue door. Every day Kit ate bread"; "age with" lies
 * across tokens. */
Test(cli, text_ends_before_a_stop_string)
{
    static const struct {
        const char *stop, *want;
    } cases[] = {{"cottage", " Kit lived in a \n"},
                 {"age with a bl", " Kit lived in a cott\n"},
                 {". E", " Kit lived in a cottage with a blue door\n"},
                 {" Kit", "\n"},
                 {"blue house", " Kit lived in a cottage with a blue door. Every day\n"}};
    json_t *golden = load(VECTORS "/tales_golden.json");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *out = OUTPUT(1, "generate", "-m", TALES, "-p", text_of(golden, "prompt"), "-n", "64", FLOATS,
                           "--stop", cases[i].stop, "--stop", " Kit ate");
        cr_expect_str_eq(out, cases[i].want, "--stop '%s'", cases[i].stop);
        free(out);
    }
    char *out = OUTPUT(2, "generate", "-m", TALES, "-p", text_of(golden, "prompt"), "-n", "64", FLOATS,
                       "--stop", "age with a bl");
    cr_expect_str_eq(out, " Kit lived in a cott\n");
    free(out);
    json_decref(golden);
}

Test(cli, end_token_ends_the_text_unless_it_is_ignored)
{
    json_t *ended = parse_output(OUTPUT(1, "generate", "-m", TALES, "-p", "Once upon a time", "--json"));
    cr_expect_str_eq(text_of(ended, "finish_reason"), "eos");
    json_t *went_on = parse_output(
        OUTPUT(1, "generate", "-m", TALES, "-p", "Once upon a time", "--json", "--ignore-eos", "-n", "400"));
    cr_expect_str_eq(text_of(went_on, "finish_reason"), "length");
    cr_expect_eq(number_of(went_on, "usage.completion_tokens"), 400);
    long long n = number_of(ended, "usage.completion_tokens");
    cr_assert(n > 0 && n < 400);
    /* The same up to there, and the end token (1278) among the tokens then. */
    cr_expect_eq(json_integer_value(json_array_get(get(went_on, "tokens"), (size_t)n)), 1278);
    cr_expect(!strncmp(text_of(ended, "text"), text_of(went_on, "text"), strlen(text_of(ended, "text"))));
    json_decref(ended);
    json_decref(went_on);
}

/* Of the checkpoint's bytes, what ranks share is replicated: the norms (2 per layer and 1, of 256 bfloat16),
 * and beyond 4 ranks the rows of wk and wv, 4 KV heads of 32 by 256 in each of 4 layers, which two ranks
 * read. */
Test(cli, generation_settings_that_are_left_out_are_named_once)
{
    model_like("tests/vectors/llama-gqa");
    write_text_in_model("generation_config.json",
                        "{\"num_beams\": 4, \"suppress_tokens\": [5], \"do_sample\": false}");
    for (int n = 1; n <= 2; n++) {
        hw_run_result r = RUN(n, NULL, "generate", "-m", in_model(""), "--tokens", "1,2", "-n", "2");
        const char *said = strstr(r.err, "num_beams, suppress_tokens");
        cr_expect(r.exit_code == 0 && said && !strstr(said + 1, "num_beams"), "%s", r.err);
        hw_run_free(&r);
    }
}

Test(cli, json_report_says_what_ran_and_every_rank_reads_its_part)
{
    const long long norms = 9 * 256 * 2, kv = 4LL * 2 * (4 * 32) * 256 * 2;
    json_t *golden = load(VECTORS "/tales_golden.json");
    for (int i = 0; i < N_RANKS; i++) {
        const int n = ranks[i];
        json_t *r = parse_output(OUTPUT(n, "generate", "-m", TALES, "-p", text_of(golden, "prompt"), "-n",
                                        "64", FLOATS, "--json"));
        cr_expect_str_eq(text_of(r, "text"), text_of(golden, "greedy_text"));
        cr_expect(json_equal(get(r, "tokens"), get(golden, "greedy")));
        cr_expect_eq(number_of(r, "usage.prompt_tokens"), 12);
        cr_expect_eq(number_of(r, "usage.completion_tokens"), 64);
        cr_expect_eq(number_of(r, "traffic.ranks"), n);
        cr_expect_str_eq(text_of(r, "traffic.backend"), n > 1 ? "shm" : "self");
        cr_expect(json_is_real(get(r, "timing.decode_tokens_per_second")));
        const json_t *read = get(r, "load.bytes_read");
        long long all = 0, checkpoint = number_of(r, "load.checkpoint_bytes");
        cr_expect_eq(json_array_size(read), n);
        for (size_t j = 0; j < json_array_size(read); j++) all += json_integer_value(json_array_get(read, j));
        cr_expect_geq(all, checkpoint, "%d ranks", n);
        cr_expect_leq(all, checkpoint + checkpoint / 10 + (n - 1) * norms + (n > 4 ? kv : 0),
                      "%d ranks read %lld of %lld", n, all, checkpoint);
        json_decref(r);
    }
    json_decref(golden);
}

/* --dtype is what the others follow, and each of them can be set apart. The demo model is stored in bfloat16. */
Test(cli, types_of_weights_and_cache_follow_dtype_and_can_be_set_apart)
{
    char *halves =
        OUTPUT(1, "perplexity", "-m", TALES, "-p", "Once upon a time", "--dtype", "bfloat16", "--json");
    char *apart = OUTPUT(1, "perplexity", "-m", TALES, "-p", "Once upon a time", "--dtype", "float32",
                         "--weight-dtype", "bfloat16", "--kv-cache-dtype", "bfloat16", "--activation-dtype",
                         "float32", "--comm-dtype", "float32", "--json");
    char *floats =
        OUTPUT(1, "perplexity", "-m", TALES, "-p", "Once upon a time", "--dtype", "float32", "--json");
    char *cache = OUTPUT(1, "perplexity", "-m", TALES, "-p", "Once upon a time", "--weight-dtype", "float32",
                         "--kv-cache-dtype", "float32", "--json");
    cr_expect_str_eq(apart, halves);
    cr_expect_str_eq(cache, floats);
    cr_expect_str_neq(floats, halves);
    free(halves), free(apart), free(floats), free(cache);
}

/* Embedding and head are two tensors here: a dummy model that ties them repeats its last token. */
Test(cli, dummy_weights_do_not_depend_on_the_number_of_ranks)
{
    char *want =
        OUTPUT(1, "generate", "-m", SHARDED, "--load-format", "dummy", "--tokens", "5,6,7", "-n", "20");
    char *other = OUTPUT(1, "generate", "-m", SHARDED, "--load-format", "dummy", "--tokens", "5,6,7", "-n",
                         "20", "--dummy-seed", "1");
    cr_expect_str_neq(want, other);
    free(other);
    for (int i = 1; i < N_RANKS; i++) {
        char *out = OUTPUT(ranks[i], "generate", "-m", SHARDED, "--load-format", "dummy", "--tokens", "5,6,7",
                           "-n", "20");
        cr_expect_str_eq(out, want, "%d ranks", ranks[i]);
        free(out);
    }
    free(want);
}

/* Where Open MPI cannot start, one rank does; that the same with --comm mpi fails shows that it could not. */
Test(cli, one_rank_needs_no_mpi)
{
    setenv("OPAL_PREFIX", "/nonexistent", 1);
    char *alone = OUTPUT(1, "generate", "-m", TALES, "-p", "Once upon", "-n", "5");
    char *self = OUTPUT(1, "generate", "-m", TALES, "-p", "Once upon", "-n", "5", "--comm", "self");
    hw_run_result r = RUN(1, NULL, "generate", "-m", TALES, "-p", "Once upon", "-n", "5", "--comm", "mpi");
    cr_expect_str_eq(alone, self);
    cr_expect_neq(r.exit_code, 0);
    hw_run_free(&r);
    free(alone);
    free(self);
}

/* ---- logits, perplexity, tokenize, inspect */

/* `headway logits` of a folder against a golden case. float32 on both sides: 2e-5 of the largest logit, as for the golden
 * vectors. The output goes into the folder that model_like has made. */
static void expect_logits(const char *folder, const char *of, int n_ranks)
{
    char path[512];
    hw_npy want = {0}, got = {0};
    hw_error err;
    snprintf(path, sizeof path, VECTORS "/%s/golden.json", of);
    json_t *golden = load(path);
    char *tokens = list_of(get(golden, "tokens"));
    snprintf(path, sizeof path, VECTORS "/%s/logits.npy", of);
    cr_assert_eq(hw_npy_read(&want, path, &err), HW_OK, "%s", err.message);
    char *out =
        OUTPUT(n_ranks, "logits", "-m", folder, "--tokens", tokens, "-o", in_model("out.npy"), FLOATS);
    cr_expect_str_eq(out, "");
    free(out);
    cr_assert_eq(hw_npy_read(&got, in_model("out.npy"), &err), HW_OK, "%s", err.message);
    cr_assert(got.n_rows == want.n_rows && got.n_cols == want.n_cols);
    float error = 0, largest = 0;
    for (size_t i = 0; i < want.n_rows * want.n_cols; i++) {
        error = fmaxf(error, fabsf(got.data[i] - want.data[i]));
        largest = fmaxf(largest, fabsf(want.data[i]));
    }
    cr_expect_leq(error, 2e-5f * largest, "%s, %d ranks: %g of %g", of, n_ranks, (double)error,
                  (double)largest);
    hw_npy_free(&got);
    hw_npy_free(&want);
    free(tokens);
    json_decref(golden);
}

Test(cli, logits_are_transformers_in_a_file_that_numpy_reads)
{
    model_like("tests/vectors/llama-gqa");
    for (int n = 1; n <= 3; n++) expect_logits(GQA, "llama-gqa", n);
}

/* The tensor `to` in the model's file gets the numbers of `from`. */
static void copy_tensor(const char *to, const char *from)
{
    hw_error err;
    char *file;
    size_t n;
    uint64_t n_header;
    json_t *header;
    cr_assert_eq(hw_file_read(&file, &n, in_model("model.safetensors"), 1 << 24, HW_ERR_FAILED, &err), HW_OK);
    memcpy(&n_header, file, sizeof n_header);
    cr_assert_eq(hw_json_parse(&header, file + 8, n_header, "header", HW_ERR_FAILED, &err), HW_OK);
    size_t at[2][2];
    for (int i = 0; i < 4; i++)
        at[i / 2][i % 2] = (size_t)json_integer_value(json_array_get(
            json_object_get(json_object_get(header, i < 2 ? to : from), "data_offsets"), (size_t)i % 2));
    char *data = file + 8 + n_header;
    memcpy(data + at[0][0], data + at[1][0], at[1][1] - at[1][0]);
    write_in_model("model.safetensors", file, n);
    json_decref(header);
    free(file);
}

static bool says_tied(void)
{
    char *report = OUTPUT(1, "inspect", "-m", in_model(""));
    const bool tied = strstr(report, "tied embeddings");
    free(report);
    return tied;
}

/* What config.json says is tied is so only where the file has no other head, and either of the two may be what it has. Each
 * of these folders gives the same logits in transformers 5.23. */
Test(cli, checkpoint_decides_whether_the_head_is_tied)
{
    static const char *const untied[] = {"llama-mha", "gpt2-untied"};
    for (int i = 0; i < 2; i++) {
        char of[64];
        snprintf(of, sizeof of, "tests/vectors/%s", untied[i]);
        model_like(of);
        replace_in("config.json", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
        cr_expect_not(says_tied());
        expect_logits(in_model(""), untied[i], 1);
        expect_logits(in_model(""), untied[i], 2);
        char *read = OUTPUT(2, "generate", "-m", in_model(""), "--tokens", "1,2,3", "-n", "8");
        char *sent =
            OUTPUT(2, "generate", "-m", in_model(""), "--tokens", "1,2,3", "-n", "8", "--weights", "scatter");
        cr_expect_str_eq(sent, read);
        free(sent);
        free(read);
    }
    model_like("tests/vectors/llama-mha");
    replace_in("config.json", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
    copy_tensor("lm_head.weight", "model.embed_tokens.weight");
    cr_expect(says_tied());
    model_like("tests/vectors/llama-gqa");
    replace_in("model.safetensors", "model.embed_tokens.weight", "lm_head.weight");
    expect_logits(in_model(""), "llama-gqa", 2);
}

Test(cli, logits_of_a_text)
{
    json_t *golden = load(VECTORS "/tales_golden.json");
    hw_npy got = {0};
    hw_error err;
    model_like("models/tales");
    free(
        OUTPUT(1, "logits", "-m", TALES, "-p", text_of(golden, "prompt"), "-o", in_model("out.npy"), FLOATS));
    cr_assert_eq(hw_npy_read(&got, in_model("out.npy"), &err), HW_OK, "%s", err.message);
    cr_assert(got.n_rows == 12 && got.n_cols == 1279);
    const float *last = got.data + (got.n_rows - 1) * got.n_cols;
    for (size_t i = 0; i < 10; i++) {
        size_t id = (size_t)json_integer_value(json_array_get(get(golden, "top10_ids"), i));
        double want = json_number_value(json_array_get(get(golden, "top10_logits"), i));
        cr_expect_float_eq((double)last[id], want, 2e-5 * 14, "token %zu",
                           id); /* the largest logit is 14.0 */
    }
    hw_npy_free(&got);
    json_decref(golden);
}

/* 1e-4 of the value: log-likelihoods of a thousand tokens, each off by a few times the error of a logit,
 * average out far below it. */
Test(cli, perplexity_is_transformers_on_1_and_2_ranks)
{
    json_t *golden = load(VECTORS "/tales_golden.json");
    double want = json_number_value(get(golden, "perplexity.perplexity"));
    for (int n = 1; n <= 2; n++) {
        json_t *r =
            parse_output(OUTPUT(n, "perplexity", "-m", TALES, "-f", VECTORS "/tales.txt", FLOATS, "--json"));
        cr_expect_float_eq(json_number_value(get(r, "perplexity")), want, 1e-4 * want);
        cr_expect_eq(number_of(r, "predicted_tokens"), number_of(golden, "perplexity.n_predicted"));
        cr_expect_eq(number_of(r, "tokens"), number_of(golden, "perplexity.n_tokens"));
        json_decref(r);
    }
    char *text = OUTPUT(1, "perplexity", "-m", TALES, "-f", VECTORS "/tales.txt", FLOATS);
    cr_expect(!strncmp(text, "perplexity 1.40955", 18), "%s", text);
    free(text);
    json_decref(golden);
}

Test(cli, text_becomes_tokens_and_text_again)
{
    static const char *const texts[] = {"Once upon a time there was a little fox named Kit.",
                                        "h\xc3\xa9llo \xe4\xb8\x96\xe7\x95\x8c \xf0\x9f\xa6\x8a",
                                        "<|endoftext|>two\n\n  lines\t", " "};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char want[256], *ids = OUTPUT(1, "tokenize", "-m", TALES, "-p", texts[i]);
        hw_run_result r = RUN(1, ids, "detokenize", "-m", TALES, "-");
        snprintf(want, sizeof want, "%s\n", texts[i]);
        cr_expect_str_eq(r.out, want, "%s", r.err);
        hw_run_free(&r);
        free(ids);
    }
    json_t *golden = load(VECTORS "/tales_golden.json");
    char *want = list_of(get(golden, "tokens")),
         *got = OUTPUT(1, "tokenize", "-m", TALES, "-p", text_of(golden, "prompt"));
    cr_expect(!strncmp(got, want, strlen(want)) && !strcmp(got + strlen(want), "\n"), "%s", got);
    json_t *json =
        parse_output(OUTPUT(1, "tokenize", "-m", TALES, "-p", text_of(golden, "prompt"), "--json"));
    cr_expect_eq(number_of(json, "count"), 12);
    json_decref(json);
    json_decref(golden);
    free(want);
    free(got);
}

Test(cli, inspect_says_what_is_in_the_folder)
{
    json_t *r = parse_output(OUTPUT(1, "inspect", "-m", TALES, "--json"));
    cr_expect_str_eq(text_of(r, "architecture"), "llama");
    cr_expect_eq(number_of(r, "n_heads"), 8);
    cr_expect_eq(number_of(r, "n_kv_heads"), 4);
    cr_expect_eq(number_of(r, "vocab_size"), 1279);
    cr_expect_eq(number_of(r, "tokenizer_ids"), 1279);
    cr_expect_eq(number_of(r, "tensors"), 38);
    json_decref(r);
    char *text = OUTPUT(1, "inspect", "-m", TALES, "--ranks", "3");
    cr_expect(strstr(text, "8 heads, 4 KV heads") && strstr(text, "\n    2 "), "%s", text);
    free(text);
}
