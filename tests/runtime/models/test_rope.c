/* Inverse frequencies against transformers 5.23 (modeling_rope_utils.py on torch 2.15, float32), printed with
 * nine digits. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "runtime/models/rope.h"

static hw_status read(hw_rope *out, const char *text, int head_dim, int max_positions, hw_error *err)
{
    json_t *config;
    cr_assert_eq(hw_json_parse(&config, text, strlen(text), "config.json", HW_ERR_MODEL, err), HW_OK, "%s",
                 err->message);
    hw_json_at at = {config, "config.json", HW_ERR_MODEL, err};
    hw_status st = hw_rope_from_config(out, at, head_dim, max_positions, 10000);
    json_decref(config);
    return st;
}

/* Powers are within a few units in the last place of one another between C libraries: 1e-6 is sixteen of
 * them. */
static void expect_frequencies(const char *text, int head_dim, int max_positions, const double *want, int n,
                               double scale)
{
    hw_rope r;
    hw_error err;
    float got[64];
    cr_assert_eq(read(&r, text, head_dim, max_positions, &err), HW_OK, "%s", err.message);
    cr_assert_eq(r.rotary_dim, 2 * n);
    hw_rope_inv_freq(got, &r);
    for (int i = 0; i < n; i++)
        cr_expect(fabs((double)got[i] - want[i]) <= 1e-6 * want[i], "%s: %d is %.9g, wanted %.9g", text, i,
                  (double)got[i], want[i]);
    cr_expect(fabs(r.attention_factor - scale) < 1e-12, "%s: %.15g", text, r.attention_factor);
}
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static const double plain[] = {
    1, 0.316227764, 0.100000001, 0.0316227786, 0.00999999978, 0.00316227786, 0.00100000005, 0.000316227786};

Test(rope, default_frequencies_in_all_spellings)
{
    static const double large[] = {1, 0.0724779591, 0.0052530556, 0.000380730664, 2.75945895e-05};
    expect_frequencies("{}", 16, 2048, plain, COUNT(plain), 1);
    expect_frequencies("{\"rope_theta\": 10000, \"rope_scaling\": null}", 16, 2048, plain, COUNT(plain), 1);
    expect_frequencies("{\"rope_theta\": 500000.0}", 10, 2048, large, COUNT(large), 1);
    expect_frequencies("{\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 500000.0}}", 10,
                       2048, large, COUNT(large), 1);
}

Test(rope, linear_frequencies)
{
    static const double want[] = {0.400000006,   0.1264911,     0.0399999991,   0.0126491114,
                                  0.00399999972, 0.00126491114, 0.000400000019, 0.000126491112};
    expect_frequencies(
        "{\"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 2.5, \"rope_theta\": 10000.0}}", 16,
        2048, want, COUNT(want), 1);
    expect_frequencies("{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.5}}", 16, 2048, want,
                       COUNT(want), 1);
}

Test(rope, llama3_frequencies)
{
    static const double want[] = {1,
                                  0.663601279,
                                  0.440366626,
                                  0.292227834,
                                  0.193922758,
                                  0.128687382,
                                  0.0853971019,
                                  0.0566696189,
                                  0.0376060307,
                                  0.0249554086,
                                  0.0165604409,
                                  0.0109895291,
                                  0.00729266508,
                                  0.00483942125,
                                  0.00321144611,
                                  0.00129054801,
                                  0.000429556705,
                                  9.70828623e-05,
                                  1.94616387e-05,
                                  1.29147675e-05,
                                  8.57025589e-06,
                                  5.68723226e-06,
                                  3.77405445e-06,
                                  2.50446715e-06,
                                  1.66196742e-06,
                                  1.10288363e-06,
                                  7.31874934e-07,
                                  4.85673127e-07,
                                  3.22293289e-07,
                                  2.1387423e-07,
                                  1.41927202e-07,
                                  9.41830649e-08};
    expect_frequencies(
        "{\"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 32.0,"
        " \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0,"
        " \"original_max_position_embeddings\": 8192}}",
        64, 131072, want, COUNT(want), 1);
}

Test(rope, yarn_frequencies)
{
    static const double want[] = {1,
                                  0.562341332,
                                  0.316227764,
                                  0.158774942,
                                  0.0785714313,
                                  0.0381588712,
                                  0.0180701576,
                                  0.00825629756,
                                  0.00357142836,
                                  0.00140585331,
                                  0.000790569466,
                                  0.000444569858,
                                  0.000250000012,
                                  0.000140585325,
                                  7.90569466e-05,
                                  4.44569851e-05};
    static const double exact[] = {1,
                                   0.562341332,
                                   0.316227764,
                                   0.177827939,
                                   0.100000001,
                                   0.0449323915,
                                   0.0187018048,
                                   0.00682472438,
                                   0.00249999994,
                                   0.00140585331,
                                   0.000790569466,
                                   0.000444569858,
                                   0.000250000012,
                                   0.000140585325,
                                   7.90569466e-05,
                                   4.44569851e-05};
    static const double scaled[] = {1,
                                    0.562341332,
                                    0.276699275,
                                    0.133370951,
                                    0.0624999963,
                                    0.0281170625,
                                    0.0118585415,
                                    0.00444569858,
                                    0.00124999997,
                                    0.000702926656,
                                    0.000395284733,
                                    0.000222284929,
                                    0.000125000006,
                                    7.02926627e-05,
                                    3.95284733e-05,
                                    2.22284925e-05};
    expect_frequencies("{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4.0,"
                       " \"original_max_position_embeddings\": 1024}}",
                       32, 4096, want, COUNT(want), 1.138629436111989);
    expect_frequencies(
        "{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4.0, \"truncate\": false,"
        " \"beta_fast\": 16.0, \"beta_slow\": 2.0, \"original_max_position_embeddings\": 1024}}",
        32, 4096, exact, COUNT(exact), 1.138629436111989);
    expect_frequencies("{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 8.0, \"mscale\": 1.0,"
                       " \"mscale_all_dim\": 0.5, \"original_max_position_embeddings\": 512}}",
                       32, 4096, scaled, COUNT(scaled), 1.094179988101349);
}

Test(rope, scaling_has_priority_over_parameters_and_an_empty_object_counts_as_none)
{
    static const double want[] = {0.400000006,   0.1264911,     0.0399999991,   0.0126491114,
                                  0.00399999972, 0.00126491114, 0.000400000019, 0.000126491112};
    expect_frequencies("{\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 500000.0},"
                       " \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2.5}}",
                       16, 2048, want, COUNT(want), 1);
    expect_frequencies(
        "{\"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 2.5}, \"rope_scaling\": {}}", 16, 2048,
        want, COUNT(want), 1);
}

/* As Phi 3 and models that were given a longer context write it. */
Test(rope, original_context_at_the_top_has_priority_and_is_the_whole_context_where_it_is_missing)
{
    static const double yarn[] = {
        1, 0.25693506, 0.0625, 0.0138349654, 0.00249999994, 0.000790569466, 0.000250000012, 7.90569466e-05};
    static const double llama3[] = {1,
                                    0.316227764,
                                    0.100000001,
                                    0.00661310693,
                                    0.00124999997,
                                    0.000395284733,
                                    0.000125000006,
                                    3.95284733e-05};
    static const double whole[] = {1,
                                   0.316227764,
                                   0.100000001,
                                   0.0316227786,
                                   0.00784018822,
                                   0.000423639314,
                                   0.000125000006,
                                   3.95284733e-05};
    expect_frequencies(
        "{\"original_max_position_embeddings\": 256, \"rope_parameters\": {\"rope_type\": \"yarn\","
        " \"factor\": 4.0, \"original_max_position_embeddings\": 1024}}",
        16, 2048, yarn, COUNT(yarn), 1.138629436111989);
    expect_frequencies(
        "{\"original_max_position_embeddings\": 256, \"rope_scaling\": {\"rope_type\": \"llama3\","
        " \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0,"
        " \"original_max_position_embeddings\": 1024}}",
        16, 2048, llama3, COUNT(llama3), 1);
    expect_frequencies(
        "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0,"
        " \"high_freq_factor\": 4.0}}",
        16, 2048, whole, COUNT(whole), 1);
}

/* In transformers the other kinds fail with it when the model runs: they make half of the frequencies. */
Test(rope, part_of_a_head_is_never_rotated_alone)
{
    expect_frequencies("{\"partial_rotary_factor\": 0.5}", 16, 2048, plain, COUNT(plain), 1);
    expect_frequencies("{\"rope_parameters\": {\"rope_type\": \"default\", \"partial_rotary_factor\": 0.5}}",
                       16, 2048, plain, COUNT(plain), 1);
}

Test(rope, what_is_not_understood_is_refused_by_name)
{
    static const char *const bad[][2] = {
        {"{\"rope_scaling\": {\"rope_type\": \"longrope\", \"factor\": 2}}", "\"longrope\""},
        {"{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}}", "\"dynamic\""},
        {"{\"rope_scaling\": {\"type\": \"linear\"}}", "\"factor\""},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": \"two\"}}", "\"factor\""},
        {"{\"rope_scaling\": [1]}", "rope_scaling"},
        {"{\"rope_theta\": -1}", "\"rope_theta\""},
        {"{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8}}", "\"low_freq_factor\""},
        {"{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}}}", "\"full_attention\""},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"partial_rotary_factor\": 0.3}}",
         "\"partial_rotary_factor\""},
        {"{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"original_max_position_embeddings\": 64,"
         " \"low_freq_factor\": 4, \"high_freq_factor\": 4}}",
         "high_freq_factor"},
    };
    for (int i = 0; i < COUNT(bad); i++) {
        hw_rope r;
        hw_error err = {.rank = -1};
        cr_expect_eq(read(&r, bad[i][0], 10, 2048, &err), HW_ERR_MODEL, "%s", bad[i][0]);
        cr_expect_not_null(strstr(err.message, bad[i][1]), "\"%s\" does not name %s", err.message, bad[i][1]);
    }
}
