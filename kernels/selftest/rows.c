/* Ops on rows: copies, norms, activations, residuals. */
#include <stdio.h>

#include "kernels/selftest/subject.h"

/* An activation treats each number alone, so a wide model's rows need not be whole: MOST_WIDE is no multiple of a vector. */
enum { ROWS = HW_SUBJECT_ROWS, MOST_TABLE_ROWS = 2048, FIRST_ID = 100, MOST_WIDE = 8200 };

typedef struct row_params {
    int dim, first_id;
    float eps;
    hw_activation act;
    bool flag; /* gather: accumulates; norm: centred, with a bias; activate: gated; residual: with a bias */
} row_params;

static const row_params *params(const hw_bound *b) { return b->s->own; }

static void set_shape(char text[32], size_t a, size_t b) { snprintf(text, 32, "[%zu, %zu]", a, b); }

/* ---- gather: out, ids */

static hw_status gather(const hw_bound *b, int n)
{
    const row_params *p = params(b);
    return b->d->k->gather(b->d, b->at[0], b->w, b->at[1], n, p->first_id, p->flag);
}

/* Ids of this slice and, now and then, of others. */
static int32_t *some_ids(hw_selftest *t, size_t n_table)
{
    int32_t *ids = hw_selftest_take(t, ROWS * sizeof *ids);
    for (int r = 0; r < ROWS && ids; r++) {
        ids[r] = (int32_t)(FIRST_ID + hw_selftest_below(t, n_table));
        if (r % 9 == 4) ids[r] = (int32_t)(r % 2 ? FIRST_ID - 1 : FIRST_ID + n_table);
    }
    return ids;
}

static void check_gather(hw_selftest *t, hw_dtype type, bool accumulate)
{
    const size_t dim = (size_t)t->shapes.dim;
    const size_t n = t->shapes.vocab_size < MOST_TABLE_ROWS ? (size_t)t->shapes.vocab_size : MOST_TABLE_ROWS;
    hw_matrix table = {.dims = {.n_out = n, .n_in = dim, .format = hw_format_plain(type)}};
    for (int c = 1; c <= HW_N_CUTS; c++) table.dims.cuts[c] = dim;
    table.values = hw_selftest_numbers(t, type, n * dim, 2);
    const int32_t *ids = some_ids(t, n);
    const float *start = accumulate ? hw_selftest_numbers(t, t->act, ROWS * dim, 2) : NULL;
    const row_params own = {.first_id = FIRST_ID, .flag = accumulate};
    char shape[32];
    set_shape(shape, n, dim);
    if (t->st) return;
    table.values[0] = -0.0f; /* comes out as plus zero */
    const hw_subject s = {
        .run = gather,
        .shape = shape,
        .most_rows = ROWS,
        .arrays = {{.kind = HW_ARRAY_ACTIVE, .start = start, .n = ROWS * dim, .out = true, .row = dim},
                   {.kind = HW_ARRAY_IDS, .start = ids, .n = ROWS}},
        .n_arrays = 2,
        .matrix = &table,
        .exact = true,
        .own = &own,
        .timed = !accumulate};
    hw_selftest_check(t, &s);
}

/* ---- select_rows: out, x, rows */

static hw_status select_rows(const hw_bound *b, int n)
{
    return b->d->k->select_rows(b->d, b->at[0], b->at[1], b->at[2], n, params(b)->dim);
}

static void check_select(hw_selftest *t)
{
    const size_t dim = (size_t)t->shapes.dim;
    const float *x = hw_selftest_numbers(t, t->act, ROWS * dim, 2);
    int32_t *rows = hw_selftest_take(t, ROWS * sizeof *rows);
    const row_params own = {.dim = t->shapes.dim};
    char shape[32];
    set_shape(shape, ROWS, dim);
    for (int r = 0; r < ROWS && rows; r++) rows[r] = (int32_t)hw_selftest_below(t, ROWS);
    const hw_subject s = {.run = select_rows,
                          .shape = shape,
                          .most_rows = ROWS,
                          .arrays = {{.kind = HW_ARRAY_ACTIVE, .n = ROWS * dim, .out = true, .row = dim},
                                     {.kind = HW_ARRAY_ACTIVE, .start = x, .n = ROWS * dim},
                                     {.kind = HW_ARRAY_IDS, .start = rows, .n = ROWS}},
                          .n_arrays = 3,
                          .exact = true,
                          .same_bits = true,
                          .own = &own,
                          .timed = true};
    hw_selftest_check(t, &s);
}

/* ---- copy: out, x */

static hw_status copy(const hw_bound *b, int n)
{
    const size_t n_bytes = (size_t)n * (size_t)params(b)->dim * hw_dtype_size(b->d->act);
    return b->d->k->copy(b->d, b->at[0], b->at[1], n_bytes);
}

static void check_copy(hw_selftest *t)
{
    const size_t dim = (size_t)t->shapes.dim;
    const float *x = hw_selftest_numbers(t, t->act, ROWS * dim, 2);
    const row_params own = {.dim = t->shapes.dim};
    char shape[32];
    set_shape(shape, ROWS, dim);
    const hw_subject s = {.run = copy,
                          .shape = shape,
                          .most_rows = ROWS,
                          .arrays = {{.kind = HW_ARRAY_ACTIVE, .n = ROWS * dim, .out = true, .row = dim},
                                     {.kind = HW_ARRAY_ACTIVE, .start = x, .n = ROWS * dim}},
                          .n_arrays = 2,
                          .exact = true,
                          .same_bits = true,
                          .own = &own,
                          .timed = true};
    hw_selftest_check(t, &s);
}

/* ---- norms, and one in a graph: out, x, w, b */

static hw_status norm(const hw_bound *b, int n)
{
    const row_params *p = params(b);
    const hw_kernels *k = b->d->k;
    if (!p->flag) return k->rmsnorm(b->d, b->at[0], b->at[1], b->at[2], n, p->dim, p->eps);
    return k->layernorm(b->d, b->at[0], b->at[1], b->at[2], b->at[3], n, p->dim, p->eps);
}

static hw_status norm_in_graph(const hw_bound *b, int n)
{
    const hw_kernels *k = b->d->k;
    hw_graph *graph = NULL;
    hw_status st = k->graph->capture_begin(b->d, NULL);
    if (st) return st;
    st = norm(b, n);
    const hw_status ended = k->graph->capture_end(b->d, &graph, NULL);
    if (!st) st = ended;
    if (!st) st = k->graph->launch(b->d, graph);
    if (!st) st = k->synchronize(b->d, NULL);
    if (graph) k->graph->destroy(b->d, graph);
    return st;
}

/* Results are below 12 in size: a few roundings of 6e-8 each, and half of the sum's own error. In 16 bits inputs are
 * as rounded for the plain loops, and the device may round x - mean, which the norm makes larger. */
static void check_norm(hw_selftest *t, hw_subject_run *run, bool centred)
{
    const size_t dim = (size_t)t->shapes.dim;
    const float *x = hw_selftest_numbers(t, t->act, ROWS * dim, 3),
                *w = hw_selftest_numbers(t, HW_F32, dim, 1), *b = hw_selftest_numbers(t, HW_F32, dim, 1);
    const row_params own = {.dim = t->shapes.dim, .eps = t->shapes.norm_eps, .flag = centred};
    const double slack = t->act != HW_F32 ? 2e-5 : centred ? 1e-5 : 5e-6;
    char shape[32];
    set_shape(shape, ROWS, dim);
    const hw_subject s = {
        .run = run,
        .plain = norm,
        .shape = shape,
        .most_rows = ROWS,
        .arrays = {{.kind = HW_ARRAY_ACTIVE, .n = ROWS * dim, .out = true, .row = dim, .slack = slack},
                   {.kind = HW_ARRAY_ACTIVE, .start = x, .n = ROWS * dim},
                   {.kind = HW_ARRAY_FLOATS, .start = w, .n = dim},
                   {.kind = HW_ARRAY_FLOATS, .start = b, .n = dim}},
        .n_arrays = 4,
        .own = &own,
        .timed = true};
    hw_selftest_check(t, &s);
}

/* ---- activate: out, x */

static hw_status activate(const hw_bound *b, int n)
{
    const row_params *p = params(b);
    return b->d->k->activate(b->d, b->at[0], b->at[1], n, p->dim, p->act, p->flag);
}

/* exp within 1.1 units in the last place (1.3e-7), a division and two products with half a unit each; erf and tanh
 * within 1.5e-7, which stays where they cancel against 1. Inputs reach from underflow to overflow of exp. */
static void check_activation(hw_selftest *t, hw_activation act, bool gated)
{
    const int ffn_dim = t->shapes.ffn_dim < MOST_WIDE ? t->shapes.ffn_dim : MOST_WIDE;
    const size_t n = (size_t)ffn_dim, width = gated ? 2 * n : n;
    float *x = hw_selftest_numbers(t, HW_F32, ROWS * width, 4);
    float *slacks = hw_selftest_take(t, ROWS * n * sizeof *slacks);
    const row_params own = {.dim = ffn_dim, .act = act, .flag = gated};
    char shape[32];
    set_shape(shape, ROWS, n);
    if (t->st) return;
    for (size_t i = 0; i < ROWS * width; i += 7) x[i] *= i / 7 % 3 ? 8 : t->act == HW_F16 ? 16 : 40;
    hw_noise_round(x, ROWS * width, t->act);
    for (size_t i = 0; i < ROWS * n; i++) {
        const size_t r = i / n, j = i % n;
        const float in = x[r * width + j], up = gated ? x[r * width + n + j] : 1, size = in * up;
        slacks[i] = 1e-6f * (size < 0 ? -size : size);
    }
    const hw_subject s = {
        .run = activate,
        .shape = shape,
        .most_rows = ROWS,
        .arrays = {{.kind = HW_ARRAY_ACTIVE, .n = ROWS * n, .out = true, .row = n, .slacks = slacks},
                   {.kind = HW_ARRAY_ACTIVE, .start = x, .n = ROWS * width}},
        .n_arrays = 2,
        .own = &own,
        .timed = gated == t->shapes.gated};
    hw_selftest_check(t, &s);
}

/* ---- add_bias_residual: x, y, bias */

static hw_status add_residual(const hw_bound *b, int n)
{
    const row_params *p = params(b);
    return b->d->k->add_bias_residual(b->d, b->at[0], b->at[1], p->flag ? b->at[2] : NULL, n, p->dim);
}

static void check_residual(hw_selftest *t, bool has_bias)
{
    const size_t dim = (size_t)t->shapes.dim;
    const float *x = hw_selftest_numbers(t, t->act, ROWS * dim, 3),
                *y = hw_selftest_numbers(t, t->act, ROWS * dim, 3),
                *bias = hw_selftest_numbers(t, HW_F32, dim, 1);
    const row_params own = {.dim = t->shapes.dim, .flag = has_bias};
    char shape[32];
    set_shape(shape, ROWS, dim);
    const hw_subject s = {
        .run = add_residual,
        .shape = shape,
        .most_rows = ROWS,
        .arrays =
            {{.kind = HW_ARRAY_ACTIVE, .start = x, .n = ROWS * dim, .out = true, .row = dim, .slack = 1e-6},
             {.kind = HW_ARRAY_ACTIVE, .start = y, .n = ROWS * dim},
             {.kind = HW_ARRAY_FLOATS, .start = bias, .n = dim}},
        .n_arrays = 3,
        .exact = true,
        .own = &own,
        .timed = has_bias};
    hw_selftest_check(t, &s);
}

void hw_selftest_rows(hw_selftest *t)
{
    static const hw_dtype types[] = {HW_F32, HW_F16, HW_BF16};
    hw_selftest_begin(t, "gather", t->promises ? "every type" : "");
    for (int i = 0; i < 3; i++)
        for (int accumulate = 0; accumulate < 2 && (t->promises || types[i] == t->act); accumulate++)
            check_gather(t, types[i], accumulate);
    hw_selftest_end(t);
    hw_selftest_begin(t, "copy", "");
    check_copy(t);
    hw_selftest_end(t);
    hw_selftest_begin(t, "select_rows", "");
    check_select(t);
    hw_selftest_end(t);
    for (int centred = 0; centred < 2; centred++) {
        hw_selftest_begin(t, centred ? "layernorm" : "rmsnorm", "");
        check_norm(t, norm, centred);
        hw_selftest_end(t);
    }
    if (hw_device_can_capture(t->paths[0].device)) {
        hw_selftest_begin(t, "graph_launch", "of an rmsnorm");
        check_norm(t, norm_in_graph, false);
        hw_selftest_end(t);
    }
    static const char *const names[] = {"silu", "gelu", "gelu_tanh", "relu"};
    for (int act = HW_ACT_SILU; act <= HW_ACT_RELU; act++) {
        hw_selftest_begin(t, "activate", names[act]);
        for (int gated = 0; gated < 2; gated++) check_activation(t, (hw_activation)act, gated);
        hw_selftest_end(t);
    }
    hw_selftest_begin(t, "add_bias_residual", "");
    for (int has_bias = 0; has_bias < 2; has_bias++) check_residual(t, has_bias);
    hw_selftest_end(t);
}
