/* The cache's book-keeping against a naive model that keeps a copy of every sequence's content for itself. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/kv/cache.h"

enum { N_LAYERS = 2, N_KV_HEADS = 3, HEAD_DIM = 2, MAX_TOKENS = 40, MAX_LIVE = 6 };

/* A sequence as the model sees it: its tokens. What the cache has to hold for them follows from them. */
typedef struct model {
    bool live;
    hw_kv_table table;
    int32_t tokens[MAX_TOKENS];
    int n;
} model;

typedef struct world {
    hw_device *device;
    hw_kv_cache *kv;
    hw_kv_policy policy;
    hw_kv_shape shape;
    model seqs[MAX_LIVE];
    uint64_t random;
    int n_found, n_refused, n_forks;
} world;

static int draw(world *w, int n)
{
    w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int)((w->random >> 33) % (uint64_t)n);
}

/* What a model that hashes its whole past would leave at a position: different wherever any token up to there
 * differs. */
static float content(const int32_t *tokens, int pos, int layer, int is_value, int head, int i)
{
    uint32_t h = 2166136261u;
    for (int p = 0; p <= pos; p++) h = (h ^ (uint32_t)tokens[p]) * 16777619u;
    h = (h ^ (uint32_t)(layer * 1000 + is_value * 100 + head * 10 + i)) * 16777619u;
    return (float)(h >> 8);
}

/* Where a number lies, by the layout in cache.h. */
static float *cell(const world *w, const model *m, int pos, int layer, int is_value, int head, int i)
{
    hw_kv_layer l = hw_kv_cache_layer(w->kv, layer);
    int size = w->shape.block_tokens, block = m->table.blocks[pos / size];
    cr_assert(block >= 0 && block < hw_kv_cache_dims(w->kv).n_blocks);
    return (float *)l.data + (((block * 2 + is_value) * N_KV_HEADS + head) * size + pos % size) * HEAD_DIM +
           i;
}

#define FOR_CELLS                                                                                            \
    for (int layer = 0; layer < N_LAYERS; layer++)                                                           \
        for (int v = 0; v < 2; v++)                                                                          \
            for (int head = 0; head < N_KV_HEADS; head++)                                                    \
                for (int i = 0; i < HEAD_DIM; i++)

static void assert_content(const world *w)
{
    for (int s = 0; s < MAX_LIVE; s++)
        for (int pos = 0; w->seqs[s].live && pos < w->seqs[s].n; pos++) FOR_CELLS
    cr_assert_eq(*cell(w, &w->seqs[s], pos, layer, v, head, i),
                 content(w->seqs[s].tokens, pos, layer, v, head, i),
                 "sequence %d, position %d, layer %d: not what was written", s, pos, layer);
}

/* Every figure of the usage from the tables alone. */
static void assert_usage(const world *w)
{
    static int holders[1024], filled[1024];
    const hw_kv_usage u = hw_kv_cache_usage(w->kv);
    const int size = w->shape.block_tokens;
    uint64_t token = 2 * N_LAYERS * N_KV_HEADS * HEAD_DIM * sizeof(float), held = 0, used = 0, shared = 0;
    memset(holders, 0, sizeof holders);
    memset(filled, 0, sizeof filled);
    for (int s = 0; s < MAX_LIVE; s++) {
        const model *m = &w->seqs[s];
        for (int b = 0; m->live && b < m->table.n_blocks; b++) {
            int left = m->n - b * size, in = left < 0 ? 0 : left < size ? left : size;
            holders[m->table.blocks[b]]++;
            if (in > filled[m->table.blocks[b]]) filled[m->table.blocks[b]] = in;
        }
    }
    for (int b = 0; b < u.n_blocks; b++) {
        held += holders[b] > 0;
        used += (uint64_t)filled[b] * token;
        shared += holders[b] > 1 ? (uint64_t)(holders[b] - 1) * token * (uint64_t)size : 0;
        if (w->policy != HW_KV_PAGED) cr_assert_leq(holders[b], 1, "block %d is shared", b);
    }
    cr_assert_eq(u.bytes_per_token, token);
    cr_assert_eq((uint64_t)(u.n_blocks - u.n_free - u.n_cached), held,
                 "blocks lost or found: %d free, %d cached", u.n_free, u.n_cached);
    cr_assert_eq(u.reserved_bytes, held * token * (uint64_t)size);
    cr_assert_eq(u.used_bytes, used);
    cr_assert_eq(u.wasted_bytes, u.reserved_bytes - used);
    cr_assert_eq(u.shared_bytes, shared);
    cr_assert_geq(u.peak_bytes, u.reserved_bytes);
}

static world make_world(hw_kv_policy policy, int block_tokens, int n_blocks, uint64_t seed)
{
    world w = {.policy = policy, .random = seed};
    hw_error err = {.rank = -1};
    w.shape = hw_kv_shape_of(policy, block_tokens, MAX_TOKENS, 3);
    hw_kv_dims dims = {
        N_LAYERS, N_KV_HEADS, HEAD_DIM, w.shape.block_tokens, n_blocks ? n_blocks : w.shape.n_blocks, HW_F32};
    cr_assert_eq(hw_reference_device_create(&w.device, &err), HW_OK);
    cr_assert_eq(hw_kv_cache_create(&w.kv, w.device, policy, dims, w.shape.seq_blocks, true, &err), HW_OK,
                 "%s", err.message);
    return w;
}

static void end_world(world *w)
{
    for (int s = 0; s < MAX_LIVE; s++) hw_kv_release(w->kv, &w->seqs[s].table);
    hw_kv_usage u = hw_kv_cache_usage(w->kv);
    cr_assert_eq(u.n_free + u.n_cached, u.n_blocks);
    cr_assert_eq(u.reserved_bytes, 0);
    hw_kv_cache_destroy(w->kv);
    hw_device_destroy(w->device);
}

/* Appends as a step does: look up, make room, write what was not found, publish. */
static hw_status append(world *w, model *m, const int32_t *tokens, int n, hw_error *err)
{
    int first;
    memcpy(m->tokens + m->n, tokens, (size_t)n * sizeof *tokens);
    first = hw_kv_lookup(w->kv, &m->table, m->tokens, m->n, m->n + n, m->n + n - 1);
    cr_assert(first >= m->n && first < m->n + n);
    hw_status st = hw_kv_extend(w->kv, &m->table, m->tokens, first, m->n + n, err);
    if (st) return st;
    w->n_found += first - m->n;
    m->n += n;
    for (int pos = first; pos < m->n; pos++)
        FOR_CELLS *cell(w, m, pos, layer, v, head, i) = content(m->tokens, pos, layer, v, head, i);
    hw_kv_publish(w->kv, &m->table, m->tokens, m->n);
    return HW_OK;
}

/* Two ids and few lengths, so that prefixes meet all the time. */
static void random_append(world *w, model *m)
{
    int32_t tokens[MAX_TOKENS];
    hw_error err = {.rank = -1};
    hw_kv_usage before = hw_kv_cache_usage(w->kv);
    int n = 1 + draw(w, m->n ? 5 : 20);
    if (n > MAX_TOKENS - m->n) n = MAX_TOKENS - m->n;
    if (!n) return;
    for (int i = 0; i < n; i++) tokens[i] = draw(w, 8) == 0;
    if (append(w, m, tokens, n, &err) == HW_OK) return;
    hw_kv_usage after = hw_kv_cache_usage(w->kv);
    cr_assert(strstr(err.message, " of "), "no numbers: %s", err.message);
    cr_assert(after.n_free == before.n_free && after.n_cached == before.n_cached &&
                  after.used_bytes == before.used_bytes && after.shared_bytes == before.shared_bytes &&
                  after.copied_bytes == before.copied_bytes && after.peak_bytes == before.peak_bytes,
              "a refusal changed the cache");
    w->n_refused++;
}

static void random_fork(world *w, model *to, const model *from)
{
    hw_error err;
    if (hw_kv_fork(w->kv, &to->table, &from->table, &err) != HW_OK) {
        w->n_refused++;
        return;
    }
    to->live = true;
    to->n = from->n;
    memcpy(to->tokens, from->tokens, sizeof to->tokens);
    w->n_forks++;
}

static void random_operation(world *w)
{
    hw_error err;
    model *m = &w->seqs[draw(w, MAX_LIVE)], *other = &w->seqs[draw(w, MAX_LIVE)];
    int what = draw(w, 10);
    if (!m->live && other->live && what < 4) {
        random_fork(w, m, other);
    } else if (!m->live) {
        m->n = 0;
        m->live = hw_kv_open(w->kv, &m->table, &err) == HW_OK;
    } else if (what < 8) {
        random_append(w, m);
    } else {
        hw_kv_release(w->kv, &m->table);
        m->live = false;
    }
}

static void run_random(hw_kv_policy policy, int block_tokens, int n_blocks, int n_operations)
{
    world w = make_world(policy, block_tokens, n_blocks, 77 + (uint64_t)block_tokens);
    for (int i = 0; i < n_operations; i++) {
        random_operation(&w);
        assert_usage(&w);
        if (i % 4 == 0) assert_content(&w);
    }
    cr_assert_gt(w.n_forks, n_operations / 100);
    cr_assert_gt(w.n_refused, n_operations / 100, "the pool never ran out");
    if (policy == HW_KV_PAGED) cr_assert_gt(w.n_found, 1000, "no prefix was ever found");
    end_world(&w);
}

Test(kv_cache, paged_keeps_every_content_through_10000_random_operations)
{
    run_random(HW_KV_PAGED, 4, 24, 10000);
    run_random(HW_KV_PAGED, 1, 70, 5000);
    run_random(HW_KV_PAGED, 3, 0, 5000);
}

Test(kv_cache, contiguous_keeps_every_content) { run_random(HW_KV_CONTIGUOUS, 4, 0, 5000); }

Test(kv_cache, dynamic_keeps_every_content) { run_random(HW_KV_DYNAMIC, 4, 0, 5000); }

/* ---- bytes, by hand */

/* 2 (K and V) * 32 layers * 4096 wide * 2048 tokens * 32 sequences * 4 bytes. */
Test(kv_bytes, of_32_sequences_of_2048_tokens_are_64_gib)
{
    hw_kv_shape s = hw_kv_shape_of(HW_KV_PAGED, 16, 2048, 32);
    cr_assert_eq(s.seq_blocks, 128);
    cr_assert_eq(s.n_blocks, 32 * 128);
    cr_assert_eq(hw_kv_bytes((hw_kv_dims){32, 32, 128, 16, s.n_blocks, HW_F32}), (size_t)64 << 30);
    cr_assert_eq(hw_kv_bytes((hw_kv_dims){32, 32, 128, 16, s.n_blocks, HW_BF16}), (size_t)32 << 30);
    cr_assert_eq(hw_kv_bytes((hw_kv_dims){1 << 20, 1 << 20, 1 << 20, 1024, 1 << 30, HW_F32}), SIZE_MAX);
}

/* One token takes 2 * 2 * 3 * 2 * 4 = 96 bytes. Ten tokens: paged in blocks of 4 takes 12 places, contiguous
 * 40, dynamic 16 (4, then 8, then 16). */
Test(kv_usage, is_what_each_policy_takes_for_ten_tokens)
{
    static const struct {
        hw_kv_policy policy;
        int places, first_copied, all_copied;
    } cases[] = {{HW_KV_PAGED, 12, 0, 0},
                 {HW_KV_OFF, 12, 0, 0},
                 {HW_KV_CONTIGUOUS, 40, 0, 0},
                 {HW_KV_DYNAMIC, 16, 4, 12}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        world w = make_world(cases[c].policy, 4, 0, 1);
        model *m = &w.seqs[0];
        hw_error err;
        cr_assert_eq(hw_kv_open(w.kv, &m->table, &err), HW_OK);
        cr_assert_eq(hw_kv_cache_usage(w.kv).reserved_bytes, w.policy == HW_KV_CONTIGUOUS ? 40 * 96 : 0);
        m->live = true;
        for (int32_t t = 0; t < 10; t++) {
            cr_assert_eq(append(&w, m, &t, 1, &err), HW_OK);
            if (t == 4)
                cr_assert_eq(hw_kv_cache_usage(w.kv).copied_bytes, (uint64_t)cases[c].first_copied * 96);
        }
        hw_kv_usage u = hw_kv_cache_usage(w.kv);
        cr_assert_eq(u.reserved_bytes, (uint64_t)cases[c].places * 96);
        cr_assert_eq(u.used_bytes, 960);
        cr_assert_eq(u.wasted_bytes, u.reserved_bytes - 960);
        cr_assert_eq(u.copied_bytes, (uint64_t)cases[c].all_copied * 96);
        cr_assert_eq(u.capacity_bytes, 40 * 96 * (w.policy == HW_KV_DYNAMIC ? 4 : 3));
        assert_content(&w);
        end_world(&w);
    }
}

/* ---- sharing */

static const int32_t eleven[] = {7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17};

static void start(world *w, model *m, const int32_t *tokens, int n)
{
    hw_error err = {.rank = -1};
    *m = (model){.live = true};
    cr_assert_eq(hw_kv_open(w->kv, &m->table, &err), HW_OK);
    cr_assert_eq(append(w, m, tokens, n, &err), HW_OK, "%s", err.message);
}

Test(kv_sharing, serves_an_equal_prefix_during_and_after_the_first_sequence)
{
    world w = make_world(HW_KV_PAGED, 4, 0, 1);
    start(&w, &w.seqs[0], eleven, 11);
    start(&w, &w.seqs[1], eleven, 11);
    cr_assert_eq(w.n_found, 8);
    cr_assert_eq(w.seqs[1].table.blocks[1], w.seqs[0].table.blocks[1]);
    cr_assert_neq(w.seqs[1].table.blocks[2], w.seqs[0].table.blocks[2]);
    cr_assert_eq(hw_kv_cache_usage(w.kv).shared_bytes, 8 * 96);
    hw_kv_release(w.kv, &w.seqs[0].table), w.seqs[0].live = false;
    hw_kv_release(w.kv, &w.seqs[1].table), w.seqs[1].live = false;
    cr_assert_eq(hw_kv_cache_usage(w.kv).n_cached, 2);
    start(&w, &w.seqs[2], eleven, 9);
    cr_assert_eq(w.n_found, 16);
    assert_content(&w);
    end_world(&w);
}

/* The block is found, and copied, because its last token has to run for its logits. */
Test(kv_sharing, copies_the_last_block_of_a_prompt_that_ends_with_it)
{
    world w = make_world(HW_KV_PAGED, 4, 0, 1);
    start(&w, &w.seqs[0], eleven, 8);
    start(&w, &w.seqs[1], eleven, 8);
    cr_assert_eq(w.n_found, 7);
    cr_assert_eq(w.seqs[1].table.blocks[0], w.seqs[0].table.blocks[0]);
    cr_assert_neq(w.seqs[1].table.blocks[1], w.seqs[0].table.blocks[1]);
    cr_assert_eq(hw_kv_cache_usage(w.kv).copied_bytes, 4 * 96);
    assert_content(&w);
    end_world(&w);
}

/* A pool of one sequence: the copy has no place beside the block, which is therefore computed and not
 * found. */
Test(kv_sharing, never_makes_a_sequence_fail_that_fits_without_it)
{
    world w = make_world(HW_KV_PAGED, 4, 2, 1);
    start(&w, &w.seqs[0], eleven, 8);
    hw_kv_release(w.kv, &w.seqs[0].table), w.seqs[0].live = false;
    start(&w, &w.seqs[1], eleven, 8);
    cr_assert_eq(w.n_found, 4);
    assert_content(&w);
    end_world(&w);
}

/* Equal tokens after another beginning are another block. */
Test(kv_sharing, needs_all_tokens_from_the_start_to_be_equal)
{
    const int32_t other[] = {6, 8, 9, 10, 11, 12, 13, 14, 15};
    world w = make_world(HW_KV_PAGED, 4, 0, 1);
    start(&w, &w.seqs[0], eleven, 9);
    start(&w, &w.seqs[1], other, 9);
    cr_assert_eq(w.n_found, 0);
    end_world(&w);
}

Test(kv_sharing, gives_up_the_oldest_cached_block_first_and_its_tail_before_its_head)
{
    world w = make_world(HW_KV_PAGED, 4, 4, 1);
    const int32_t other[] = {1, 2, 3, 4, 5, 6, 7, 8};
    start(&w, &w.seqs[0], eleven, 8);
    hw_kv_release(w.kv, &w.seqs[0].table), w.seqs[0].live = false;
    start(&w, &w.seqs[1], other, 8);
    hw_kv_release(w.kv, &w.seqs[1].table), w.seqs[1].live = false;
    const int32_t third[] = {9, 9, 9};
    start(&w, &w.seqs[2], third, 3); /* takes the second block of the first sequence */
    start(&w, &w.seqs[3], eleven, 8);
    cr_assert_eq(w.n_found, 4);
    end_world(&w);
}

/* ---- running out */

Test(kv_cache, refuses_with_the_numbers_and_changes_nothing)
{
    world w = make_world(HW_KV_PAGED, 4, 3, 1);
    model other = {.n = 0};
    hw_error err = {.rank = -1};
    start(&w, &w.seqs[0], eleven, 6);
    other.live = true;
    cr_assert_eq(append(&w, &other, eleven + 1, 9, &err), HW_ERR_CACHE_FULL);
    cr_assert_str_eq(err.message,
                     "KV cache: 3 more blocks of 4 tokens are needed for a sequence of 9 tokens, 1 "
                     "of 3 are free; run fewer sequences, or raise --kv-cache-memory");
    cr_assert_eq(other.table.n_blocks, 0);
    hw_kv_release(w.kv, &other.table);
    end_world(&w);
}

Test(kv_cache, dynamic_says_that_free_blocks_are_scattered)
{
    world w = make_world(HW_KV_DYNAMIC, 4, 10, 1); /* one slot: 10 blocks of 4 */
    hw_error err = {.rank = -1};
    for (int i = 0; i < 4; i++) start(&w, &w.seqs[i], eleven, 8);
    hw_kv_release(w.kv, &w.seqs[0].table), w.seqs[0].live = false;
    hw_kv_release(w.kv, &w.seqs[2].table), w.seqs[2].live = false;
    cr_assert_eq(append(&w, &w.seqs[1], eleven, 1, &err), HW_ERR_CACHE_FULL);
    cr_assert(strstr(err.message,
                     "4 neighbouring blocks of 4 tokens are needed for a sequence of 9 tokens, 6 of "
                     "10 are free and the longest run of them is 2"),
              "%s", err.message);
    assert_content(&w);
    end_world(&w);
}

/* n sequences and n + 1 slots: whatever the order in which they grow, none is refused. */
Test(kv_cache, dynamic_never_refuses_as_many_sequences_as_it_was_made_for)
{
    world w = make_world(HW_KV_DYNAMIC, 4, 0, 5);
    hw_error err = {.rank = -1};
    for (int round = 0; round < 3000; round++) {
        model *m = &w.seqs[draw(&w, 3)];
        int n = 1 + draw(&w, 12);
        m->live = true;
        if (n > MAX_TOKENS - m->n) {
            hw_kv_release(w.kv, &m->table);
            m->n = 0;
        }
        cr_assert_eq(append(&w, m, eleven, n < 11 ? n : 11, &err), HW_OK, "%s", err.message);
    }
    assert_content(&w);
    end_world(&w);
}
