/* headway traffic, on real ranks. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <jansson.h>
#include <string.h>

#include "tests/support/mpi_test.h"

#define HEADWAY HW_BINARY_DIR "/launch/headway"
#define TALES   HW_SOURCE_DIR "/models/tales"
#define GPT2    HW_SOURCE_DIR "/tests/vectors/gpt2-tied"
#define GQA     HW_SOURCE_DIR "/tests/vectors/llama-gqa"

enum { TIMEOUT_S = 120 };

static json_t *run_json(int n_ranks, const char *const argv[])
{
    json_error_t where;
    hw_run_result r = hw_mpirun(n_ranks, argv, NULL, TIMEOUT_S);
    cr_assert_eq(r.exit_code, 0, "%d ranks: exit code %d\n%s%s", n_ranks, r.exit_code, r.out, r.err);
    json_t *report = json_loads(r.out, 0, &where);
    cr_assert_not_null(report, "not JSON: %s\n%s", where.text, r.out);
    hw_run_free(&r);
    return report;
}

static json_int_t integer(const json_t *report, const char *const path[])
{
    for (; *path; path++)
        report = json_is_array(report) ? json_array_get(report, (size_t)(**path - '0'))
                                       : json_object_get(report, *path);
    cr_assert(json_is_integer(report));
    return json_integer_value(report);
}
#define INTEGER(report, ...) integer(report, (const char *const[]){__VA_ARGS__, NULL})

static void verify(int n_ranks, const char *model, const char *sampling)
{
    const char *argv[] = {HEADWAY,
                          "traffic",
                          "-m",
                          model,
                          "--tokens",
                          "5,6,7,8,9",
                          "-n",
                          "12",
                          "--verify",
                          "--json",
                          sampling ? "--temperature" : NULL,
                          "0.9",
                          "--top-p",
                          sampling,
                          NULL};
    json_t *report = run_json(n_ranks, argv);
    cr_expect_eq(INTEGER(report, "verify", "difference_bytes"), 0, "%s on %d ranks", model, n_ranks);
    const json_t *pairs = json_object_get(json_object_get(report, "verify"), "pairs");
    cr_expect_eq(json_array_size(pairs), (size_t)(n_ranks * (n_ranks - 1)));
    json_int_t counted = 0;
    for (size_t i = 0; i < json_array_size(pairs); i++)
        counted += json_integer_value(json_object_get(json_array_get(pairs, i), "counted_bytes"));
    cr_expect_gt(counted, 10000, "nothing was counted");
    json_decref(report);
}

static const int rank_counts[] = {2, 3, 4, 8};
ParameterizedTestParameters(traffic, open_mpi_counts_what_the_meter_counts)
{
    return cr_make_param_array(int, (int *)rank_counts, sizeof rank_counts / sizeof *rank_counts);
}
ParameterizedTest(int *n, traffic, open_mpi_counts_what_the_meter_counts)
{
    verify(*n, TALES, NULL);
    verify(*n, GPT2, "0.9");
    verify(*n, TALES, "0.5");
}

Test(traffic, one_byte_behind_the_meters_back_is_seen)
{
    const char *honest[] = {HW_BINARY_DIR "/tests/e2e/stray_worker", NULL};
    const char *stray[] = {HW_BINARY_DIR "/tests/e2e/stray_worker", "stray", NULL};
    hw_run_result r = hw_mpirun(3, honest, NULL, TIMEOUT_S);
    cr_expect_eq(r.exit_code, 0, "%s%s", r.out, r.err);
    hw_run_free(&r);
    r = hw_mpirun(3, stray, NULL, TIMEOUT_S);
    cr_expect_eq(r.exit_code, 7, "%s%s", r.out, r.err);
    cr_expect_not_null(strstr(r.out, "2 to 0:"), "%s", r.out);
    hw_run_free(&r);
}

/* MPI's own collectives happen at the start and the end of the program: as many bytes for 4 tokens as for
 * 40. */
Test(traffic, mpis_own_collectives_do_not_grow_with_the_steps)
{
    const char *tokens[] = {"4", "40"};
    json_int_t internal[2] = {0};
    for (int i = 0; i < 2; i++) {
        const char *argv[] = {HEADWAY, "traffic", "-m",       TALES,    "--tokens", "5,6,7",
                              "-n",    tokens[i], "--verify", "--json", NULL};
        json_t *report = run_json(4, argv);
        const json_t *pairs = json_object_get(json_object_get(report, "verify"), "pairs");
        for (size_t p = 0; p < json_array_size(pairs); p++)
            internal[i] += json_integer_value(json_object_get(json_array_get(pairs, p), "internal_bytes"));
        json_decref(report);
    }
    cr_expect_eq(internal[0], internal[1]);
}

/* One prompt token and N new ones: N rows with a cache, N (N + 1) / 2 without. By hand for N = 40: 40 and
 * 820, ratio 20.5. A row's payload is dim float32 for the embedding and twice per layer; a sampled token's is
 * 8 bytes. */
Test(traffic, without_a_cache_rows_and_payload_grow_as_the_triangle)
{
    const char *argv[] = {HEADWAY, "traffic", "-m",           TALES,    "--tokens", "5",
                          "-n",    "40",      "--compare-kv", "--json", NULL};
    json_t *report = run_json(2, argv);
    static const char *const index[] = {"0", "1"};
    static const json_int_t rows[] = {40, 820};
    for (int i = 0; i < 2; i++) {
        json_int_t embed = 0, attn = 0, mlp = 0, sample = 0;
        static const char *const phases[] = {"prefill", "decode"};
        for (int p = 0; p < 2; p++) {
            embed +=
                INTEGER(report, "runs", index[i], "phases", phases[p], "sites", "embed", "payload_bytes");
            attn += INTEGER(report, "runs", index[i], "phases", phases[p], "sites", "attn", "payload_bytes");
            mlp += INTEGER(report, "runs", index[i], "phases", phases[p], "sites", "mlp", "payload_bytes");
            sample +=
                INTEGER(report, "runs", index[i], "phases", phases[p], "sites", "sample", "payload_bytes");
        }
        cr_expect_eq(embed, rows[i] * 256 * 4);
        cr_expect_eq(attn, rows[i] * 256 * 4 * 4);
        cr_expect_eq(mlp, rows[i] * 256 * 4 * 4);
        cr_expect_eq(sample, 40 * 8);
    }
    json_decref(report);
}

/* With grouped-query attention the payload of a token is not the size of its K and V, so one cannot be
 * mistaken for the other. */
Test(traffic, payload_of_a_gqa_model_is_not_its_new_keys_and_values)
{
    const char *argv[] = {HEADWAY, "traffic", "-m", GQA, "--tokens", "5,6", "-n", "11", "--json", NULL};
    json_t *report = run_json(2, argv);
    const json_t *run = json_array_get(json_object_get(report, "runs"), 0);
    json_int_t attn = INTEGER(run, "phases", "decode", "sites", "attn", "payload_bytes") / 10;
    double kv = json_number_value(json_object_get(json_object_get(run, "k_and_v"), "new_bytes_per_token"));
    cr_expect_neq(attn, (json_int_t)kv);
    cr_expect_eq(INTEGER(run, "k_and_v", "bytes_crossed"), 0);
    json_decref(report);
}

Test(traffic, verify_needs_more_than_one_rank)
{
    const char *argv[] = {HEADWAY, "traffic", "-m", TALES, "--tokens", "5", "--verify", NULL};
    hw_run_result r = hw_run(argv, NULL, TIMEOUT_S);
    cr_expect_eq(r.exit_code, 2);
    cr_expect_not_null(strstr(r.err, "mpirun"), "%s", r.err);
    hw_run_free(&r);
}

/* `--mca pml ob1` switches the component off without a word. */
Test(traffic, verify_fails_when_open_mpi_does_not_count)
{
    const char *argv[] = {"env", "OMPI_MCA_pml=ob1", HEADWAY, "traffic", "-m", TALES, "--tokens", "5", "-n",
                          "2",   "--verify",         NULL};
    hw_run_result r = hw_mpirun(2, argv, NULL, TIMEOUT_S);
    cr_expect_eq(r.exit_code, 2, "%d\n%s%s", r.exit_code, r.out, r.err);
    cr_expect_not_null(strstr(r.err, "monitoring"), "%s", r.err);
    hw_run_free(&r);
}
