/* Steps that follow one another on the device, as the SIMT layer runs them, against single steps of the same device
 * whose tokens come to the host: the same tokens, counts, cache and errors. device_loop_worker.c does so on several ranks
 * and against the CPU. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/batch.h"
#include "runtime/device/device_loop.h"
#include "runtime/engine_state.h"

#define FOLDER HW_SOURCE_DIR "/tests/vectors/llama-mqa"

enum { MOST_SEQS = 3, MOST_STEPS = 64 };

/* One engine, and sequences that have been given their prompts. */
typedef struct run {
    hw_comm *comm;
    hw_engine *e;
    hw_batch *batch;
    hw_device_loop *loop; /* NULL: single steps */
    hw_sequence *seqs[MOST_SEQS];
    int32_t tokens[MOST_SEQS]; /* what was chosen last */
    int n_seqs;
} run;

/* Rows of a batch that are drawn each in its own way. */
static const hw_sampling settings[MOST_SEQS] = {
    {.temperature = 0}, {.temperature = 0.8f, .seed = 5}, {.temperature = 2, .seed = UINT64_C(77) << 33}};

static void must(hw_status st, const hw_error *err) { cr_assert_eq(st, HW_OK, "%s", err->message); }

static hw_engine_options options(bool fed, int n_seqs)
{
    hw_engine_options o = hw_engine_defaults();
    o.device = HW_TEST_PLUGIN;
    o.graphs = fed;
    o.max_seqs = n_seqs;
    o.block_tokens = 4;
    return o;
}

static run start(bool fed, int n_seqs, hw_engine_options o)
{
    static const int32_t prompt[] = {3, 1, 4, 1, 5, 9, 2};
    run r = {.n_seqs = n_seqs};
    hw_error err = {.rank = -1};
    must(hw_comm_create_alone(&r.comm, &err), &err);
    must(hw_engine_create(&r.e, r.comm, FOLDER, &o, &err), &err);
    must(hw_batch_create(&r.batch, r.e, &err), &err);
    if (fed) must(hw_device_loop_create(&r.loop, r.e, &err), &err);
    for (int i = 0; i < n_seqs; i++) {
        must(hw_sequence_create(&r.seqs[i], r.e, 0, &err), &err);
        must(hw_batch_add(r.batch, r.seqs[i], prompt, 7 - 3 * i, HW_LOGITS_LAST, &err), &err);
    }
    must(hw_engine_step(r.e, r.batch, &err), &err);
    must(hw_engine_sample(r.e, r.batch, settings, 0, r.tokens, &err), &err);
    return r;
}

static void end(run *r)
{
    for (int i = 0; i < r->n_seqs; i++) hw_sequence_destroy(r->seqs[i]);
    hw_device_loop_destroy(r->loop);
    hw_batch_destroy(r->batch);
    hw_engine_destroy(r->e);
    hw_comm_destroy(r->comm);
}

static hw_status single_step(run *r, hw_error *err)
{
    hw_status st = HW_OK;
    hw_batch_clear(r->batch);
    for (int i = 0; i < r->n_seqs && !st; i++)
        st = hw_batch_add(r->batch, r->seqs[i], &r->tokens[i], 1, HW_LOGITS_LAST, err);
    if (!st) st = hw_engine_step(r->e, r->batch, err);
    return st ? st : hw_engine_sample(r->e, r->batch, settings, 0, r->tokens, err);
}

static void begin(run *r, int n_steps)
{
    hw_error err = {.rank = -1};
    must(hw_device_loop_begin(r->loop, r->seqs, r->tokens, settings, r->n_seqs, 0, n_steps, &err), &err);
}

static hw_status fed_step(run *r, hw_error *err) { return hw_device_loop_next(r->loop, r->tokens, err); }

static int finish(run *r)
{
    int n_discarded;
    hw_error err = {.rank = -1};
    must(hw_device_loop_end(r->loop, &n_discarded, &err), &err);
    return n_discarded;
}

static uint64_t starts(const run *r) { return r->e->device->k->counters->n_starts(r->e->device); }
static uint64_t allocations(const run *r) { return r->e->device->k->counters->n_allocations(r->e->device); }

static void expect_same_tokens(const run *a, const run *b, int step)
{
    for (int i = 0; i < a->n_seqs; i++)
        cr_expect_eq(a->tokens[i], b->tokens[i], "step %d, row %d: %d and %d", step, i, a->tokens[i],
                     b->tokens[i]);
}

/* Sequences, cache and counts; and what is in the cache, as far as a further step of both can tell. */
static void expect_same_state(run *a, run *b, int n_discarded)
{
    hw_error err = {.rank = -1};
    const hw_kv_usage u = hw_engine_kv_usage(a->e), v = hw_engine_kv_usage(b->e);
    cr_expect_eq(u.used_bytes, v.used_bytes);
    cr_expect_eq(u.reserved_bytes, v.reserved_bytes);
    cr_expect_eq(u.n_free, v.n_free);
    cr_expect_eq(u.n_cached, v.n_cached);
    for (int i = 0; i < a->n_seqs; i++) {
        const int n = hw_sequence_n_tokens(a->seqs[i]);
        cr_assert_eq(n, hw_sequence_n_tokens(b->seqs[i]));
        cr_expect(!memcmp(a->seqs[i]->tokens, b->seqs[i]->tokens, (size_t)n * sizeof(int32_t)), "sequence %d",
                  i);
        cr_expect_eq(a->seqs[i]->n_computed, n);
    }
    hw_work_table t = *hw_engine_work(a->e), w = *hw_engine_work(b->e);
    memset(t.ticks, 0, sizeof t.ticks);
    memset(w.ticks, 0, sizeof w.ticks);
    if (!n_discarded) cr_expect(!memcmp(&t, &w, sizeof t), "work that was counted");
    const size_t n = (size_t)a->n_seqs * (size_t)hw_engine_info_get(a->e).vocab_size;
    float *x = calloc(n, sizeof *x), *y = calloc(n, sizeof *y);
    must(single_step(a, &err), &err);
    must(single_step(b, &err), &err);
    must(hw_engine_logits(a->e, a->batch, x, &err), &err);
    must(hw_engine_logits(b->e, b->batch, y, &err), &err);
    cr_expect(!memcmp(x, y, n * sizeof *x), "logits of the step after");
    free(x), free(y);
}

/* n steps over blocks of 4 tokens. From the second step on a step is one launch; kernels are two more than those
 * of a step and none of a sampler. */
static void compare(int n_seqs, int n)
{
    hw_error err = {.rank = -1};
    run fed = start(true, n_seqs, options(true, n_seqs)),
        plain = start(false, n_seqs, options(false, n_seqs));
    cr_assert(hw_device_loop_possible(fed.e, settings, n_seqs));
    const uint64_t allocated = allocations(&fed);
    uint64_t started = starts(&fed);
    begin(&fed, n);
    for (int i = 0; i < n; i++) {
        must(fed_step(&fed, &err), &err);
        must(single_step(&plain, &err), &err);
        expect_same_tokens(&fed, &plain, i);
        if (i > 0 && i < n - 1) cr_expect_eq(starts(&fed) - started, 1, "step %d", i);
        started = starts(&fed);
    }
    cr_expect_eq(fed_step(&fed, &err), HW_ERR_INVALID, "there is no step more");
    cr_expect_eq(finish(&fed), 0);
    cr_expect_eq(allocations(&fed), allocated);
    cr_expect_eq(hw_engine_info_get(fed.e).n_device_loop_steps, n);
    cr_expect_eq(hw_engine_info_get(fed.e).n_graph_steps, n - 1);
    expect_same_state(&fed, &plain, 0);
    end(&fed);
    end(&plain);
}

Test(device_loop, chooses_what_single_steps_choose) { compare(1, 18); }
Test(device_loop, holds_sequences_that_are_drawn_differently) { compare(MOST_SEQS, 9); }

/* With blocks of 4 tokens the discarded step is the first of a block in one of four cases. The loop begins again
 * where the last one ended. */
Test(device_loop, leaves_no_trace_of_a_discarded_step)
{
    hw_error err = {.rank = -1};
    run fed = start(true, 2, options(true, 2)), plain = start(false, 2, options(false, 2));
    for (int n = 1; n <= 3; n++) {
        begin(&fed, MOST_STEPS);
        for (int i = 0; i < n; i++) {
            must(fed_step(&fed, &err), &err);
            must(single_step(&plain, &err), &err);
            expect_same_tokens(&fed, &plain, i);
        }
        cr_expect_eq(finish(&fed), 1);
        expect_same_state(&fed, &plain, 1);
    }
    cr_expect_eq(hw_engine_info_get(fed.e).n_device_loop_steps, 1 + 2 + 3 + 3, "they are counted");
    end(&fed);
    end(&plain);
}

Test(device_loop, that_ends_before_a_step_leaves_the_sequence_alone)
{
    run fed = start(true, 1, options(true, 1)), plain = start(false, 1, options(false, 1));
    begin(&fed, 5);
    cr_expect_eq(finish(&fed), 0);
    expect_same_state(&fed, &plain, 0);
    begin(&fed, 0);
    cr_expect_eq(finish(&fed), 0);
    cr_expect_eq(finish(&fed), 0, "once more is fine");
    end(&fed);
    end(&plain);
}

/* Every policy that keeps anything; a growing run of two blocks is copied in the middle. */
Test(device_loop, goes_with_every_policy)
{
    enum { N = 4 };
    static const hw_kv_policy policies[] = {HW_KV_CONTIGUOUS, HW_KV_DYNAMIC};
    hw_error err = {.rank = -1};
    run plain = start(false, 1, options(false, 1));
    int32_t want[N];
    for (int i = 0; i < N; i++) {
        must(single_step(&plain, &err), &err);
        want[i] = plain.tokens[0];
    }
    for (size_t p = 0; p < 2; p++) {
        hw_engine_options o = options(true, 1);
        o.kv_policy = policies[p];
        run fed = start(true, 1, o);
        begin(&fed, MOST_STEPS);
        for (int i = 0; i < N; i++) {
            must(fed_step(&fed, &err), &err);
            cr_expect_eq(fed.tokens[0], want[i], "policy %zu, step %d", p, i);
        }
        cr_expect_eq(finish(&fed), 1);
        cr_expect_eq(hw_sequence_n_tokens(fed.seqs[0]), hw_sequence_n_tokens(plain.seqs[0]));
        cr_expect_eq(hw_engine_kv_usage(fed.e).used_bytes, hw_engine_kv_usage(plain.e).used_bytes);
        end(&fed);
    }
    end(&plain);
}

/* A prefix that the loop filled is found by the next sequence, with the tokens that were chosen. */
Test(device_loop, makes_full_blocks_findable)
{
    hw_error err = {.rank = -1};
    run fed = start(true, 2, options(true, 2));
    hw_sequence_destroy(fed.seqs[1]);
    fed.seqs[1] = NULL;
    fed.n_seqs = 1;
    begin(&fed, 6);
    for (int i = 0; i < 6; i++) must(fed_step(&fed, &err), &err);
    cr_expect_eq(finish(&fed), 0);
    const int n = hw_sequence_n_tokens(fed.seqs[0]); /* 13: three full blocks */
    hw_sequence *again;
    must(hw_sequence_create(&again, fed.e, 0, &err), &err);
    hw_batch_clear(fed.batch);
    must(hw_batch_add(fed.batch, again, hw_sequence_tokens(fed.seqs[0]), n, HW_LOGITS_LAST, &err), &err);
    cr_expect_eq(n, 13);
    cr_expect_eq(hw_sequence_n_cached(again), 12);
    hw_sequence_destroy(again);
    end(&fed);
}

/* Four blocks of 4 tokens: no step more than without a loop, and no step less. */
Test(device_loop, runs_until_the_cache_is_full)
{
    hw_error err = {.rank = -1}, said = {.rank = -1};
    hw_engine_options o = options(true, 1), single = options(false, 1);
    run probe = start(false, 1, single);
    o.kv_bytes = single.kv_bytes = 4 * 4 * hw_engine_kv_usage(probe.e).bytes_per_token;
    o.max_seq_len = single.max_seq_len = 40;
    end(&probe);
    run fed = start(true, 1, o), plain = start(false, 1, single);
    int n = 0;
    begin(&fed, MOST_STEPS);
    while (!single_step(&plain, &said)) {
        must(fed_step(&fed, &err), &err);
        expect_same_tokens(&fed, &plain, n++);
    }
    cr_expect_eq(n, 4 * 4 - 7);
    cr_expect_eq(fed_step(&fed, &err), HW_ERR_CACHE_FULL);
    cr_expect_str_eq(err.message, said.message);
    cr_expect_eq(finish(&fed), 0);
    cr_expect_eq(hw_sequence_n_tokens(fed.seqs[0]), 16);
    end(&fed);
    end(&plain);
}

Test(device_loop, ends_where_the_context_does)
{
    hw_error err = {.rank = -1};
    hw_engine_options o = options(true, 1);
    o.max_seq_len = 10;
    run fed = start(true, 1, o);
    begin(&fed, MOST_STEPS);
    for (int i = 0; i < 3; i++) must(fed_step(&fed, &err), &err);
    cr_expect_eq(fed_step(&fed, &err), HW_ERR_INVALID);
    cr_expect(strstr(err.message, "context"), "%s", err.message);
    cr_expect_eq(finish(&fed), 0);
    end(&fed);
}

/* ---- what goes wrong */

/* The last norm's weights from now on. */
static void set_final_norm(run *r, float value)
{
    const size_t dim = (size_t)r->e->model.dim;
    hw_error err = {.rank = -1};
    float *w = calloc(dim, sizeof *w);
    for (size_t i = 0; i < dim; i++) w[i] = value;
    cr_assert_eq(r->e->device->k->copy_in(r->e->device, (void *)(uintptr_t)r->e->weights->final_norm, w,
                                          dim * sizeof *w),
                 HW_OK);
    must(hw_engine_wait(r->e, HW_OK, &err), &err);
    free(w);
}

static void expect_refused_alike(float final_norm)
{
    hw_error err = {.rank = -1}, want = {.rank = -1};
    run fed = start(true, 2, options(true, 2)), plain = start(false, 2, options(false, 2));
    begin(&fed, MOST_STEPS);
    for (int i = 0; i < 3; i++) must(fed_step(&fed, &err), &err);
    set_final_norm(&fed, final_norm);
    set_final_norm(&plain, final_norm);
    must(fed_step(&fed, &err), &err); /* it was under way */
    cr_expect_eq(single_step(&plain, &want), HW_ERR_FAILED);
    cr_expect_eq(fed_step(&fed, &err), HW_ERR_FAILED);
    cr_expect_str_eq(err.message, want.message);
    cr_expect_eq(finish(&fed), 1);
    end(&fed);
    end(&plain);
}

Test(device_loop, refuses_a_logit_that_is_not_a_number) { expect_refused_alike(NAN); }
Test(device_loop, refuses_a_logit_that_is_infinite) { expect_refused_alike(3e38f); }

Test(device_loop, is_cancelled_at_the_next_step_that_begins)
{
    hw_error err = {.rank = -1};
    run fed = start(true, 2, options(true, 2));
    begin(&fed, MOST_STEPS);
    for (int i = 0; i < 4; i++) must(fed_step(&fed, &err), &err);
    hw_engine_cancel(fed.e);
    must(fed_step(&fed, &err), &err); /* it was under way */
    cr_expect_eq(fed_step(&fed, &err), HW_ERR_CANCELLED);
    cr_expect_str_eq(err.message, "cancelled");
    cr_expect_eq(finish(&fed), 1);
    end(&fed);
}

Test(device_loop, that_fails_on_the_device_is_named)
{
    hw_error err = {.rank = -1};
    run r = start(true, 1, options(true, 1));
    setenv("HW_SIMT_FAIL_GRAPH", "3", 1);
    begin(&r, MOST_STEPS);
    hw_status st = HW_OK;
    for (int i = 0; i < 6 && !st; i++) st = fed_step(&r, &err);
    cr_expect_eq(st, HW_ERR_DEVICE);
    cr_expect(strstr(err.message, "rank 0") && strstr(err.message, "GPU 0") && strstr(err.message, "graph"),
              "%s", err.message);
    end(&r);
}

Test(device_loop, is_refused_where_a_choice_takes_more_than_keys)
{
    static const hw_sampling others[] = {{.temperature = 1, .top_k = 5},
                                         {.temperature = 1, .top_p = 0.5f},
                                         {.temperature = 1, .min_p = 0.1f},
                                         {.repetition_penalty = 1.1f}};
    hw_error err = {.rank = -1};
    run r = start(true, 1, options(true, 1)), plain = start(false, 1, options(false, 1));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        cr_expect_not(hw_device_loop_possible(r.e, &others[i], 1));
        cr_expect_eq(hw_device_loop_begin(r.loop, r.seqs, r.tokens, &others[i], 1, 0, 3, &err),
                     HW_ERR_INVALID);
    }
    cr_expect(hw_device_loop_possible(r.e, &settings[1], 1));
    cr_expect_not(hw_device_loop_possible(plain.e, &settings[0], 1), "without graphs");
    end(&r);
    end(&plain);
}
