/* headway bench as its user sees it: which tests run, what is counted, and the ways to print it. Never how
 * fast it is. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/headway.h"

static const json_t *test_at(const json_t *report, size_t i)
{
    return json_array_get(json_object_get(report, "tests"), i);
}
static double number(const json_t *object, const char *key)
{
    const json_t *n = json_object_get(object, key);
    cr_assert(json_is_number(n), "no \"%s\"", key);
    return json_number_value(n);
}
static size_t n_lines(const char *text)
{
    size_t n = 0;
    for (; *text; text++) n += *text == '\n';
    return n;
}

Test(bench, lists_are_combined_and_named_as_llama_bench_does)
{
    static const char *const names[] = {"pp8",      "pp3",         "tg4",         "pp8 b2",
                                        "pp3 b2",   "tg4 b2",      "pp8 @ d5",    "pp3 @ d5",
                                        "tg4 @ d5", "pp8 b2 @ d5", "pp3 b2 @ d5", "tg4 b2 @ d5"};
    json_t *report = parse_output(OUTPUT(2, "bench", "-m", TALES, "-pp", "8,3", "-tg", "4", "-b", "1,2", "-d",
                                         "0,5", "-r", "1", "--json"));
    cr_assert_eq(json_array_size(json_object_get(report, "tests")), 12);
    for (size_t i = 0; i < 12; i++) {
        cr_expect_str_eq(json_string_value(json_object_get(test_at(report, i), "test")), names[i]);
        cr_expect_eq(json_array_size(json_object_get(test_at(report, i), "each_window")), 1);
        cr_expect(number(test_at(report, i), "tokens_per_second") > 0);
    }
    json_decref(report);
}

/* By hand from models/tales/config.json: 724,992 numbers in the matrices of a layer, 4 layers, 256 x 1279 in
 * the head, which only the last row of a prompt meets; attention takes 4 * 256 FLOP per layer for each pair of
 * a row and a position up to it. */
static double flops_of(double first_position, double n_rows, double n_logits)
{
    const double pairs = n_rows * first_position + n_rows * (n_rows + 1) / 2;
    return n_rows * 2 * 4 * 724992 + n_logits * 2 * 256 * 1279 + pairs * 4 * 4 * 256;
}

Test(bench, operations_are_those_of_the_rows_that_a_test_names)
{
    const double want[] = {flops_of(0, 16, 1),      flops_of(1, 6, 6),     3 * flops_of(0, 16, 1),
                           3 * flops_of(1, 6, 6),   flops_of(20, 16, 1),   flops_of(20, 6, 6),
                           3 * flops_of(20, 16, 1), 3 * flops_of(20, 6, 6)};
    for (int ranks = 1; ranks <= 2; ranks++) {
        /* Steps of 7 rows: prompts go through in pieces, several sequences in one step. */
        json_t *report =
            parse_output(OUTPUT(ranks, "bench", "-m", TALES, "-pp", "16", "-tg", "6", "-b", "1,3", "-d",
                                "0,20", "-r", "1", "--max-num-batched-tokens", "7", "--json"));
        for (size_t i = 0; i < 8; i++) {
            const json_t *t = test_at(report, i), *w = json_array_get(json_object_get(t, "each_window"), 0);
            const double got = number(t, "flop_per_second") * number(w, "seconds");
            cr_expect(fabs(got - want[i]) < 1e-6 * want[i], "%d ranks, test %zu: %.0f, want %.0f", ranks, i,
                      got, want[i]); /* what is printed has nine digits */
        }
        json_decref(report);
    }
}

Test(bench, steps_first_token_and_time_by_site_are_told)
{
    json_t *report =
        parse_output(OUTPUT(2, "bench", "-m", TALES, "-pp", "16", "-tg", "6", "-r", "1", "--json"));
    const json_t *pp = test_at(report, 0), *tg = test_at(report, 1);
    const json_t *window = json_array_get(json_object_get(tg, "each_window"), 0);
    cr_expect_eq(json_array_size(json_object_get(window, "step_seconds")), 6);
    cr_expect(number(tg, "step_ms_p50") <= number(tg, "step_ms_p99"));
    cr_expect(number(pp, "first_token_ms") <= 1.000001e3 / number(pp, "tokens_per_second") * 16);
    const json_t *sites = json_object_get(tg, "share_of_time"), *share;
    const char *name;
    double sum = 0;
    json_object_foreach((json_t *)sites, name, share) sum += json_number_value(share);
    cr_expect(fabs(sum - 1) < 1e-3, "%g: the parts and the rest are the whole", sum);
    cr_expect(number(sites, "all-reduce attn") > 0 && number(sites, "mlp") > 0 &&
              number(sites, "sample") > 0);
    const json_t *machine = json_object_get(report, "machine");
    cr_expect(number(machine, "memory_bytes") > 0 && json_is_string(json_object_get(machine, "cpu")));
    cr_expect(json_is_string(json_object_get(report, "commit")));
    json_decref(report);
}

Test(bench, peaks_stand_beside_the_results_on_2_ranks)
{
    json_t *report =
        parse_output(OUTPUT(2, "bench", "-m", TALES, "-pp", "4", "-tg", "2", "-r", "1", "--peaks", "--json"));
    const json_t *pp = test_at(report, 0), *tg = test_at(report, 1);
    cr_expect(number(json_object_get(tg, "limits"), "plain_read") > 0);
    cr_expect(number(json_object_get(tg, "share_of"), "prefetched_read") > 0);
    cr_expect(number(json_object_get(pp, "limits"), "fma_float32") > 0);
    cr_expect(number(json_object_get(pp, "share_of"), "fma_float32") > 0);
    cr_expect_null(json_object_get(json_object_get(pp, "limits"), "plain_read"), "no limit of a prefill");
    cr_expect(number(tg, "mpi_all_reduce_us") > 0 && number(tg, "all_reduce_over_mpi") > 0);
    json_decref(report);
    REFUSED(1, 2, WORDS("--peaks", "reference"), "bench", "-m", TALES, "-pp", "1", "-tg", "0", "--device",
            "reference", "--peaks");
}

Test(bench, csv_has_a_line_per_test_and_as_many_fields_in_each)
{
    char *out = OUTPUT(1, "bench", "-m", TALES, "-pp", "2,3", "-tg", "2", "-r", "1", "--csv");
    cr_assert_eq(n_lines(out), 4, "%s", out);
    int fields[4] = {0}, line = 0;
    bool quoted = false;
    for (const char *p = out; *p; p++) {
        if (*p == '"') quoted = !quoted;
        if (*p == '\n') line++;
        else if (*p == ',' && !quoted) fields[line]++;
    }
    for (int i = 1; i < 4; i++)
        cr_expect_eq(fields[i], fields[0], "line %d: %d, %d", i, fields[i], fields[0]);
    cr_expect(strstr(out, "\ncommit") == NULL && strstr(out, "commit,cpu,") == out, "%s", out);
    free(out);
}

Test(bench, tables_are_for_people)
{
    char *text = OUTPUT(1, "bench", "-m", TALES, "-pp", "2", "-tg", "2", "-r", "1");
    char *markdown = OUTPUT(1, "bench", "-m", TALES, "-pp", "2", "-tg", "2", "-r", "1", "--md");
    cr_expect(strstr(text, "pp2") && strstr(text, "windows are left out") && !strchr(text, '|'), "%s", text);
    cr_expect(strstr(markdown, "\n| pp2 |") && strstr(markdown, "commit "), "%s", markdown);
    free(text);
    free(markdown);
    MISUSED(1, WORDS("--csv, --md and --json"), "bench", "-m", TALES, "--csv", "--md");
}

Test(bench, what_does_not_fit_is_refused_before_it_runs)
{
    REFUSED(1, 2, WORDS("max_model_len is 600", "512"), "bench", "-m", TALES, "-pp", "500", "-d", "100",
            "-tg", "0");
    REFUSED(2, 2, WORDS("8 sequences", "4 rows", "--max-num-batched-tokens"), "bench", "-m", TALES, "-tg",
            "2", "-pp", "0", "-b", "8", "--max-num-batched-tokens", "4");
    REFUSED(1, 2, WORDS("--kv-cache off", "--batch-size"), "bench", "-m", TALES, "-tg", "2", "-pp", "0", "-b",
            "2", "--kv-cache", "off");
    free(
        OUTPUT(1, "bench", "-m", TALES, "-pp", "5", "-tg", "2", "-d", "0,4", "-r", "1", "--kv-cache", "off"));
    free(OUTPUT(1, "bench", "-m", TALES, "-pp", "5", "-tg", "2", "-d", "0,4", "-b", "2", "-r", "1",
                "--kv-cache", "contiguous"));
}

/* A whole context of prompt, and one that ends with the last token that is run. */
Test(bench, a_test_may_fill_the_context)
{
    free(OUTPUT(1, "bench", "-m", TALES, "-pp", "512", "-tg", "511", "-b", "2", "-r", "1"));
    free(OUTPUT(1, "bench", "-m", TALES, "-pp", "12", "-tg", "12", "-d", "500", "-r", "1"));
}

/* Measured one after the other, they would not be what the test is called. */
Test(bench, sequences_that_the_cache_cannot_hold_at_once_are_refused)
{
    REFUSED(2, 4, WORDS("KV cache", "sequences of a test", "--kv-cache-memory"), "bench", "-m", TALES, "-pp",
            "100", "-tg", "0", "-b", "8", "-r", "1", "--kv-cache-memory", "512K");
}

/* Whoever closes the pipe has read enough. */
Test(bench, a_reader_that_stops_ends_it)
{
    hw_run_result r = hw_run(
        (const char *const[]){
            "sh", "-c", HEADWAY " bench -m " TALES " -pp 2 -tg 2 -r 2 --json | head -n 1; echo done", NULL},
        NULL, HEADWAY_TIMEOUT_S);
    cr_expect_str_eq(r.out, "{\ndone\n", "%s", r.out);
    hw_run_free(&r);
}
