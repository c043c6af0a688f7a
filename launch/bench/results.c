#include <stdlib.h>

#include "launch/bench/bench.h"

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Nearest rank: the least value that so large a part of them does not pass. */
static double quantile(const double *sorted, size_t n, double part)
{
    size_t i = (size_t)(part * (double)n);
    return n ? sorted[i < n ? i : n - 1] : 0;
}

/* Steps of all windows that count, together. */
static void conclude_steps(hw_bench_result *r, const hw_bench *b, int test, const int *counted, int n)
{
    const size_t per_run = (size_t)b->tests[test].n, n_steps = per_run * (size_t)n;
    double *all = malloc(n_steps * sizeof *all), sum = 0;
    if (!all) return; /* the columns stay empty */
    for (size_t i = 0; i < n_steps; i++) {
        all[i] = hw_bench_steps_at(b, test, counted[i / per_run])[i % per_run];
        sum += all[i];
    }
    qsort(all, n_steps, sizeof *all, ascending);
    r->step_mean = sum / (double)n_steps;
    r->step_p50 = quantile(all, n_steps, 0.5);
    r->step_p99 = quantile(all, n_steps, 0.99);
    free(all);
}

typedef double value_fn(const hw_bench_test *t, const hw_bench_window *w, int which);

static double rate_of(const hw_bench_test *t, const hw_bench_window *w, int which)
{
    (void)which;
    return (double)t->n * t->n_seqs / w->run.seconds;
}
static double first_token_of(const hw_bench_test *t, const hw_bench_window *w, int which)
{
    (void)t, (void)which;
    return w->run.first_token;
}
static double bytes_of(const hw_bench_test *t, const hw_bench_window *w, int which)
{
    (void)t, (void)which;
    return w->run.bytes / w->run.seconds;
}
static double flops_of(const hw_bench_test *t, const hw_bench_window *w, int which)
{
    (void)t, (void)which;
    return w->run.flops / w->run.seconds;
}
static double launches_of(const hw_bench_test *t, const hw_bench_window *w, int which)
{
    (void)t, (void)which;
    return w->run.launches;
}
static double limit_of(const hw_bench_test *t, const hw_bench_window *w, int which)
{
    (void)t;
    return w->limit[which];
}
static double share_of(const hw_bench_test *t, const hw_bench_window *w, int which)
{
    if (!(w->limit[which] > 0)) return 0;
    return (t->decode ? bytes_of(t, w, 0) : flops_of(t, w, 0)) / w->limit[which];
}
static double all_reduce_of(const hw_bench_test *t, const hw_bench_window *w, int which)
{
    (void)t;
    return which == 0       ? w->all_reduce
           : which == 1     ? w->library
           : w->library > 0 ? w->all_reduce / w->library
                            : 0;
}
static double site_of(const hw_bench_test *t, const hw_bench_window *w, int which)
{
    (void)t;
    return w->run.site[which] / w->run.seconds;
}

typedef struct counted_windows {
    const hw_bench *b;
    int test, n;
    int at[HW_BENCH_MAX_REPEATS];
} counted_windows;

static hw_summary over(const counted_windows *c, value_fn *value, int which)
{
    double values[HW_BENCH_MAX_REPEATS];
    for (int i = 0; i < c->n; i++)
        values[i] = value(&c->b->tests[c->test], hw_bench_window_at(c->b, c->test, c->at[i]), which);
    return hw_summarise(values, c->n);
}

const char *hw_bench_library(const hw_bench *b)
{
    return hw_comm_on_device(b->s->comm) ? hw_comm_backend(b->s->comm) : "mpi";
}

hw_bench_result hw_bench_conclude(const hw_bench *b, int test)
{
    counted_windows c = {.b = b, .test = test};
    hw_bench_result r = {.n_windows = b->settings->repeats};
    for (int i = 0; i < r.n_windows; i++)
        if (hw_bench_window_at(b, test, i)->kept) c.at[c.n++] = i;
    r.n_kept = c.n;
    if (!c.n)
        while (c.n < r.n_windows) c.at[c.n] = c.n, c.n++;
    r.rate = over(&c, rate_of, 0);
    r.bytes_rate = over(&c, bytes_of, 0).median;
    r.flop_rate = over(&c, flops_of, 0).median;
    r.launches = over(&c, launches_of, 0).median;
    if (b->tests[test].decode) conclude_steps(&r, b, test, c.at, c.n);
    else r.first_token = over(&c, first_token_of, 0).median;
    for (int a = 0; a < HW_N_PEAKS; a++) {
        r.limit[a] = over(&c, limit_of, a).median;
        r.share[a] = over(&c, share_of, a).median;
    }
    r.all_reduce = over(&c, all_reduce_of, 0).median;
    r.library = over(&c, all_reduce_of, 1).median;
    r.of_library = over(&c, all_reduce_of, 2).median;
    for (int s = 0; s < HW_BENCH_N_SITES; s++) r.site[s] = over(&c, site_of, s).median;
    return r;
}
