/* What the benchmark makes of windows whose figures are made up, and of lists of tests. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "launch/bench/bench.h"

typedef struct made_up {
    hw_bench bench;
    hw_bench_settings settings;
    hw_error err;
} made_up;

static made_up *make(int repeats)
{
    made_up *m = calloc(1, sizeof *m);
    m->settings =
        (hw_bench_settings){.pp = "512", .tg = "128", .batches = "1", .depths = "0", .repeats = repeats};
    m->bench.settings = &m->settings;
    m->bench.err = &m->err;
    return m;
}

static void end(made_up *m)
{
    free(m->bench.windows);
    free(m->bench.steps);
    free(m);
}

static void make_windows(made_up *m)
{
    hw_bench *b = &m->bench;
    b->windows = calloc((size_t)(b->n_tests * m->settings.repeats), sizeof *b->windows);
    b->steps = calloc((size_t)(b->n_tests * m->settings.repeats * b->longest_decode) + 1, sizeof *b->steps);
}

Test(bench, lists_make_every_combination)
{
    static const char *const names[] = {
        "pp512",        "pp64",        "tg8",        "pp512 b4",        "pp64 b4",        "tg8 b4",
        "pp512 @ d100", "pp64 @ d100", "tg8 @ d100", "pp512 b4 @ d100", "pp64 b4 @ d100", "tg8 b4 @ d100"};
    made_up *m = make(1);
    m->settings.pp = "512,64", m->settings.tg = "8", m->settings.batches = "1,4",
    m->settings.depths = "0,100";
    cr_assert_eq(hw_bench_list_tests(&m->bench), HW_OK, "%s", m->err.message);
    cr_assert_eq(m->bench.n_tests, 12);
    for (int i = 0; i < 12; i++) cr_expect_str_eq(m->bench.tests[i].name, names[i]);
    cr_expect_eq(hw_bench_longest(&m->bench), 612);
    cr_expect_eq(hw_bench_most_seqs(&m->bench), 8, "4 that start, and the 4 that they start from");
    cr_expect_eq(m->bench.longest_decode, 8);
    end(m);
}

Test(bench, lists_are_refused_by_their_option)
{
    static const struct {
        const char *pp, *batches, *word;
    } wrong[] = {{"5,", "1", "--n-prompt is '5,'"}, {"x", "1", "--n-prompt"},
                 {"-1", "1", "--n-prompt"},         {"5 ", "1", "--n-prompt"},
                 {"5", "0", "--batch-size is '0'"}, {"5", "", "--batch-size"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        made_up *m = make(1);
        m->settings.pp = wrong[i].pp, m->settings.batches = wrong[i].batches;
        cr_expect_eq(hw_bench_list_tests(&m->bench), HW_ERR_INVALID);
        cr_expect(strstr(m->err.message, wrong[i].word), "%s", m->err.message);
        end(m);
    }
}

/* A decode that starts without depth has a prompt of one token in front. */
Test(bench, positions_of_a_decode_count_its_prompt)
{
    made_up *m = make(1);
    m->settings.pp = "0", m->settings.tg = "8";
    cr_assert_eq(hw_bench_list_tests(&m->bench), HW_OK);
    cr_expect_eq(hw_bench_longest(&m->bench), 9);
    end(m);
}

/* Three windows; the ratio to the limit is 0.5, 0.9 and 0.6 in them, and the medians of rate and limit would
 * give another one: 100 of 125. */
Test(bench, shares_are_medians_of_ratios_in_one_window)
{
    const double rates[] = {100, 90, 300}, limits[] = {200, 100, 500};
    made_up *m = make(3);
    m->settings.pp = "0", m->settings.tg = "1";
    cr_assert_eq(hw_bench_list_tests(&m->bench), HW_OK);
    make_windows(m);
    for (int i = 0; i < 3; i++) {
        hw_bench_window *w = hw_bench_window_at(&m->bench, 0, i);
        w->run.seconds = 0.5;
        w->run.bytes = rates[i] * 0.5;
        w->limit[HW_PEAK_READ] = limits[i];
        w->all_reduce = 3e-6 * (i + 1), w->library = 6e-6;
        w->kept = true;
    }
    const hw_bench_result r = hw_bench_conclude(&m->bench, 0);
    cr_expect_float_eq(r.share[HW_PEAK_READ], 0.6, 1e-12);
    cr_expect_float_eq(r.limit[HW_PEAK_READ], 200, 1e-9);
    cr_expect_float_eq(r.of_library, 1.0, 1e-12);
    cr_expect_float_eq(r.rate.mean, 2, 1e-12, "one token in half a second");
    cr_expect_eq(r.share[HW_PEAK_FMA], 0, "what was not measured is no share");
    end(m);
}

Test(bench, disturbed_windows_do_not_count)
{
    made_up *m = make(4);
    m->settings.pp = "6", m->settings.tg = "0", m->settings.batches = "2";
    cr_assert_eq(hw_bench_list_tests(&m->bench), HW_OK);
    make_windows(m);
    for (int i = 0; i < 4; i++) {
        hw_bench_window *w = hw_bench_window_at(&m->bench, 0, i);
        w->run.seconds = i == 2 ? 100 : 3;
        w->kept = i != 2;
    }
    hw_bench_result r = hw_bench_conclude(&m->bench, 0);
    cr_expect_eq(r.n_windows, 4);
    cr_expect_eq(r.n_kept, 3);
    cr_expect_float_eq(r.rate.mean, 4, 1e-12, "12 tokens in 3 s");
    cr_expect_float_eq(r.rate.deviation, 0, 1e-12);
    for (int i = 0; i < 4; i++) hw_bench_window_at(&m->bench, 0, i)->kept = false;
    r = hw_bench_conclude(&m->bench, 0);
    cr_expect_eq(r.n_kept, 0);
    cr_expect_float_eq(r.rate.mean, (4 + 4 + 0.12 + 4) / 4, 1e-12, "then all of them");
    end(m);
}

/* 100 steps of 1 .. 100 ms over two windows of 50. */
Test(bench, quantiles_are_over_the_steps_of_all_windows)
{
    made_up *m = make(2);
    m->settings.pp = "0", m->settings.tg = "50";
    cr_assert_eq(hw_bench_list_tests(&m->bench), HW_OK);
    make_windows(m);
    for (int i = 0; i < 100; i++) hw_bench_steps_at(&m->bench, 0, i % 2)[i / 2] = 1e-3 * (i + 1);
    for (int i = 0; i < 2; i++) {
        hw_bench_window_at(&m->bench, 0, i)->kept = true;
        hw_bench_window_at(&m->bench, 0, i)->run.seconds = 1;
    }
    const hw_bench_result r = hw_bench_conclude(&m->bench, 0);
    cr_expect_float_eq(r.step_mean, 0.0505, 1e-12);
    cr_expect_float_eq(r.step_p50, 0.051, 1e-12);
    cr_expect_float_eq(r.step_p99, 0.100, 1e-12);
    end(m);
}
