/* Devices in plug-ins that choose the next token themselves, against row_best and row_draw of the plain loops. */
#include "kernels/plugin.h"
#include "tests/kernels/support.h"

enum { N_ROWS = 5, N_VOCAB = 3001, FIRST = 500, VALID = 3400, WHOLE = 3501, N_SLOTS = 2, SLOT_ROWS = 7 };

static hw_device *open_plugin(void)
{
    hw_device *d;
    hw_error err = {.rank = -1};
    hw_status st = hw_plugin_device_create(&d, plugin_under_test(), (hw_device_place){0, 1}, HW_F32, &err);
    cr_assert_eq(st, HW_OK, "%s", err.message);
    cr_assert(d->k->device_loop);
    return d;
}

static void *there(hw_device *d, const void *host, size_t n_bytes)
{
    void *p;
    hw_error err = {.rank = -1};
    cr_assert_eq(d->k->alloc(d, &p, n_bytes, &err), HW_OK, "%s", err.message);
    cr_assert_eq(d->k->copy_in(d, p, host, n_bytes), HW_OK);
    return p;
}

static void back(hw_device *d, void *host, const void *p, size_t n_bytes)
{
    hw_error err = {.rank = -1};
    cr_assert_eq(d->k->copy_out(d, host, p, n_bytes), HW_OK);
    cr_assert_eq(d->k->synchronize(d, &err), HW_OK, "%s", err.message);
}

/* The rows of a test on the device. */
typedef struct fed {
    hw_device *d;
    hw_fed_rows rows;
    float *logits;
} fed;

static fed put(const uint64_t *keys, const hw_draw *draws, const int32_t *positions, const float *logits)
{
    fed f = {.d = open_plugin()};
    hw_error err = {.rank = -1};
    const int32_t tokens[N_ROWS] = {-7, -7, -7, -7, -7};
    f.rows = (hw_fed_rows){.n_rows = N_ROWS,
                           .vocab_size = WHOLE,
                           .keys = there(f.d, keys, N_ROWS * sizeof *keys),
                           .draws = there(f.d, draws, N_ROWS * sizeof *draws),
                           .tokens = there(f.d, tokens, sizeof tokens),
                           .positions = there(f.d, positions, N_ROWS * sizeof *positions),
                           .n_slots = N_SLOTS,
                           .slot_rows = SLOT_ROWS};
    f.logits = there(f.d, logits, (size_t)N_ROWS * N_VOCAB * sizeof *logits);
    cr_assert_eq(
        f.d->k->host_alloc(f.d, (void **)&f.rows.ring, N_SLOTS * SLOT_ROWS * sizeof *f.rows.ring, &err),
        HW_OK, "%s", err.message);
    return f;
}

static void drop(fed *f)
{
    f->d->k->free(f->d, f->rows.keys);
    f->d->k->free(f->d, (void *)(uintptr_t)f->rows.draws);
    f->d->k->free(f->d, f->rows.tokens);
    f->d->k->free(f->d, f->rows.positions);
    f->d->k->free(f->d, f->logits);
    f->d->k->host_free(f->d, f->rows.ring);
    hw_device_destroy(f->d);
}

/* Greedy and drawn rows side by side, each with a slice of its own that is valid. */
Test(choose_keys, gives_the_keys_of_row_best_and_row_draw)
{
    static const uint64_t nothing[N_ROWS] = {0};
    static const int32_t positions[N_ROWS] = {0, 11, 12, 4095, 7};
    const hw_draw draws[N_ROWS] = {{0, VALID, 9},
                                   {0.7f, VALID, 9},
                                   {30, FIRST + 1, UINT64_C(5) << 40},
                                   {1.3f, WHOLE, 11},
                                   {1, FIRST, 9}};
    hw_device *reference = open_reference();
    float *logits = noise_array((size_t)N_ROWS * N_VOCAB, 71);
    uint64_t got[N_ROWS], want;
    logits[N_VOCAB - 2] = 99; /* of row 0; not valid */
    fed f = put(nothing, draws, positions, logits);
    cr_assert_eq(f.d->k->device_loop->choose_keys(f.d, &f.rows, f.logits, N_VOCAB, FIRST), HW_OK);
    back(f.d, got, f.rows.keys, sizeof got);
    for (int r = 0; r < N_ROWS; r++) {
        const float *row = logits + (size_t)r * N_VOCAB;
        if (draws[r].temperature == 0)
            reference->k->row_best(reference, &want, row, N_VOCAB, FIRST, draws[r].n_valid, 1);
        else
            reference->k->row_draw(reference, &want, row, N_VOCAB, FIRST, draws[r].n_valid, -INFINITY,
                                   draws[r].temperature, draws[r].seed, (uint64_t)positions[r] + 1);
        cr_expect_eq(got[r], want, "row %d: token %d, want %d", r, hw_key_token(got[r]), hw_key_token(want));
    }
    cr_expect_eq(got[4], 0, "no token of this slice is valid");
    free(logits);
    drop(&f);
    hw_device_destroy(reference);
}

/* A NaN outranks everything, and a key that was there before outranks logits. */
Test(choose_keys, keeps_what_ranks_higher)
{
    const uint64_t before[N_ROWS] = {UINT64_MAX - 1, UINT64_MAX - 1, 0, 1, hw_key(1e30f, 3)};
    const hw_draw draws[N_ROWS] = {{0, WHOLE, 0}, {0, WHOLE, 0}, {1, WHOLE, 0}, {0, WHOLE, 0}, {0, WHOLE, 0}};
    static const int32_t positions[N_ROWS] = {0};
    float *logits = calloc((size_t)N_ROWS * N_VOCAB, sizeof *logits);
    uint64_t got[N_ROWS];
    cr_assert_not_null(logits);
    logits[N_VOCAB + 1234] = logits[2 * N_VOCAB + N_VOCAB - 1] = NAN;
    fed f = put(before, draws, positions, logits);
    cr_assert_eq(f.d->k->device_loop->choose_keys(f.d, &f.rows, f.logits, N_VOCAB, FIRST), HW_OK);
    back(f.d, got, f.rows.keys, sizeof got);
    const uint64_t want[N_ROWS] = {before[0], HW_KEY_NAN, HW_KEY_NAN, hw_key(0, FIRST), before[4]};
    for (int r = 0; r < N_ROWS; r++) cr_expect_eq(got[r], want[r], "row %d", r);
    free(logits);
    drop(&f);
}

/* Whatever a key says, the next step looks up a token that there is. */
Test(feed_keys, hands_tokens_on_and_keeps_keys_for_the_host)
{
    const uint64_t keys[N_ROWS] = {hw_key(2.5f, 3500), 0, HW_KEY_NAN, hw_key(1, WHOLE), hw_key(-INFINITY, 0)};
    static const int32_t want[N_ROWS] = {3500, 0, 0, 0, 0}, positions[N_ROWS] = {0, 1, 6, 9, 100};
    static const hw_draw draws[N_ROWS];
    int32_t tokens[N_ROWS], next[N_ROWS];
    uint64_t left[N_ROWS];
    hw_event *event;
    hw_error err = {.rank = -1};
    float *logits = calloc((size_t)N_ROWS * N_VOCAB, sizeof *logits);
    fed f = put(keys, draws, positions, logits);
    cr_assert_eq(f.d->k->device_loop->feed_keys(f.d, &f.rows), HW_OK);
    cr_assert_eq(f.d->k->device_loop->event_record(f.d, &event), HW_OK);
    cr_assert_eq(f.d->k->device_loop->event_wait(f.d, event, &err), HW_OK, "%s", err.message);
    for (int r = 0; r < N_ROWS; r++)
        cr_expect_eq(f.rows.ring[positions[r] % N_SLOTS * SLOT_ROWS + r], keys[r], "row %d", r);
    back(f.d, tokens, f.rows.tokens, sizeof tokens);
    back(f.d, next, f.rows.positions, sizeof next);
    back(f.d, left, f.rows.keys, sizeof left);
    for (int r = 0; r < N_ROWS; r++) {
        cr_expect_eq(tokens[r], want[r], "row %d: token %d", r, tokens[r]);
        cr_expect_eq(next[r], positions[r] + 1);
        cr_expect_eq(left[r], 0);
    }
    free(logits);
    drop(&f);
}

/* Two steps in the stream: what is before the first event is there, and the second need not have begun. */
Test(event, waits_for_what_is_before_it)
{
    static const uint64_t nothing[N_ROWS];
    static const int32_t positions[N_ROWS] = {40, 41, 42, 43, 44};
    const hw_draw draws[N_ROWS] = {{0, WHOLE, 0}, {0, WHOLE, 0}, {0, WHOLE, 0}, {0, WHOLE, 0}, {0, WHOLE, 0}};
    float *logits = noise_array((size_t)N_ROWS * N_VOCAB, 72);
    hw_event *events[2];
    hw_error err = {.rank = -1};
    fed f = put(nothing, draws, positions, logits);
    for (int step = 0; step < 2; step++) {
        cr_assert_eq(f.d->k->device_loop->choose_keys(f.d, &f.rows, f.logits, N_VOCAB, FIRST), HW_OK);
        cr_assert_eq(f.d->k->device_loop->feed_keys(f.d, &f.rows), HW_OK);
        cr_assert_eq(f.d->k->device_loop->event_record(f.d, &events[step]), HW_OK);
    }
    cr_assert_neq(events[0], events[1]);
    for (int step = 0; step < 2; step++) {
        cr_assert_eq(f.d->k->device_loop->event_wait(f.d, events[step], &err), HW_OK, "%s", err.message);
        for (int r = 0; r < N_ROWS; r++) {
            const uint64_t key = f.rows.ring[(positions[r] + step) % N_SLOTS * SLOT_ROWS + r];
            cr_expect(key != 0 && hw_key_logit(key) == logits[r * N_VOCAB + hw_key_token(key) - FIRST],
                      "row %d", r);
        }
    }
    free(logits);
    drop(&f);
}
