/* `headway plan` as a person runs it: tables, JSON, exit codes. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/process.h"

#define SHAPES HW_SOURCE_DIR "/models/shapes/"

enum { TIMEOUT_S = 60, MAX_WORDS = 32 };

/* headway plan, and the words of `line` as its arguments. */
static hw_run_result plan(const char *line)
{
    char copy[4096], *rest = copy;
    const char *argv[MAX_WORDS + 3] = {HW_BINARY_DIR "/launch/headway", "plan"};
    snprintf(copy, sizeof copy, "%s", line);
    for (int i = 2; i < MAX_WORDS && (argv[i] = strtok_r(rest, " ", &rest)); i++) {
    }
    return hw_run(argv, NULL, TIMEOUT_S);
}

/* The JSON of a plan that fits; the caller gives it back. */
static json_t *plan_json(const char *line)
{
    char with_json[4096];
    snprintf(with_json, sizeof with_json, "%s --json", line);
    hw_run_result r = plan(with_json);
    cr_assert_eq(r.exit_code, 0, "%s", r.err);
    json_t *j = json_loads(r.out, 0, NULL);
    cr_assert_not_null(j, "%s", r.out);
    hw_run_free(&r);
    return j;
}

static json_int_t figure(const json_t *j, int i, const char *a, const char *b)
{
    const json_t *p = json_object_get(json_array_get(json_object_get(j, "plans"), (size_t)i), a);
    p = b ? json_object_get(p, b) : p;
    cr_assert(json_is_integer(p), "%s.%s", a, b ? b : "");
    return json_integer_value(p);
}

static void expect_refusal(const char *line, int exit_code, const char *said)
{
    hw_run_result r = plan(line);
    cr_expect_eq(r.exit_code, exit_code, "%s: exit code %d\n%s", line, r.exit_code, r.err);
    cr_expect_not_null(strstr(r.err, said), "%s: %s", line, r.err);
    hw_run_free(&r);
}

/* The example of the literature: batch 32, 32 layers, width 4096, 2048 tokens, float32: 2 * 32 * 4096 * 2048
 * * 32 * 4 bytes. */
Test(plan_command, sixty_four_gib_of_cache)
{
    json_t *j = plan_json("-m " SHAPES "llama-7b --batch 32 --max-model-len 2048 --kv-cache-dtype float32 "
                          "--ranks 1,2,8 --memory 100G");
    cr_expect_eq(figure(j, 0, "most", "kv_bytes"), (json_int_t)64 << 30);
    cr_expect_eq(figure(j, 1, "most", "kv_bytes"), (json_int_t)32 << 30);
    cr_expect_eq(figure(j, 2, "least", "kv_bytes"), (json_int_t)8 << 30);
    json_decref(j);
    hw_run_result r =
        plan("-m " SHAPES "llama-7b --batch 32 --max-model-len 2048 --kv-cache-dtype float32 --ranks 1 "
             "--memory 100G");
    cr_expect_not_null(strstr(r.out, "(64.0 GiB in all)"), "%s", r.out);
    hw_run_free(&r);
}

/* 405,853,388,800 parameters (Grattafiori et al. 2024 call them 405B), of which a rank of 16 has a sixteenth,
 * norms aside; 8 KV heads on 16 ranks: 8 copies. A decode step adds 2 * 126 + 1 rows of 16384 float32. */
Test(plan_command, llama_405b_from_its_config_json_alone)
{
    json_t *j = plan_json("-m " SHAPES "llama-405b/config.json --ranks 8,16 --memory 130G");
    cr_expect_eq(json_integer_value(json_object_get(j, "parameters")), 405853388800);
    cr_expect_eq(figure(j, 0, "replicated_kv_heads", NULL), 0);
    cr_expect_eq(figure(j, 1, "replicated_kv_heads", NULL), 8);
    const json_t *decode = json_object_get(json_array_get(json_object_get(j, "plans"), 1), "decode_step");
    json_int_t payload = 0;
    static const char *const sites[] = {"embed", "attn", "mlp"};
    for (int i = 0; i < 3; i++)
        payload += json_integer_value(json_object_get(
            json_object_get(json_object_get(decode, "busiest_rank"), sites[i]), "payload_bytes"));
    cr_expect_eq(payload, (2 * 126 + 1) * 16384 * 4);
    json_decref(j);
}

/* GQA: what is cached per token (2 * 80 * 8 * 128 * 2 B) is not what crosses (161 * 8192 * 4 B). */
Test(plan_command, one_row_for_each_number_of_ranks)
{
    hw_run_result r = plan("-m " SHAPES "llama-70b --ranks 1,2,4,8,16,64 --memory 200G");
    int rows = 0;
    cr_expect_eq(r.exit_code, 0, "%s", r.err);
    cr_expect_not_null(strstr(r.out, "327680 B per token"), "%s", r.out);
    for (const char *p = r.out; (p = strstr(p, "\n   64 ")); p++) rows++;
    cr_expect_eq(rows, 4, "a row in each of four tables:\n%s", r.out);
    hw_run_free(&r);
}

Test(plan_command, what_fits_nowhere_is_refused_with_the_numbers)
{
    expect_refusal("-m " SHAPES "llama-405b --ranks 1,8 --memory 80G", 4, "with 8 ranks the largest needs 9");
    expect_refusal("-m " SHAPES "llama-8b --ranks 1 --memory 20G --batch 64 --max-model-len 131072", 4,
                   "KV cache 1.0 TiB");
}

Test(plan_command, what_makes_no_sense_is_a_usage_error)
{
    expect_refusal("-m " SHAPES "gpt2-124m --ranks 13", 2, "a model with 12 heads");
    expect_refusal("-m " SHAPES "gpt2-124m --ranks 0", 2, "not a number of ranks");
    expect_refusal("-m " SHAPES "gpt2-124m --ranks 1,,2", 2, "not a number of ranks");
    expect_refusal("-m " SHAPES "gpt2-124m --ranks 2,", 2, "not a number of ranks");
    expect_refusal("-m " SHAPES "gpt2-124m --ranks two", 2, "not a number of ranks");
    expect_refusal("-m " SHAPES "gpt2-124m --memory lots", 2, "--memory");
    expect_refusal("-m " SHAPES "gpt2-124m --latency -1", 2, "--latency");
    expect_refusal("-m " SHAPES "gpt2-124m --kv-cache-memory 1K", 2, "hold no block");
    expect_refusal("-m " SHAPES "gpt2-124m --batch 0", 2, "--max-num-seqs");
    expect_refusal("-m " SHAPES "gpt2-124m --max-model-len 2000", 2, "max_model_len is 2000");
}

Test(plan_command, a_config_that_lacks_a_key_is_refused_by_its_name)
{
    char path[] = "/tmp/headway-plan-XXXXXX", line[256];
    static const char config[] = "{\"model_type\": \"llama\", \"hidden_size\": 64, \"vocab_size\": 100,"
                                 " \"num_attention_heads\": 4, \"intermediate_size\": 128}";
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, config, sizeof config - 1), (ssize_t)sizeof config - 1);
    close(fd);
    snprintf(line, sizeof line, "-m %s", path);
    expect_refusal(line, 3, "num_hidden_layers");
    unlink(path);
    expect_refusal("-m /nonexistent-folder", 3, "nonexistent-folder");
}
