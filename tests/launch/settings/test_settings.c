/* Settings of a request from JSON: what is written arrives, what is wrong is refused by name with what is wanted; and
 * a nearer source over a farther one. */
#include <criterion/criterion.h>
#include <string.h>

#include "launch/settings/settings.h"
#include "runtime/base/json.h"

static hw_request_settings request(void)
{
    hw_request_settings r = {.n_stops = 0};
    hw_settings_defaults(&hw_request_group, &r);
    return r;
}

/* The document holds the texts of *r; the caller gives it back. */
static hw_status read_object(hw_request_settings *r, json_t **document, const char *text, hw_error *err)
{
    const char *name;
    json_t *value;
    hw_status st = hw_json_parse_object(document, text, strlen(text), "a line", HW_ERR_INVALID, err);
    cr_assert_eq(st, HW_OK, "%s", err->message);
    json_object_foreach(*document, name, value)
    {
        if (!st) st = hw_setting_from_json(&hw_request_group, r, name, value, err);
    }
    return st;
}

static hw_request_settings taken(json_t **document, const char *text)
{
    hw_request_settings r = request();
    hw_error err = {.rank = -1};
    cr_assert_eq(read_object(&r, document, text, &err), HW_OK, "%s: %s", text, err.message);
    return r;
}

#define IS_GIVEN(r, field) hw_setting_is_given(&hw_request_group, &(r), offsetof(hw_request_settings, field))

Test(settings, every_field_of_a_request_arrives)
{
    json_t *document;
    const hw_request_settings r = taken(
        &document, "{\"max_tokens\": 7, \"temperature\": 0.8, \"top_k\": 40, \"top_p\": 1, \"min_p\": 0.05,\n"
                   " \"repetition_penalty\": 1.25, \"seed\": -3.0, \"stop\": [\"\\n\", \"7\"], "
                   "\"ignore_eos\": true}");
    cr_expect_eq(r.max_tokens, 7);
    cr_expect_eq(r.sampling.temperature, 0.8f);
    cr_expect_eq(r.sampling.top_k, 40);
    cr_expect_eq(r.sampling.top_p, 1.0f);
    cr_expect_eq(r.sampling.min_p, 0.05f);
    cr_expect_eq(r.sampling.repetition_penalty, 1.25f);
    cr_expect_eq(r.sampling.seed, (uint64_t)-3);
    cr_expect_eq(r.n_stops, 2);
    cr_expect_str_eq(r.stops[0], "\n");
    cr_expect_str_eq(r.stops[1], "7");
    cr_expect(r.ignore_eos);
    json_decref(document);
}

Test(settings, a_single_stop_needs_no_list_and_null_is_as_if_not_written)
{
    json_t *document;
    const hw_request_settings r =
        taken(&document, "{\"stop\": \"END\", \"temperature\": null, \"top_k\": \"auto\", \"seed\": null}");
    cr_expect_eq(r.n_stops, 1);
    cr_expect_str_eq(r.stops[0], "END");
    cr_expect(!IS_GIVEN(r, sampling.temperature) && !IS_GIVEN(r, sampling.top_k));
    json_decref(document);
}

Test(settings, mistakes_are_named_with_what_was_found_and_what_is_wanted)
{
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"{\"temperature\": -0.5}", "temperature is '-0.5', wanted auto, or a number from 0 to 1000000"},
        {"{\"temperature\": 1e-50}", "temperature is '1e-50', wanted auto, or a number from 0 to 1000000"},
        {"{\"temperature\": \"0.5\"}",
         "temperature is \"0.5\", wanted auto, or a number from 0 to 1000000; leave the quotes out"},
        {"{\"top_p\": 1.5}", "top_p is '1.5', wanted auto, or a number from 1e-06 to 1"},
        {"{\"top_k\": 1.5}", "top_k is '1.5', wanted auto, or 0 to 2147483647 tokens"},
        {"{\"max_tokens\": 0}", "max_tokens is '0', wanted auto, or 1 to 2147483647 tokens"},
        {"{\"max_tokens\": [3]}", "max_tokens is a list, wanted auto, or 1 to 2147483647 tokens"},
        {"{\"max_tokens\": {}}", "max_tokens is an object, wanted auto, or 1 to 2147483647 tokens"},
        {"{\"max_tokens\": true}", "max_tokens is 'true', wanted auto, or 1 to 2147483647 tokens"},
        {"{\"ignore_eos\": 1}", "ignore_eos is '1', wanted true or false"},
        {"{\"ignore_eos\": \"true\"}", "ignore_eos is \"true\", wanted true or false; leave the quotes out"},
        {"{\"seed\": 1.5}", "seed is '1.5', wanted a whole number"},
        {"{\"stop\": 3}",
         "stop is '3', wanted a list of at most 16 texts; this is a number: put it in quotes"},
        {"{\"stop\": [\"a\", \"\"]}", "stop is \"\" (empty), wanted a list of at most 16 texts"},
        {"{\"stop\": [null]}", "stop is null, wanted a list of at most 16 texts"},
        {"{\"stop\": \"a\\u0000b\"}",
         "stop is a text with a zero byte (\\u0000) in it, wanted a list of at most 16 texts"},
        {"{\"stop\": "
         "[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\","
         "\"a\"]}",
         "stop has more than 16 entries"},
        {"{\"temprature\": 1}", "there is no setting temprature; did you mean temperature?"},
        {"{\"max_token\": 1}", "there is no setting max_token; did you mean max_tokens?"},
        {"{\"logprobs\": 1}",
         "there is no setting logprobs; there are max_tokens, temperature, top_k, top_p, min_p, "
         "repetition_penalty, seed, stop, ignore_eos"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *document;
        hw_request_settings r = request();
        hw_error err = {.rank = -1};
        cr_expect_eq(read_object(&r, &document, rows[i].text, &err), HW_ERR_INVALID, "%s", rows[i].text);
        cr_expect_str_eq(err.message, rows[i].message);
        json_decref(document);
    }
}

Test(settings, a_request_inherits_what_it_leaves_open)
{
    json_t *documents[2];
    hw_request_settings near =
        taken(&documents[0], "{\"temperature\": 0.5, \"stop\": [\"x\"], \"top_k\": \"auto\"}");
    const hw_request_settings far = taken(
        &documents[1], "{\"temperature\": 0.9, \"max_tokens\": 5, \"top_k\": 3, \"stop\": [\"y\", \"z\"]}");
    hw_settings_inherit(&hw_request_group, &near, &far);
    cr_expect_eq(near.sampling.temperature, 0.5f);
    cr_expect_eq(near.max_tokens, 5);
    cr_expect_eq(near.sampling.top_k, 0, "auto is said, and is not the farther source's 3");
    cr_expect(near.n_stops == 1 && !strcmp(near.stops[0], "x"));
    for (int i = 0; i < 2; i++) json_decref(documents[i]);
}

Test(settings, a_greedy_request_does_not_inherit_candidates)
{
    json_t *documents[2];
    hw_request_settings near = taken(&documents[0], "{\"temperature\": 0}");
    const hw_request_settings far =
        taken(&documents[1], "{\"top_k\": 3, \"top_p\": 0.5, \"min_p\": 0.1, \"seed\": 4}");
    hw_settings_inherit(&hw_request_group, &near, &far);
    cr_expect(!IS_GIVEN(near, sampling.top_k) && !IS_GIVEN(near, sampling.top_p) &&
              !IS_GIVEN(near, sampling.min_p));
    cr_expect_eq(near.sampling.seed, 4);
    for (int i = 0; i < 2; i++) json_decref(documents[i]);
}

/* Ranks compare hashes: what all must have the same changes them, and what is a rank's own does not. */
Test(settings, hashes_tell_settings_that_ranks_must_share)
{
    hw_engine_settings a = {.prefill_chunk = 0};
    hw_settings_defaults(&hw_engine_group, &a);
    const uint64_t hash = hw_settings_hash(&hw_engine_group, &a, HW_HASH_START);
    hw_engine_settings other = a;
    other.options.n_threads = 3, other.verbose = true;
    cr_expect_eq(hw_settings_hash(&hw_engine_group, &other, HW_HASH_START), hash);
    other.options.kv_dtype = HW_F16;
    cr_expect_neq(hw_settings_hash(&hw_engine_group, &other, HW_HASH_START), hash);

    json_t *documents[2];
    const hw_request_settings one = taken(&documents[0], "{\"stop\": [\"ab\", \"c\"]}"),
                              two = taken(&documents[1], "{\"stop\": [\"a\", \"bc\"]}");
    cr_expect_neq(hw_settings_hash(&hw_request_group, &one, 1), hw_settings_hash(&hw_request_group, &two, 1));
    for (int i = 0; i < 2; i++) json_decref(documents[i]);
}

/* A row that breaks a rule of the table would be found by a user only. */
Test(settings, rows_are_whole)
{
    static const hw_setting_group *const groups[] = {&hw_model_group,  &hw_prompt_group, &hw_request_group,
                                                     &hw_engine_group, &hw_report_group, &hw_cluster_group};
    for (int k = 0; k < 6; k++) {
        cr_expect_leq(groups[k]->n, 64);
        for (int i = 0; i < groups[k]->n; i++) {
            const hw_setting *s = &groups[k]->rows[i];
            cr_expect(s->path || s->flag, "row %d of group %d is nowhere", i, k);
            cr_expect(!s->flag || s->help || (s->traits & HW_ALIAS), "--%s has no help", s->flag);
            cr_expect(!s->flag || s->argument || s->type == HW_SETTING_FLAG, "--%s is a switch", s->flag);
            cr_expect(s->type != HW_SETTING_FLAG || s->fallback, "row %d of group %d has no default", i, k);
        }
    }
}
