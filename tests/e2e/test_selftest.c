/* headway selftest as its user sees it: which ops and paths it checks, what it prints, and that it fails when an op is
 * wrong. Never how fast anything is. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/headway.h"

#define SMALL VECTORS "/llama-gqa-uneven"

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    cr_assert(text, "no \"%s\"", key);
    return text;
}

/* Lines about an op on a path. */
static int count(const json_t *report, const char *op, const char *path)
{
    int n = 0;
    size_t i;
    const json_t *line;
    json_array_foreach(json_object_get(report, "checks"), i, line)
    {
        if (strcmp(text_of(line, "op"), op) || strcmp(text_of(line, "path"), path)) continue;
        cr_expect(json_is_true(json_object_get(line, "ok")));
        cr_expect(json_number_value(json_object_get(line, "seconds_one_row")) > 0, "%s", op);
        n++;
    }
    return n;
}

/* Three types of weights, the last of them multiplied in three ways; three types of cache; four activations. */
static void expect_ops(const json_t *report, const char *path)
{
    static const char *const once[] = {
        "gather",      "copy",     "select_rows", "rmsnorm",  "layernorm", "add_bias_residual",
        "rope_angles", "penalize", "row_best",    "row_mass", "row_draw"};
    for (size_t i = 0; i < sizeof once / sizeof *once; i++)
        cr_expect_eq(count(report, once[i], path), 1, "%s on %s", once[i], path);
    cr_expect_eq(count(report, "matmul", path), 5);
    cr_expect_eq(count(report, "activate", path), 4);
    cr_expect_eq(count(report, "rope_append", path), 3);
    cr_expect_eq(count(report, "attention", path), 3);
}

/* Without a model: the sizes of the demo model, of which the program has a copy. */
Test(selftest, checks_every_op_on_every_path_with_the_shapes_of_the_demo_model)
{
    static const char *const sizes[] = {"dim", "ffn_dim", "vocab_size", "n_heads", "n_kv_heads", "head_dim"};
    json_t *report = parse_output(OUTPUT(1, "selftest", "--json")),
           *model = parse_output(OUTPUT(1, "inspect", "-m", TALES, "--json"));
    const json_t *paths = json_object_get(report, "paths"), *got = json_object_get(report, "sizes"), *path;
    size_t i;
    cr_expect(json_is_true(json_object_get(report, "ok")));
    cr_expect(text_of(report, "version") && text_of(report, "commit"));
    cr_expect(text_of(json_object_get(report, "machine"), "cpu"));
    cr_assert_geq(json_array_size(paths), 1);
    json_array_foreach(paths, i, path) expect_ops(report, text_of(path, "name"));
    cr_expect_eq(json_array_size(paths) + json_array_size(json_object_get(report, "left_out")), 5);
    for (i = 0; i < sizeof sizes / sizeof *sizes; i++)
        cr_expect_eq(json_integer_value(json_object_get(got, sizes[i])),
                     json_integer_value(json_object_get(model, sizes[i])), "%s", sizes[i]);
    json_decref(report);
    json_decref(model);
}

/* A folder of config.json alone; neither rotation nor gate. */
Test(selftest, takes_the_shapes_of_a_model)
{
    setenv("HW_CPU", "generic", 1);
    char *text = OUTPUT(1, "selftest", "-m", HW_SOURCE_DIR "/models/shapes/gpt2-124m", "--threads", "1");
    cr_expect(strstr(text, "width 768, MLP 3072, 12/12 heads of 64, vocabulary 50257"), "%s", text);
    cr_expect(strstr(text, "\ncpu generic, 1 thread"), "%s", text);
    cr_expect(!strstr(text, "cpu a"), "%s", text);
    cr_expect(strstr(text, "\nattention, bfloat16 cache "), "%s", text);
    cr_expect(strstr(text, "all agree with the plain loops\n"), "%s", text);
    cr_expect(!strstr(text, "WRONG"), "%s", text);
    free(text);
}

/* ---- something is wrong */

static hw_run_result run_broken(const char *op, const char *format)
{
    if (op) setenv("HW_BROKEN_OP", op, 1);
    return RUN(1, NULL, "selftest", "-m", SMALL, "--device", HW_BROKEN_PLUGIN, format);
}

Test(selftest, agrees_with_itself)
{
    hw_run_result r = run_broken(NULL, "--json");
    cr_expect_eq(r.exit_code, 0, "%s", r.err);
    hw_run_free(&r);
}

Test(selftest, fails_and_names_the_op_that_is_wrong)
{
    hw_run_result r = run_broken("matmul", "--seed=3");
    cr_expect_eq(r.exit_code, 1, "exit code %d\n%s", r.exit_code, r.err);
    cr_expect(
        strstr(r.err, "headway: selftest: 1 of 27 checks are wrong, first matmul, float16 on reference") ==
            r.err,
        "%s", r.err);
    cr_expect(strstr(r.err, "64 rows: [0, 0] is ") &&
                  strstr(r.err, "the bits are promised; report it as a bug"),
              "%s", r.err);
    const char *wrong = strstr(r.out, "\nWrong:\n  matmul, float16 on ");
    cr_assert(wrong, "%s", r.out);
    cr_expect(strstr(wrong, "something is WRONG\n"), "%s", wrong);
    hw_run_free(&r);
}

Test(selftest, says_in_json_which_op_is_wrong)
{
    hw_run_result r = run_broken("matmul", "--json");
    cr_expect_eq(r.exit_code, 1);
    json_t *report = parse_output(strdup(r.out));
    size_t i;
    const json_t *line;
    cr_expect(json_is_false(json_object_get(report, "ok")));
    cr_expect_eq(json_integer_value(json_object_get(report, "n_wrong")), 1);
    json_array_foreach(json_object_get(report, "checks"), i, line)
    {
        const bool broken =
            !strcmp(text_of(line, "op"), "matmul") && !strcmp(text_of(line, "variant"), "float16");
        cr_expect_eq(json_is_true(json_object_get(line, "ok")), !broken, "%s", text_of(line, "op"));
        cr_expect_eq(json_is_true(json_object_get(line, "same_bits")) ||
                         !json_is_true(json_object_get(line, "bits_promised")),
                     !broken);
        if (broken) cr_expect(strstr(text_of(line, "what"), "[0, 0]"));
    }
    json_decref(report);
    hw_run_free(&r);
}

/* As an instruction that the processor does not have would. */
Test(selftest, names_the_op_that_ends_the_process)
{
    hw_run_result r = run_broken("rope_angles", "--json");
    cr_expect_neq(r.exit_code, 0);
    cr_expect(strstr(r.err, "headway: selftest: killed by a signal in rope_angles on reference"), "%s",
              r.err);
    hw_run_free(&r);
}

#if defined HW_SIMT_PLUGIN && !defined HW_SANITIZE /* some ten seconds for each type */
Test(selftest, checks_what_only_plug_ins_have_in_every_type)
{
    static const char *const ops[] = {
        "gather",     "matmul",    "logits",      "norm_matmul", "norm_matmul_activate",
        "matmul_add", "attention", "choose_keys", "feed_keys",   "graph_launch"};
    json_t *report = parse_output(OUTPUT(1, "selftest", "-m", SMALL, "--device", HW_SIMT_PLUGIN, "--json"));
    const json_t *paths = json_object_get(report, "paths"), *path;
    size_t i;
    cr_assert_eq(json_array_size(paths), 3);
    json_array_foreach(paths, i, path)
    {
        for (size_t k = 0; k < sizeof ops / sizeof *ops; k++)
            cr_expect_geq(count(report, ops[k], text_of(path, "name")), 1, "%s", ops[k]);
    }
    json_decref(report);
}
#endif

#ifdef HW_SIMT_PLUGIN
/* After which a GPU does nothing any more. */
Test(selftest, names_the_op_whose_kernel_cannot_be_started)
{
    setenv("HW_SIMT_FAIL_LAUNCH", "200", 1);
    hw_run_result r = RUN(1, NULL, "selftest", "-m", SMALL, "--device", HW_SIMT_PLUGIN);
    cr_expect_eq(r.exit_code, 1, "exit code %d\n%s", r.exit_code, r.err);
    cr_expect(strstr(r.err, " checks are wrong, first ") && strstr(r.err, "cudaErrorLaunchFailure"), "%s",
              r.err);
    cr_expect(strstr(r.out, "WRONG") && strstr(r.out, "\nWrong:\n"), "%s", r.out);
    hw_run_free(&r);
}
#endif

/* ---- bad input */

Test(selftest, refuses_what_is_not_there)
{
    REFUSED(1, 3, WORDS("/nowhere"), "selftest", "-m", "/nowhere");
    REFUSED(1, 2, WORDS("device \"tpu\"", "cuda"), "selftest", "--device", "tpu");
    REFUSED(1, 2, WORDS("/nowhere/x.so", "cannot load"), "selftest", "--device", "/nowhere/x.so");
    REFUSED(2, 2, WORDS("without mpirun"), "selftest");
    MISUSED(1, WORDS("--frob"), "selftest", "--frob");
    MISUSED(1, WORDS("--threads", "'0'"), "selftest", "-t", "0");
    MISUSED(1, WORDS("--seed", "'x'"), "selftest", "--seed", "x");
    MISUSED(1, WORDS("empty"), "selftest", "-m", "");
    MISUSED(1, WORDS("no configuration"), "selftest", "-c", HW_SOURCE_DIR "/configs/demo.yaml");
    setenv("HW_CPU", "abacus", 1);
    REFUSED(1, 2, WORDS("HW_CPU", "abacus"), "selftest");
}
