/* Decode steps as graphs, as the SIMT layer keeps and launches them: the same bits as op by op, the same
 * counts, one launch a step, and nothing allocated. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine_state.h"

#define FOLDER HW_SOURCE_DIR "/tests/vectors/llama-gqa"

enum { N_STEPS = 8, MOST_SEQS = 3 };

typedef struct run {
    hw_comm *comm;
    hw_engine *e;
    hw_batch *batch;
    hw_sequence *seqs[MOST_SEQS];
    int n_seqs;
} run;

static run start(bool graphs, int n_seqs)
{
    static const int32_t prompt[] = {3, 1, 4, 1, 5};
    run r = {.n_seqs = n_seqs};
    hw_error err = {.rank = -1};
    hw_engine_options o = hw_engine_defaults();
    o.device = HW_TEST_PLUGIN;
    o.graphs = graphs;
    o.max_seqs = n_seqs;
    cr_assert_eq(hw_comm_create_alone(&r.comm, &err), HW_OK, "%s", err.message);
    cr_assert_eq(hw_engine_create(&r.e, r.comm, FOLDER, &o, &err), HW_OK, "%s", err.message);
    cr_assert_eq(hw_batch_create(&r.batch, r.e, &err), HW_OK, "%s", err.message);
    hw_batch_clear(r.batch);
    for (int i = 0; i < n_seqs; i++) {
        cr_assert_eq(hw_sequence_create(&r.seqs[i], r.e, 0, &err), HW_OK, "%s", err.message);
        cr_assert_eq(hw_batch_add(r.batch, r.seqs[i], prompt, 5 - i, HW_LOGITS_LAST, &err), HW_OK, "%s",
                     err.message);
    }
    cr_assert_eq(hw_engine_step(r.e, r.batch, &err), HW_OK, "%s", err.message);
    return r;
}

static hw_status step(run *r, int number, hw_error *err)
{
    hw_batch_clear(r->batch);
    for (int i = 0; i < r->n_seqs; i++) {
        const int32_t token = 7 + 5 * number + i;
        hw_status st = hw_batch_add(r->batch, r->seqs[i], &token, 1, HW_LOGITS_LAST, err);
        if (st) return st;
    }
    return hw_engine_step(r->e, r->batch, err);
}

static void end(run *r)
{
    for (int i = 0; i < r->n_seqs; i++) hw_sequence_destroy(r->seqs[i]);
    hw_batch_destroy(r->batch);
    hw_engine_destroy(r->e);
    hw_comm_destroy(r->comm);
}

static hw_work_table without_time(const hw_engine *e)
{
    hw_work_table t = *hw_engine_work(e);
    memset(t.ticks, 0, sizeof t.ticks);
    return t;
}

static void compare(int n_seqs)
{
    hw_error err = {.rank = -1};
    run kept = start(true, n_seqs), plain = start(false, n_seqs);
    const size_t n = (size_t)n_seqs * (size_t)hw_engine_info_get(kept.e).vocab_size;
    float *got = calloc(n, sizeof *got), *want = calloc(n, sizeof *want);
    for (int i = 0; i < N_STEPS; i++) {
        const uint64_t starts = kept.e->device->k->counters->n_starts(kept.e->device),
                       allocations = kept.e->device->k->counters->n_allocations(kept.e->device);
        cr_assert_eq(step(&kept, i, &err), HW_OK, "%s", err.message);
        const uint64_t started = kept.e->device->k->counters->n_starts(kept.e->device) - starts;
        if (i == 0) cr_expect_gt(started, 1, "the first runs op by op");
        else cr_expect_eq(started, 1, "step %d: %llu launches", i, (unsigned long long)started);
        cr_expect_eq(kept.e->device->k->counters->n_allocations(kept.e->device), allocations, "step %d", i);
        cr_assert_eq(step(&plain, i, &err), HW_OK, "%s", err.message);
        cr_assert_eq(hw_engine_logits(kept.e, kept.batch, got, &err), HW_OK, "%s", err.message);
        cr_assert_eq(hw_engine_logits(plain.e, plain.batch, want, &err), HW_OK, "%s", err.message);
        cr_expect(!memcmp(got, want, n * sizeof *got), "logits of step %d", i);
    }
    cr_expect_eq(kept.e->device->k->counters->n_launches(kept.e->device),
                 plain.e->device->k->counters->n_launches(plain.e->device), "kernels");
    const hw_work_table a = without_time(kept.e), b = without_time(plain.e);
    cr_expect(!memcmp(&a, &b, sizeof a), "work that was counted");
    cr_expect_eq(hw_engine_info_get(kept.e).n_graph_steps, N_STEPS - 1);
    cr_expect_eq(hw_engine_info_get(plain.e).n_graph_steps, 0);
    free(got);
    free(want);
    end(&kept);
    end(&plain);
}

Test(graphs, give_the_bits_and_counts_of_single_ops) { compare(1); }
Test(graphs, hold_several_sequences) { compare(MOST_SEQS); }

/* Another number of rows is another graph, and the old ones stay good. */
Test(graphs, of_several_kinds_live_side_by_side)
{
    hw_error err = {.rank = -1};
    run r = start(true, MOST_SEQS);
    for (int i = 0; i < 12; i++) {
        r.n_seqs = 1 + i % 2;
        cr_assert_eq(step(&r, i, &err), HW_OK, "%s", err.message);
    }
    cr_expect_eq(hw_engine_info_get(r.e).n_graph_steps, 12 - 2);
    r.n_seqs = MOST_SEQS;
    end(&r);
}

/* What is the engine's to know; the words for sums through host memory are in test_nccl.c. */
Test(graphs, that_cannot_be_are_explained)
{
    run kept = start(true, 1), plain = start(false, 1);
    cr_expect_null(hw_engine_info_get(kept.e).no_graphs);
    cr_expect_str_eq(hw_engine_info_get(plain.e).no_graphs, "--cuda-graphs off");
    kept.e->options.kv_policy = HW_KV_OFF;
    cr_expect(strstr(hw_engine_info_get(kept.e).no_graphs, "--kv-cache off"));
    kept.e->options.kv_policy = HW_KV_PAGED;
    end(&kept);
    end(&plain);
    setenv("HW_CUDA_SYNC", "1", 1);
    kept = start(true, 1);
    cr_expect(strstr(hw_engine_info_get(kept.e).no_graphs, "waits after every kernel"));
    end(&kept);
}

Test(graphs, that_fail_are_named)
{
    hw_error err = {.rank = -1};
    run r = start(true, 1);
    setenv("HW_SIMT_FAIL_GRAPH", "2", 1);
    for (int i = 0; i < 2; i++) cr_assert_eq(step(&r, i, &err), HW_OK, "%s", err.message);
    cr_expect_eq(step(&r, 2, &err), HW_ERR_DEVICE);
    cr_expect(strstr(err.message, "rank 0") && strstr(err.message, "GPU 0") && strstr(err.message, "graph"),
              "%s", err.message);
    end(&r);
}
