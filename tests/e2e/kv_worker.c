/* What the cache does among ranks that differ: capacity is the least of all, running out is the same on all
 * and harms nobody.
 *
 *   mpirun -np N kv_worker FOLDER
 *
 * Exit code 1 and a line on standard error for the first thing that is not so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine.h"
#include "runtime/kv/capacity.h"
#include "tests/support/rank.h"

enum { BLOCK = 4, N_BLOCKS = 7 };

static bool same_everywhere(const char *mine)
{
    const hw_tag tag = {.site = HW_SITE_CONTROL};
    char text[HW_ERROR_CAPACITY] = "";
    bool same = true;
    hw_error err;
    char *all = calloc((size_t)n_ranks, sizeof text);
    snprintf(text, sizeof text, "%s", mine);
    must(hw_comm_all_gather(comm, tag, text, sizeof text, all, &err), &err);
    for (int r = 0; r < n_ranks; r++) same &= !strcmp(all + (size_t)r * sizeof text, mine);
    free(all);
    return same;
}

/* ---- capacity from made-up memory */

/* A block takes 2 * 3 * 2 * 4 * 8 * 4 = 1536 bytes. */
static hw_kv_request request_of(uint64_t available)
{
    return (hw_kv_request){.dims = {.n_layers = 3,
                                    .n_kv_heads = 2,
                                    .head_dim = 8,
                                    .block_tokens = BLOCK,
                                    .n_blocks = 100,
                                    .dtype = HW_F32},
                           .min_blocks = 10,
                           .weight_bytes = 5000,
                           .buffer_bytes = 300,
                           .available_bytes = 5300 + available};
}

static void check_capacity(void)
{
    const int last = n_ranks - 1;
    hw_error err = {.rank = -1};
    int n = 0;
    hw_kv_request r = request_of(rank == last ? 20 * 1536 - 1 : 1 << 30);
    must(hw_kv_capacity(&n, comm, HW_OK, &r, &err), &err);
    expect(n == 19, "capacity is not that of the poorest rank", 0);
    r = request_of(1 << 30);
    must(hw_kv_capacity(&n, comm, HW_OK, &r, &err), &err);
    expect(n == 100, "capacity is not what was wanted", 0);
    r = request_of(rank == last ? 9 * 1536 : 1 << 30);
    expect(hw_kv_capacity(&n, comm, HW_OK, &r, &err) == HW_ERR_NO_MEMORY, "too little was enough", 0);
    char said[64];
    snprintf(said, sizeof said, "not enough memory: rank %d needs", last);
    expect(strstr(err.message, said), err.message, 0);
    hw_status failed = rank == last ? hw_fail(&err, HW_ERR_MODEL, "spoiled") : HW_OK;
    r = request_of(1 << 30);
    expect(hw_kv_capacity(&n, comm, failed, &r, &err) == HW_ERR_MODEL, "a failure was not told", 0);
    expect(strstr(err.message, "spoiled"), err.message, 0);
}

/* ---- running out */

static hw_engine *open_engine(const char *folder, hw_kv_policy policy, uint64_t kv_bytes)
{
    hw_engine_options o = hw_engine_defaults();
    hw_engine *e;
    hw_error err;
    o.kv_policy = policy;
    o.block_tokens = BLOCK;
    o.max_seqs = 3;
    o.max_seq_len = BLOCK * N_BLOCKS;
    o.kv_bytes = kv_bytes;
    must(hw_engine_create(&e, comm, folder, &o, &err), &err);
    return e;
}

static void step(hw_engine *e, hw_batch *batch, float *logits)
{
    hw_error err;
    must(hw_engine_step(e, batch, &err), &err);
    if (logits) must(hw_engine_logits(e, batch, logits, &err), &err);
}

/* Tokens whose step never came have no keys in the cache: what follows them must not be computed without. */
static void check_skipped_step(const char *folder)
{
    static const hw_kv_policy policies[] = {HW_KV_PAGED, HW_KV_DYNAMIC, HW_KV_CONTIGUOUS, HW_KV_OFF};
    const int32_t tokens[] = {1, 2, 3};
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        hw_engine *e = open_engine(folder, policies[i], 0);
        hw_sequence *seq;
        hw_batch *batch;
        hw_error err;
        must(hw_sequence_create(&seq, e, 0, &err), &err);
        must(hw_batch_create(&batch, e, &err), &err);
        must(hw_batch_add(batch, seq, tokens, 2, HW_LOGITS_NONE, &err), &err);
        hw_batch_clear(batch);
        hw_status st = hw_batch_add(batch, seq, tokens + 2, 1, HW_LOGITS_LAST, &err);
        expect(st == (policies[i] == HW_KV_OFF ? HW_OK : HW_ERR_INVALID), hw_kv_policy_name(policies[i]), 0);
        hw_batch_destroy(batch);
        hw_sequence_destroy(seq);
        hw_engine_destroy(e);
    }
}

/* Adds tokens first, first + 1, ... until the cache is full. Returns how many went in; the error is in
 * *err. */
static int fill(hw_engine *e, hw_batch *batch, hw_sequence *seq, int32_t first, hw_status *st, hw_error *err)
{
    for (int n = 0;; n++) {
        int32_t token = first + n;
        hw_batch_clear(batch);
        *st = hw_batch_add(batch, seq, &token, 1, HW_LOGITS_LAST, err);
        if (*st) {
            expect(hw_batch_n_rows(batch) == 0 && hw_batch_n_logits(batch) == 0, "the batch was changed", 0);
            return n;
        }
        step(e, batch, NULL);
    }
}

/* Two sequences in a pool of N_BLOCKS: one fills it, is refused, and goes on when the other is gone, with the
 * logits that it has when it is alone in the world. */
static void check_full(const char *folder)
{
    hw_engine *probe = open_engine(folder, HW_KV_PAGED, 0);
    hw_kv_usage u = hw_engine_kv_usage(probe);
    size_t vocab = (size_t)hw_engine_info_get(probe).vocab_size;
    /* Ranks with fewer KV heads could have more blocks for these bytes. */
    uint64_t most = u.bytes_per_token * BLOCK * N_BLOCKS;
    hw_error err;
    must(hw_comm_all_reduce(comm, (hw_tag){.site = HW_SITE_CONTROL}, &most, 1, HW_U64, HW_MAX, &err), &err);
    hw_engine_destroy(probe);

    hw_engine *e = open_engine(folder, HW_KV_PAGED, most);
    hw_sequence *one, *two, *fork;
    hw_batch *batch;
    hw_status st;
    float *want = calloc(vocab, sizeof *want), *got = calloc(vocab, sizeof *got);
    u = hw_engine_kv_usage(e);
    expect(u.n_blocks == N_BLOCKS, "capacity in blocks", 0);
    expect(u.capacity_bytes == u.bytes_per_token * BLOCK * N_BLOCKS, "capacity in bytes", 0);
    must(hw_batch_create(&batch, e, &err), &err);
    must(hw_sequence_create(&one, e, 0, &err), &err);
    must(hw_sequence_create(&two, e, 0, &err), &err);
    const int32_t others[] = {40, 41, 42, 43, 44};
    hw_batch_clear(batch);
    must(hw_batch_add(batch, two, others, 5, HW_LOGITS_NONE, &err), &err);
    expect(hw_sequence_fork(&fork, two, NULL) == HW_ERR_INVALID, "forked before its step", 0);
    step(e, batch, NULL);
    int n = fill(e, batch, one, 1, &st, &err);
    expect(n == (N_BLOCKS - 2) * BLOCK && hw_sequence_n_tokens(one) == n, "tokens until the cache was full",
           0);
    expect(st == HW_ERR_CACHE_FULL && strstr(err.message, "0 of 7 are free"), err.message, 0);
    expect(same_everywhere(err.message), "ranks were told different things", 0);
    u = hw_engine_kv_usage(e);
    expect(u.n_free == 0 && u.used_bytes == u.bytes_per_token * (uint64_t)(n + 5), "used bytes", 0);
    hw_sequence_destroy(two);
    const int32_t next = 30;
    hw_batch_clear(batch);
    must(hw_batch_add(batch, one, &next, 1, HW_LOGITS_LAST, &err), &err);
    step(e, batch, got);
    hw_sequence_destroy(one);
    hw_batch_destroy(batch);
    hw_engine_destroy(e);

    e = open_engine(folder, HW_KV_OFF, 0);
    int32_t all[BLOCK * N_BLOCKS];
    for (int i = 0; i < n; i++) all[i] = 1 + i;
    all[n] = next;
    must(hw_sequence_create(&one, e, 0, &err), &err);
    must(hw_batch_create(&batch, e, &err), &err);
    must(hw_batch_add(batch, one, all, n + 1, HW_LOGITS_LAST, &err), &err);
    step(e, batch, want);
    expect(!memcmp(got, want, vocab * sizeof *got), "logits after the refusal have other bits", 0);
    hw_sequence_destroy(one);
    hw_batch_destroy(batch);
    hw_engine_destroy(e);
    free(want);
    free(got);
}

/* Sequences of a contiguous cache are refused when they are made. */
static void check_contiguous(const char *folder)
{
    hw_engine *e = open_engine(folder, HW_KV_CONTIGUOUS, 0);
    hw_sequence *seqs[4];
    hw_error err;
    for (int i = 0; i < 3; i++) must(hw_sequence_create(&seqs[i], e, 1, &err), &err);
    hw_kv_usage u = hw_engine_kv_usage(e);
    expect(u.wasted_bytes == u.capacity_bytes && u.reserved_bytes == u.capacity_bytes, "reserved up front",
           0);
    expect(hw_sequence_create(&seqs[3], e, 1, &err) == HW_ERR_CACHE_FULL && !seqs[3], "a fourth one was made",
           0);
    for (int i = 0; i < 3; i++) hw_sequence_destroy(seqs[i]);
    hw_engine_destroy(e);
}

int main(int argc, char **argv)
{
    if (argc != 2) return fprintf(stderr, "usage: kv_worker FOLDER\n"), 2;
    start("auto");
    check_capacity();
    check_skipped_step(argv[1]);
    check_full(argv[1]);
    check_contiguous(argv[1]);
    return finish();
}
