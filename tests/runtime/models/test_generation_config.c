#include "runtime/models/generation_config.h"
#include "tests/runtime/weights/checkpoint_files.h"

static hw_status open_texts(hw_generation_config *g, const char *generation, const char *config,
                            hw_error *err)
{
    if (generation) write_text("generation_config.json", generation);
    write_text("config.json", config);
    return hw_generation_config_open(g, test_folder, err);
}

static hw_generation_config open_good(const char *generation, const char *config)
{
    hw_generation_config g;
    hw_error err = {.rank = -1};
    cr_assert_eq(open_texts(&g, generation, config, &err), HW_OK, "%s", err.message);
    return g;
}

TestSuite(generation_config, .init = make_folder, .fini = remove_folder);

/* As transformers 5.23 does, tried with a folder for each. */
Test(generation_config, where_the_file_is_there_config_json_says_nothing)
{
    hw_generation_config g =
        open_good("{\"eos_token_id\": [7, 3, 7]}", "{\"eos_token_id\": 5, \"do_sample\": true}");
    cr_expect_eq(g.n_eos, 2);
    cr_expect(hw_generation_config_is_eos(&g, 7) && hw_generation_config_is_eos(&g, 3));
    cr_expect_not(hw_generation_config_is_eos(&g, 5));
    cr_expect_eq(g.sampling.temperature, 0);
    g = open_good("{\"eos_token_id\": null}", "{\"eos_token_id\": [5, 0]}");
    cr_expect_eq(g.n_eos, 0);
    g = open_good("{}", "{\"eos_token_id\": 5}");
    cr_expect_eq(g.n_eos, 0);
}

Test(generation_config, where_the_file_is_missing_config_json_says_it_all)
{
    hw_generation_config g =
        open_good(NULL, "{\"eos_token_id\": [5, 0], \"do_sample\": true, \"temperature\": 0.5}");
    cr_expect_eq(g.n_eos, 2);
    cr_expect(hw_generation_config_is_eos(&g, 0) && hw_generation_config_is_eos(&g, 5));
    cr_expect_eq(g.sampling.temperature, 0.5f);
    cr_expect_eq(g.sampling.top_k, 50);
}

Test(generation_config, it_may_be_missing_and_then_nothing_is_sampled)
{
    hw_generation_config g = open_good(NULL, "{}");
    cr_expect_eq(g.n_eos, 0);
    cr_expect_eq(g.max_new_tokens, 0);
    cr_expect_eq(g.sampling.temperature, 0);
    cr_expect_eq(g.sampling.top_k, 0);
}

Test(generation_config, temperature_means_nothing_unless_do_sample_is_true)
{
    hw_generation_config g =
        open_good("{\"do_sample\": false, \"temperature\": 0.7, \"top_k\": 9, \"top_p\": 0.5,"
                  " \"repetition_penalty\": 1.5, \"max_new_tokens\": 12}",
                  "{}");
    cr_expect_eq(g.sampling.temperature, 0);
    cr_expect_eq(g.sampling.top_k, 0);
    cr_expect_eq(g.sampling.repetition_penalty, 1.5f); /* greedy decoding has it too */
    cr_expect_eq(g.max_new_tokens, 12);
}

/* transformers' defaults where sampling is on: temperature 1, the 50 best, all of the mass. */
Test(generation_config, do_sample_takes_the_settings_and_the_defaults_of_transformers)
{
    hw_generation_config g = open_good("{\"do_sample\": true}", "{}");
    cr_expect(g.sampling.temperature == 1 && g.sampling.top_k == 50 && g.sampling.top_p == 1 &&
              g.sampling.min_p == 0);
    g = open_good(
        "{\"do_sample\": true, \"temperature\": 0.6, \"top_k\": 0, \"top_p\": 0.9, \"min_p\": 0.05}", "{}");
    cr_expect(g.sampling.temperature == 0.6f && g.sampling.top_k == 0 && g.sampling.top_p == 0.9f &&
              g.sampling.min_p == 0.05f);
}

Test(generation_config, what_is_not_supported_and_changes_the_text_is_named)
{
    hw_generation_config g = open_good(
        "{\"num_beams\": 4, \"suppress_tokens\": [1], \"begin_suppress_tokens\": [2],"
        " \"bad_words_ids\": [[3]], \"min_new_tokens\": 5, \"sequence_bias\": [[[1], 2.0]],"
        " \"forced_eos_token_id\": 0, \"encoder_repetition_penalty\": 1.1,"
        " \"exponential_decay_length_penalty\": [1, 1.5], \"guidance_scale\": 2, \"typical_p\": 0.9}",
        "{}");
    cr_expect_str_eq(g.ignored,
                     "num_beams, guidance_scale, sequence_bias, bad_words_ids, encoder_repetition_penalty, "
                     "min_new_tokens, forced_eos_token_id, exponential_decay_length_penalty, "
                     "suppress_tokens, begin_suppress_tokens");
    g = open_good("{\"do_sample\": true, \"typical_p\": 0.9}", "{}");
    cr_expect_str_eq(g.ignored, "typical_p");
    g = open_good(
        "{\"do_sample\": true, \"typical_p\": 1.0, \"num_beams\": 1, \"min_length\": 0, \"suppress_tokens\": "
        "[],"
        " \"forced_eos_token_id\": null, \"token_healing\": false, \"transformers_version\": \"5\"}",
        "{}");
    cr_expect_str_eq(g.ignored, "");
}

Test(generation_config, wrong_types_and_ranges_are_refused_by_name)
{
    static const char *const bad[][2] = {
        {"{\"eos_token_id\": \"</s>\"}", "\"eos_token_id\""},
        {"{\"eos_token_id\": [1, -2]}", "\"eos_token_id\""},
        {"{\"eos_token_id\": 1.5}", "\"eos_token_id\""},
        {"{\"do_sample\": 1}", "\"do_sample\""},
        {"{\"temperature\": \"hot\"}", "\"temperature\""},
        {"{\"temperature\": -1}", "\"temperature\""},
        {"{\"top_k\": 2.5}", "\"top_k\""},
        {"{\"top_p\": 1.1}", "\"top_p\""},
        {"{\"min_p\": -0.1}", "\"min_p\""},
        {"{\"max_new_tokens\": 0}", "\"max_new_tokens\""},
        {"{\"repetition_penalty\": 0}", "\"repetition_penalty\""},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hw_generation_config g;
        hw_error err = {.rank = -1};
        cr_expect_eq(open_texts(&g, bad[i][0], "{}", &err), HW_ERR_MODEL, "%s", bad[i][0]);
        cr_expect_not_null(strstr(err.message, bad[i][1]), "\"%s\" does not name %s", err.message, bad[i][1]);
        cr_expect_not_null(strstr(err.message, "generation_config.json"), "%s", err.message);
    }
}

Test(generation_config, a_folder_without_config_json_is_refused)
{
    hw_generation_config g;
    hw_error err = {.rank = -1};
    cr_expect_eq(hw_generation_config_open(&g, test_folder, &err), HW_ERR_MODEL);
    cr_expect_not_null(strstr(err.message, "config.json"), "%s", err.message);
}
