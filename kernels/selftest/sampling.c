/* What chooses tokens: integers, and so the same on every device, but for a sum of exponentials. */
#include <math.h>
#include <stdio.h>

#include "kernels/selftest/subject.h"

enum { ROWS = 5, FIRST_ID = 1000, INVALID = 3, MOST_TOKENS = 40, N_SLOTS = 2, SLOT_ROWS = ROWS + 2 };

typedef struct sampling_params {
    int n_vocab, n_valid, k, n_tokens;
    const int32_t *tokens;
    float max, temperature, floor;
    const hw_draw *draws; /* [ROWS], as on the device */
    const int32_t *positions;
} sampling_params;

static const sampling_params *params(const hw_bound *b) { return b->s->own; }

static float *row_of(const hw_bound *b, int array, int r)
{
    return (float *)b->at[array] + (size_t)r * (size_t)params(b)->n_vocab;
}
static uint64_t *results_of(const hw_bound *b, int array, int r)
{
    return (uint64_t *)b->at[array] + (size_t)r * (size_t)params(b)->k;
}

/* ---- each runs rows one by one; arrays: results, logits */

static hw_status row_best(const hw_bound *b, int n)
{
    const sampling_params *p = params(b);
    hw_status st = HW_OK;
    for (int r = 0; r < n && !st; r++)
        st = b->d->k->row_best(b->d, results_of(b, 0, r), row_of(b, 1, r), p->n_vocab, FIRST_ID, p->n_valid,
                               p->k);
    return st;
}

static hw_status row_mass(const hw_bound *b, int n)
{
    const sampling_params *p = params(b);
    hw_status st = HW_OK;
    for (int r = 0; r < n && !st; r++)
        st = b->d->k->row_mass(b->d, results_of(b, 0, r), row_of(b, 1, r), p->n_vocab, FIRST_ID, p->n_valid,
                               p->max, p->temperature);
    return st;
}

static hw_status row_draw(const hw_bound *b, int n)
{
    const sampling_params *p = params(b);
    hw_status st = HW_OK;
    for (int r = 0; r < n && !st; r++)
        st = b->d->k->row_draw(b->d, results_of(b, 0, r), row_of(b, 1, r), p->n_vocab, FIRST_ID, p->n_valid,
                               p->floor, p->temperature, UINT64_C(0x9E3779B97F4A7C15) * (uint64_t)(r + 1),
                               (uint64_t)r);
    return st;
}

/* In place; arrays: logits */
static hw_status penalize(const hw_bound *b, int n)
{
    const sampling_params *p = params(b);
    hw_status st = HW_OK;
    for (int r = 0; r < n && !st; r++)
        st = b->d->k->penalize(b->d, row_of(b, 0, r), p->n_vocab, FIRST_ID, p->tokens, p->n_tokens, 1.1f);
    return st;
}

/* Ties, which go to the lower token, and a best token that is not valid. */
static float *some_logits(hw_selftest *t, int n_vocab)
{
    float *x = hw_selftest_numbers(t, HW_F32, (size_t)ROWS * (size_t)n_vocab, 12);
    for (int r = 0; r < ROWS && x; r++) {
        float *row = x + (size_t)r * (size_t)n_vocab;
        row[n_vocab / 2] = row[n_vocab / 3] = row[n_vocab / 7];
        row[n_vocab - 1] = 99;
    }
    return x;
}

static void check_results(hw_selftest *t, hw_subject_run *run, sampling_params own, double relative,
                          bool timed)
{
    const size_t n = (size_t)ROWS * (size_t)own.n_vocab;
    char shape[32];
    snprintf(shape, sizeof shape, "[%d]", own.n_vocab);
    const float *logits = some_logits(t, own.n_vocab);
    const hw_subject s = {.run = run,
                          .shape = shape,
                          .most_rows = ROWS,
                          .arrays = {{.kind = HW_ARRAY_RESULTS,
                                      .n = (size_t)ROWS * (size_t)own.k,
                                      .out = true,
                                      .row = (size_t)own.k,
                                      .relative = relative},
                                     {.kind = HW_ARRAY_FLOATS, .start = logits, .n = n}},
                          .n_arrays = 2,
                          .exact = relative == 0,
                          .same_bits = relative == 0,
                          .own = &own,
                          .timed = timed};
    hw_selftest_check(t, &s);
}

static void check_penalize(hw_selftest *t, sampling_params own)
{
    const size_t n = (size_t)own.n_vocab;
    int32_t *tokens = hw_selftest_take(t, MOST_TOKENS * sizeof *tokens);
    char shape[32];
    snprintf(shape, sizeof shape, "[%d]", own.n_vocab);
    for (int i = 0; i < MOST_TOKENS && tokens; i++) /* distinct; the first and the last are another rank's */
        tokens[i] = (int32_t)(FIRST_ID - 1 + i * (own.n_vocab + 1) / (MOST_TOKENS - 1));
    own.tokens = tokens, own.n_tokens = own.n_vocab < MOST_TOKENS ? 1 : MOST_TOKENS;
    const float *logits = some_logits(t, own.n_vocab);
    const hw_subject s = {
        .run = penalize,
        .shape = shape,
        .most_rows = ROWS,
        .arrays = {{.kind = HW_ARRAY_FLOATS, .start = logits, .n = ROWS * n, .out = true, .row = n}},
        .n_arrays = 1,
        .exact = true,
        .same_bits = true,
        .own = &own,
        .timed = true};
    hw_selftest_check(t, &s);
}

/* ---- choose_keys: keys, draws, positions, logits */

static hw_status choose_keys(const hw_bound *b, int n)
{
    const hw_fed_rows rows = {.n_rows = n, .keys = b->at[0], .draws = b->at[1], .positions = b->at[2]};
    return b->d->k->device_loop->choose_keys(b->d, &rows, b->at[3], params(b)->n_vocab, FIRST_ID);
}

static hw_status plain_choose_keys(const hw_bound *b, int n)
{
    const sampling_params *p = params(b);
    hw_status st = HW_OK;
    for (int r = 0; r < n && !st; r++) {
        const hw_draw *d = &p->draws[r];
        uint64_t *key = results_of(b, 0, r);
        if (d->temperature == 0)
            st = b->d->k->row_best(b->d, key, row_of(b, 3, r), p->n_vocab, FIRST_ID, d->n_valid, 1);
        else
            st = b->d->k->row_draw(b->d, key, row_of(b, 3, r), p->n_vocab, FIRST_ID, d->n_valid, -INFINITY,
                                   d->temperature, d->seed, (uint64_t)p->positions[r] + 1);
    }
    return st;
}

static void check_choose(hw_selftest *t, sampling_params own)
{
    static const uint64_t nothing[ROWS];
    static const int32_t positions[ROWS] = {0, 11, 12, 4095, 7};
    const hw_draw draws[ROWS] = {{0, own.n_valid, 9},
                                 {0.7f, own.n_valid, 9},
                                 {30, FIRST_ID + 1, UINT64_C(5) << 40},
                                 {1.3f, own.n_valid, 11},
                                 {1, FIRST_ID, 9}}; /* no token of this slice is valid */
    char shape[32];
    snprintf(shape, sizeof shape, "[%d]", own.n_vocab);
    own.draws = draws, own.positions = positions;
    const float *logits = some_logits(t, own.n_vocab);
    const hw_subject s = {
        .run = choose_keys,
        .plain = plain_choose_keys,
        .shape = shape,
        .most_rows = ROWS,
        .arrays = {{.kind = HW_ARRAY_KEYS, .start = nothing, .n = ROWS, .out = true, .row = 1},
                   {.kind = HW_ARRAY_KEYS, .start = draws, .n = sizeof draws / (sizeof(uint64_t))},
                   {.kind = HW_ARRAY_IDS, .start = positions, .n = ROWS},
                   {.kind = HW_ARRAY_FLOATS, .start = logits, .n = (size_t)ROWS * (size_t)own.n_vocab}},
        .n_arrays = 4,
        .exact = true,
        .same_bits = true,
        .own = &own,
        .timed = true};
    hw_selftest_check(t, &s);
}

/* ---- feed_keys: keys, tokens, positions, ring */

static hw_fed_rows fed_rows(const hw_bound *b, int n)
{
    return (hw_fed_rows){.n_rows = n,
                         .vocab_size = params(b)->n_vocab,
                         .keys = b->at[0],
                         .tokens = b->at[1],
                         .positions = b->at[2],
                         .ring = b->at[3],
                         .n_slots = N_SLOTS,
                         .slot_rows = SLOT_ROWS};
}

static hw_status feed_keys(const hw_bound *b, int n)
{
    const hw_fed_rows rows = fed_rows(b, n);
    const hw_device_loop_ops *k = b->d->k->device_loop;
    hw_event *event;
    hw_status st = k->feed_keys(b->d, &rows);
    if (!st) st = k->event_record(b->d, &event);
    return st ? st : k->event_wait(b->d, event, NULL);
}

static hw_status plain_feed_keys(const hw_bound *b, int n)
{
    const hw_fed_rows f = fed_rows(b, n);
    for (int r = 0; r < n; r++) {
        const int32_t token = hw_key_token(f.keys[r]);
        f.ring[f.positions[r] % N_SLOTS * SLOT_ROWS + r] = f.keys[r];
        f.tokens[r] = f.keys[r] && f.keys[r] != HW_KEY_NAN && token >= 0 && token < f.vocab_size ? token : 0;
        f.positions[r]++;
        f.keys[r] = 0;
    }
    return HW_OK;
}

static void check_feed(hw_selftest *t, sampling_params own)
{
    const uint64_t keys[ROWS] = {hw_key(2.5f, own.n_vocab - 1), 0, HW_KEY_NAN, hw_key(1, own.n_vocab),
                                 hw_key(-3, 7)};
    static const int32_t positions[ROWS] = {0, 1, 6, 9, 100}, tokens[ROWS] = {-7, -7, -7, -7, -7};
    const hw_subject s = {
        .run = feed_keys,
        .plain = plain_feed_keys,
        .shape = "[5]",
        .most_rows = ROWS,
        .arrays = {{.kind = HW_ARRAY_KEYS, .start = keys, .n = ROWS, .out = true, .row = 1},
                   {.kind = HW_ARRAY_IDS, .start = tokens, .n = ROWS, .out = true, .row = 1},
                   {.kind = HW_ARRAY_IDS, .start = positions, .n = ROWS, .out = true, .row = 1},
                   {.kind = HW_ARRAY_RESULTS, .n = N_SLOTS * SLOT_ROWS, .out = true}},
        .n_arrays = 4,
        .exact = true,
        .same_bits = true,
        .own = &own,
        .timed = true};
    hw_selftest_check(t, &s);
}

void hw_selftest_sampling(hw_selftest *t)
{
    const int n_vocab = t->shapes.vocab_size;
    sampling_params own = {
        .n_vocab = n_vocab, .n_valid = FIRST_ID + n_vocab - INVALID, .k = 1, .max = 12, .floor = -INFINITY};
    hw_selftest_begin(t, "penalize", "");
    check_penalize(t, own);
    hw_selftest_end(t);
    hw_selftest_begin(t, "row_best", "the best, the 64 best");
    check_results(t, row_best, own, 0, true);
    own.k = 64;
    check_results(t, row_best, own, 0, false);
    own.k = 1;
    hw_selftest_end(t);
    /* exp within 1.1 units in the last place, its argument rounded to float32 twice: at most 5e-6 for terms that hardly
     * count. */
    hw_selftest_begin(t, "row_mass", "");
    own.temperature = 0.7f;
    check_results(t, row_mass, own, 1e-6, true);
    hw_selftest_end(t);
    hw_selftest_begin(t, "row_draw", "");
    check_results(t, row_draw, own, 0, true);
    own.temperature = 30, own.floor = 3;
    check_results(t, row_draw, own, 0, false);
    hw_selftest_end(t);
    if (!t->paths[0].device->k->device_loop) return;
    hw_selftest_begin(t, "choose_keys", "");
    check_choose(t, own);
    hw_selftest_end(t);
    hw_selftest_begin(t, "feed_keys", "");
    check_feed(t, own);
    hw_selftest_end(t);
}
