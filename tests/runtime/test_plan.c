#include <criterion/criterion.h>

#include "runtime/plan.h"

static hw_model shape(const char *name)
{
    char path[4096];
    hw_model m;
    hw_error err = {.rank = -1};
    snprintf(path, sizeof path, "%s/models/shapes/%s", HW_SOURCE_DIR, name);
    cr_assert_eq(hw_model_open(&m, path, &err), HW_OK, "%s", err.message);
    return m;
}

/* By hand, for d = 768, L = 12, V = 50257: a row is 2 L 12 d^2 + and its logits 2 d V; a pair 4 d L. 1000
 * rows with a cache, 500,500 without; 500,500 and 167,167,000 pairs; 1000 rows of logits either way. */
Test(plan, flops_of_1000_tokens_of_gpt2_with_and_without_a_cache)
{
    hw_model m = shape("gpt2-124m");
    hw_generation_shape g = {.n_prompt = 1, .n_steps = 999};
    cr_expect_eq(hw_plan_generation_flops(&m, g), UINT64_C(265514496000));
    g.cache_off = true;
    cr_expect_eq(hw_plan_generation_flops(&m, g), UINT64_C(91259229696000));
}

static hw_step_traffic traffic(const hw_model *m, int rank, int n_ranks, hw_generation_shape g)
{
    hw_step_traffic t = {.sample_is_bound = false};
    hw_shard shard;
    hw_error err = {.rank = -1};
    cr_assert_eq(hw_shard_create(&shard, m, rank, n_ranks, &err), HW_OK, "%s", err.message);
    hw_plan_generation_traffic(&t, m, &shard, HW_F32, g, NULL);
    return t;
}

static uint64_t payload(const hw_step_traffic *t, bool with_sample)
{
    uint64_t n = 0;
    for (int site = 0; site < HW_N_SITES; site++)
        if (with_sample || site != HW_SITE_SAMPLE) n += hw_step_traffic_site(t, (hw_site)site).payload_bytes;
    return n;
}

/* Rows are 500,500 and 1000, so the payload of activations differs by exactly 500.5; greedy sampling's 8
 * bytes are the same in each of 1000 steps: (25 * 3072 * 500500 + 8000) / (25 * 3072 * 1000 + 8000) =
 * 500.448. */
Test(plan, payload_without_a_cache_is_500_and_a_half_times_as_much)
{
    hw_model m = shape("gpt2-124m");
    hw_step_traffic on = traffic(&m, 1, 2, (hw_generation_shape){.n_prompt = 1, .n_steps = 999});
    hw_step_traffic off =
        traffic(&m, 1, 2, (hw_generation_shape){.n_prompt = 1, .n_steps = 999, .cache_off = true});
    cr_expect_eq(payload(&on, false), UINT64_C(25) * 3072 * 1000);
    cr_expect_eq(2 * payload(&off, false), 1001 * payload(&on, false));
    cr_expect_float_eq((double)payload(&off, true) / (double)payload(&on, true), 500.448, 5e-4);
}

Test(plan, one_rank_sends_nothing)
{
    hw_model m = shape("llama-1b");
    hw_step_traffic t = traffic(&m, 0, 1, (hw_generation_shape){.n_prompt = 100, .n_steps = 9});
    for (int site = 0; site < HW_N_SITES; site++)
        cr_expect_eq(hw_step_traffic_site(&t, (hw_site)site).calls, 0);
}

/* 8 bytes and nothing else cross for a greedy token, whatever the vocabulary: one u64 max. */
Test(plan, a_greedy_token_is_one_all_reduce_of_8_bytes)
{
    hw_model m = shape("llama-1b");
    hw_step_traffic t = traffic(&m, 3, 4, (hw_generation_shape){.n_prompt = 1, .n_steps = 1});
    hw_traffic sample = t.site[HW_SITE_SAMPLE][HW_DECODE];
    cr_expect_eq(sample.calls, 1);
    cr_expect_eq(sample.payload_bytes, 8);
    cr_expect_eq(sample.sent_bytes, 16);
    cr_expect_eq(sample.messages, 2);
}
