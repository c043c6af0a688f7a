#include "tests/kernels/support.h"

/* Known answers of Random123's kat_vectors for philox4x32-10. */
Test(philox, gives_the_known_answers)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < 3; i++) {
        uint32_t got[4];
        hw_philox4x32(got, known[i].counter, known[i].key);
        for (int k = 0; k < 4; k++) cr_assert_eq(got[k], known[i].want[k]);
    }
}

/* The mean of a Gumbel variable is Euler's constant, its variance pi^2 / 6: 0.0041 is the standard error of
 * 100000 draws. */
Test(gumbel, has_the_right_mean)
{
    double sum = 0;
    for (uint32_t t = 0; t < 100000; t++) sum += (double)hw_gumbel(42, 7, t);
    cr_assert_float_eq(sum / 100000, 0.5772, 4 * 0.0041);
}

Test(key, orders_by_logit_then_by_lower_token)
{
    const float ascending[] = {-INFINITY, -3e38f, -1, -1e-45f, 0, 1e-45f, 1, 3e38f, INFINITY};
    for (int i = 0; i < 8; i++) cr_assert_lt(hw_key(ascending[i], 0), hw_key(ascending[i + 1], 100000));
    cr_assert_gt(hw_key(1, 3), hw_key(1, 4));
    cr_assert_eq(hw_key(-0.0f, 5), hw_key(0.0f, 5));
    cr_assert_eq(hw_key(NAN, 5), HW_KEY_NAN);
    cr_assert_eq(hw_key_token(hw_key(-2.5f, 12345)), 12345);
    cr_assert_eq(hw_key_logit(hw_key(-2.5f, 12345)), -2.5f);
    cr_assert_gt(hw_key(-INFINITY, 2000000000), 0);
}

enum { VOCAB = 5003, FIRST = 1000, VALID = 5990 };

static float *logits(void)
{
    float *row = noise_array(VOCAB, 31);
    for (int i = 0; i < VOCAB; i++) row[i] *= 4;
    row[17] = row[4000]; /* ties */
    row[2000] = row[2001] = 12.5f;
    row[VOCAB - 1] = 99; /* not valid */
    return row;
}

Test(row_best, agrees_with_a_plain_sort)
{
    static const int ks[] = {1, 2, 3, 64, 1000, 6000};
    hw_device *reference = open_reference();
    devices all = open_devices();
    float *row = logits();
    uint64_t *want = malloc(6000 * 8), *got = malloc(6000 * 8);
    for (size_t c = 0; c < sizeof ks / sizeof *ks; c++) {
        reference->k->row_best(reference, want, row, VOCAB, FIRST, VALID, ks[c]);
        cr_assert_eq(want[0], hw_key(12.5f, FIRST + 2000));
        if (ks[c] > 1) cr_assert_eq(want[1], hw_key(12.5f, FIRST + 2001));
        for (int i = 0; i < all.n; i++) {
            hw_device *d = all.at[i];
            d->k->row_best(d, got, row, VOCAB, FIRST, VALID, ks[c]);
            for (int k = 0; k < ks[c]; k++) cr_assert_eq(got[k], want[k], "k %d of %d", k, ks[c]);
        }
    }
    cr_assert_eq(got[4990], 0, "only the valid tokens are there");
    free(row), free(want), free(got);
    close_devices(&all);
    hw_device_destroy(reference);
}

Test(row_best, puts_nan_first_and_knows_empty_slices)
{
    hw_device *reference = open_reference();
    devices all = open_devices();
    for (int i = -1; i < all.n; i++) {
        hw_device *d = i < 0 ? reference : all.at[i];
        float row[40] = {[3] = 5, [37] = NAN};
        uint64_t keys[2];
        d->k->row_best(d, keys, row, 40, 0, 40, 2);
        cr_assert_eq(keys[0], HW_KEY_NAN);
        cr_assert_eq(keys[1], hw_key(5, 3));
        d->k->row_best(d, keys, row, 40, 0, 37, 1);
        cr_assert_eq(keys[0], hw_key(5, 3), "a NaN that is not valid does not count");
        d->k->row_best(d, keys, row, 40, 50, 37, 2);
        cr_assert(keys[0] == 0 && keys[1] == 0);
        d->k->row_best(d, keys, row, 0, 0, 37, 2);
        cr_assert(keys[0] == 0 && keys[1] == 0);
    }
    close_devices(&all);
    hw_device_destroy(reference);
}

/* By hand: exp(0) + exp(-ln 2) = 1.5, at temperature 1, and 1 + 1/sqrt(2) at temperature 2. */
Test(row_mass, adds_in_fixed_point)
{
    hw_device *reference = open_reference();
    devices all = open_devices();
    float *row = logits();
    uint64_t plain = 0;
    for (int i = -1; i < all.n; i++) {
        hw_device *d = i < 0 ? reference : all.at[i];
        const float two[2] = {3, 3 - 0.69314718f};
        uint64_t mass;
        d->k->row_mass(d, &mass, two, 2, 0, 2, 3, 1);
        cr_assert_float_eq((double)mass / HW_MASS_ONE, 1.5, 3e-7);
        d->k->row_mass(d, &mass, two, 2, 0, 2, 3, 2);
        cr_assert_float_eq((double)mass / HW_MASS_ONE, 1.70710678, 3e-7);
        d->k->row_mass(d, &mass, row, VOCAB, FIRST, VALID, 12.5f, 0.7f);
        if (i == 0) plain = mass;
        if (i >= 0) cr_assert_eq(mass, plain, "%s", hw_device_description(d));
    }
    uint64_t want;
    reference->k->row_mass(reference, &want, row, VOCAB, FIRST, VALID, 12.5f, 0.7f);
    /* exp within 1.1 ulp, its argument (up to 35) rounded to float32 twice: at most 5e-6 for terms that
     * hardly count. */
    cr_assert_float_eq((double)plain / (double)want, 1, 1e-6);
    free(row);
    close_devices(&all);
    hw_device_destroy(reference);
}

/* The slice may be cut anywhere: integers add up. */
Test(row_mass, does_not_depend_on_how_the_vocabulary_is_cut)
{
    devices all = open_devices();
    hw_device *d = all.at[all.n - 1];
    float *row = logits();
    uint64_t whole, left, right;
    d->k->row_mass(d, &whole, row, VOCAB, FIRST, VALID, 12.5f, 1.3f);
    d->k->row_mass(d, &left, row, 777, FIRST, VALID, 12.5f, 1.3f);
    d->k->row_mass(d, &right, row + 777, VOCAB - 777, FIRST + 777, VALID, 12.5f, 1.3f);
    cr_assert_eq(left + right, whole);
    free(row);
    close_devices(&all);
}

Test(row_draw, takes_the_token_that_the_plain_loop_takes)
{
    hw_device *reference = open_reference();
    devices all = open_devices();
    float *row = logits();
    const float floors[] = {-INFINITY, 3, 12.5f, 1000}, temperatures[] = {0.05f, 1, 30};
    for (uint64_t step = 0; step < 40; step++)
        for (int f = 0; f < 4; f++) {
            float temperature = temperatures[step % 3];
            uint64_t want, got;
            uint64_t seed = step * UINT64_C(0x9E3779B97F4A7C15);
            reference->k->row_draw(reference, &want, row, VOCAB, FIRST, VALID, floors[f], temperature, seed,
                                   step);
            if (f == 3) cr_assert_eq(want, 0);
            for (int i = 0; i < all.n; i += 3) {
                hw_device *d = all.at[i];
                d->k->row_draw(d, &got, row, VOCAB, FIRST, VALID, floors[f], temperature, seed, step);
                cr_assert_eq(got, want, "%s: token %d, want %d", hw_device_description(d), hw_key_token(got),
                             hw_key_token(want));
            }
        }
    free(row);
    close_devices(&all);
    hw_device_destroy(reference);
}

/* Three tokens of probability 1/2, 1/3, 1/6 over 20000 draws: 4 standard errors are below 0.015. */
Test(row_draw, draws_in_proportion)
{
    devices all = open_devices();
    hw_device *d = all.at[all.n - 1];
    const float row[4] = {2 * logf(3), 2 * logf(2), 0, 100}; /* at temperature 2; the last is not valid */
    int count[3] = {0};
    for (uint64_t step = 0; step < 20000; step++) {
        uint64_t key;
        d->k->row_draw(d, &key, row, 4, 0, 3, -INFINITY, 2, 99, step);
        count[hw_key_token(key)]++;
    }
    cr_assert_float_eq(count[0] / 20000.0, 1.0 / 2, 0.015);
    cr_assert_float_eq(count[1] / 20000.0, 1.0 / 3, 0.015);
    cr_assert_float_eq(count[2] / 20000.0, 1.0 / 6, 0.015);
    close_devices(&all);
}

/* By hand. */
Test(penalize, divides_what_is_positive_and_multiplies_the_rest)
{
    hw_device *reference = open_reference();
    devices all = open_devices();
    for (int i = -1; i < all.n; i++) {
        hw_device *d = i < 0 ? reference : all.at[i];
        float row[4] = {4, -4, 1, 0};
        const int32_t tokens[] = {10, 11, 9, 14, 13, 2000000000, -5};
        d->k->penalize(d, row, 4, 10, tokens, 7, 2.0f);
        assert_same_bits(row, (const float[]){2, -8, 1, 0}, sizeof row, "penalized");
    }
    close_devices(&all);
    hw_device_destroy(reference);
}

Test(row_draw, tells_of_a_logit_that_is_not_a_number)
{
    hw_device *reference = open_reference();
    devices all = open_devices();
    for (int i = -1; i < all.n; i++) {
        hw_device *d = i < 0 ? reference : all.at[i];
        float row[40] = {[3] = 5, [37] = NAN};
        uint64_t key;
        d->k->row_draw(d, &key, row, 40, 0, 40, -INFINITY, 1, 7, 1);
        cr_assert_eq(key, HW_KEY_NAN);
        d->k->row_draw(d, &key, row, 40, 0, 40, 4, 1, 7, 1);
        cr_assert_eq(key, HW_KEY_NAN, "whatever the floor");
        d->k->row_draw(d, &key, row, 40, 0, 37, 4, 1, 7, 1);
        cr_assert_eq(hw_key_token(key), 3, "a NaN that is not valid does not count");
    }
    close_devices(&all);
    hw_device_destroy(reference);
}
