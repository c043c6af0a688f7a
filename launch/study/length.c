/* The cost of a step over the length of the sequence: which curve is flat, linear or quadratic. Uses the measurements of
 * on_off.c. */
#include <stdlib.h>

#include "launch/report/statistics.h"
#include "launch/study/study.h"

enum { MAX_POINTS = 48 };

/* The cost of a step at length t: four curves in FLOPs, and two in bytes sent between ranks. */
enum { N_CURVES = 7 };
typedef struct curves {
    int n;
    double *t, *matrix_on, *attention_on, *matrix_off, *attention_off, *payload_on, *payload_off; /* [n] */
} curves;

static double attention_flops(const hw_trial_step *s)
{
    return (double)(s->flops[HW_WORK_SCORES] + s->flops[HW_WORK_VALUES]);
}

/* The products of the layers; the head runs on one row either way. */
static double matrix_flops(const hw_trial_step *s)
{
    return (double)(s->flops[HW_WORK_QKV] + s->flops[HW_WORK_WO] + s->flops[HW_WORK_MLP]);
}

static hw_status collect(curves *c, const hw_study *s, hw_error *err)
{
    const hw_on_off *r = &s->on_off;
    size_t n = (size_t)r->on.n_steps;
    double *all = calloc(N_CURVES * n, sizeof *all);
    if (!all) return hw_fail(err, HW_ERR_NO_MEMORY, "study: no memory for %zu points", n);
    *c = (curves){.n = (int)n,
                  .t = all,
                  .matrix_on = all + n,
                  .attention_on = all + 2 * n,
                  .matrix_off = all + 3 * n,
                  .attention_off = all + 4 * n,
                  .payload_on = all + 5 * n,
                  .payload_off = all + 6 * n};
    for (size_t i = 0; i < n; i++) {
        c->t[i] = r->on.steps[i].length;
        c->matrix_on[i] = matrix_flops(&r->on.steps[i]);
        c->attention_on[i] = attention_flops(&r->on.steps[i]);
        c->matrix_off[i] = matrix_flops(&r->off.steps[i]);
        c->attention_off[i] = attention_flops(&r->off.steps[i]);
        c->payload_on[i] = (double)r->on.steps[i].payload_bytes;
        c->payload_off[i] = (double)r->off.steps[i].payload_bytes;
    }
    return HW_OK;
}

static hw_status write_exponents(hw_study *s, const curves *c, hw_error *err)
{
    static const hw_column columns[] = {{"curve", "FLOPs of a step"},
                                        {"exponent_counted", "exponent, fitted to the counters"},
                                        {"exponent_theory", "by theory"},
                                        {"name", "curve"}};
    const struct {
        const char *what, *name;
        const double *y;
        uint64_t theory;
    } lines[] = {{"cache on: products of the layers", "flat", c->matrix_on, 0},
                 {"cache on: scores and values", "linear", c->attention_on, 1},
                 {"cache off: products of the layers", "linear", c->matrix_off, 1},
                 {"cache off: scores and values", "quadratic", c->attention_off, 2}};
    hw_table t = hw_table_begin(columns, 4);
    int first = c->n / 4; /* t (t + 1) / 2 is a square only where t is large */
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        hw_table_text(&t, "%s", lines[i].what);
        hw_table_real(&t, hw_fit_exponent(c->t + first, lines[i].y + first, c->n - first));
        hw_table_count(&t, lines[i].theory);
        hw_table_text(&t, "%s", lines[i].name);
    }
    return hw_study_table(s, &t, "length_exponents", true, err);
}

static hw_status write_steps(hw_study *s, const curves *c, hw_error *err)
{
    static const hw_column columns[] = {{"position", 0},
                                        {"on_rows", 0},
                                        {"off_rows", 0},
                                        {"on_ms", 0},
                                        {"off_ms", 0},
                                        {"on_payload_bytes", 0},
                                        {"off_payload_bytes", 0},
                                        {"on_product_flops", 0},
                                        {"on_attention_flops", 0},
                                        {"off_product_flops", 0},
                                        {"off_attention_flops", 0},
                                        {"on_flops", 0},
                                        {"off_flops", 0}};
    const hw_on_off *r = &s->on_off;
    hw_table t = hw_table_begin(columns, 13);
    for (int i = 0; i < c->n; i++) {
        const hw_trial_step *on = &r->on.steps[i], *off = &r->off.steps[i];
        hw_table_count(&t, (uint64_t)on->length);
        hw_table_count(&t, (uint64_t)on->rows);
        hw_table_count(&t, (uint64_t)off->rows);
        hw_table_real(&t, r->on_step[i] * 1e3);
        hw_table_real(&t, r->off_step[i] * 1e3);
        hw_table_count(&t, on->payload_bytes);
        hw_table_count(&t, off->payload_bytes);
        hw_table_count(&t, (uint64_t)c->matrix_on[i]);
        hw_table_count(&t, (uint64_t)c->attention_on[i]);
        hw_table_count(&t, (uint64_t)c->matrix_off[i]);
        hw_table_count(&t, (uint64_t)c->attention_off[i]);
        hw_table_count(&t, hw_trial_step_flops(on));
        hw_table_count(&t, hw_trial_step_flops(off));
    }
    return hw_study_table(s, &t, "length", false, err);
}

/* Reduces n points to at most MAX_POINTS: the median of each interval. */
static int thin(const double *x, const double *y, int n, double *px, double *py)
{
    int points = n < MAX_POINTS ? n : MAX_POINTS;
    for (int i = 0; i < points; i++) {
        int begin = (int)((long)i * n / points), end = (int)((long)(i + 1) * n / points);
        px[i] = hw_summarise(x + begin, end - begin).median;
        py[i] = hw_summarise(y + begin, end - begin).median;
    }
    return points;
}

static hw_status add_line(hw_study_plot *p, const char *label, const double *x, const double *y, int n,
                          double scale, hw_error *err)
{
    double px[MAX_POINTS], py[MAX_POINTS];
    int points = thin(x, y, n, px, py);
    for (int i = 0; i < points; i++) py[i] *= scale;
    return hw_plot_line(&p->plot, label, px, py, points, err);
}

static hw_status draw_time(hw_study *s, const curves *c, hw_error *err)
{
    hw_study_plot p;
    hw_status st = hw_study_plot_begin(s, &p, "length_time", "Time of a step",
                                       "length of the sequence (tokens)", "ms per step, median", err);
    hw_plot_log(&p.plot, false, true);
    if (!st) st = add_line(&p, "cache off: grows with the prefix", c->t, s->on_off.off_step, c->n, 1e3, err);
    if (!st) st = add_line(&p, "cache on: nearly flat", c->t, s->on_off.on_step, c->n, 1e3, err);
    return st ? st : hw_study_plot_lines(s, &p, err);
}

static hw_status draw_flops(hw_study *s, const curves *c, hw_error *err)
{
    hw_study_plot p;
    hw_status st = hw_study_plot_begin(s, &p, "length_flops", "FLOPs of a step",
                                       "length of the sequence (tokens)", "MFLOP per step", err);
    hw_plot_log(&p.plot, true, true);
    if (!st) st = add_line(&p, "cache off, products: linear", c->t, c->matrix_off, c->n, 1e-6, err);
    if (!st)
        st = add_line(&p, "cache off, scores and values: quadratic", c->t, c->attention_off, c->n, 1e-6, err);
    if (!st) st = add_line(&p, "cache on, products: flat", c->t, c->matrix_on, c->n, 1e-6, err);
    if (!st) st = add_line(&p, "cache on, scores and values: linear", c->t, c->attention_on, c->n, 1e-6, err);
    return st ? st : hw_study_plot_lines(s, &p, err);
}

static hw_status draw_payload(hw_study *s, const curves *c, hw_error *err)
{
    hw_study_plot p;
    hw_status st = hw_study_plot_begin(s, &p, "length_payload", "Bytes between ranks for one more token",
                                       "length of the sequence (tokens)", "bytes per token", err);
    hw_plot_log(&p.plot, false, true);
    if (!st) st = add_line(&p, "cache off: every token again", c->t, c->payload_off, c->n, 1, err);
    if (!st) st = add_line(&p, "cache on: the new token alone", c->t, c->payload_on, c->n, 1, err);
    return st ? st : hw_study_plot_lines(s, &p, err);
}

static hw_status write(hw_study *s, const void *data, hw_error *err)
{
    curves c = {.n = 0};
    (void)data;
    hw_study_text(s,
                  "The same runs as above, step by step. With the cache, the cost of a step is constant (the "
                  "products of one row) plus a linear term (the scores and values of the new row over all "
                  "keys). Without it, the cost is linear (the products of all rows) plus a quadratic term "
                  "(all rows attend to all keys before them). Summed over a generation each exponent is one "
                  "higher.\n\n");
    hw_status st = collect(&c, s, err);
    if (!st) st = write_exponents(s, &c, err);
    if (!st) st = draw_flops(s, &c, err);
    if (!st) st = draw_time(s, &c, err);
    if (!st) st = draw_payload(s, &c, err);
    if (!st) st = write_steps(s, &c, err);
    free(c.t);
    return st;
}

const hw_experiment hw_experiment_length = {"Cost of a step against the length", NULL, write, NULL};
