/* matmul and logits. */
#include "kernels/selftest/products.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"

/* Of a matrix: numbers that are multiplied on every path with 64 rows; outputs that the plain loops compute, as many
 * as they have time for; numbers that are streamed through memory to measure one row. */
enum {
    ROWS = HW_SUBJECT_ROWS,
    CHECKED = 1 << 19,
    LEAST_OUTPUTS = 64,
    PLAIN = 1 << 16,
    MOST_PLAIN = 32,
    LEAST_PLAIN = 8
};
enum { STREAMED = 1 << 24, STREAMED_AT_ONCE = 64 };

static void sizes_of(const hw_selftest_shapes *s, hw_layer_matrix which, size_t *n_out, size_t *n_in)
{
    const size_t q = (size_t)s->n_heads * (size_t)s->head_dim,
                 kv = (size_t)s->n_kv_heads * (size_t)s->head_dim;
    const size_t dim = (size_t)s->dim, ffn = (size_t)s->ffn_dim;
    *n_in = which == HW_LAYER_WO ? q : which == HW_LAYER_DOWN ? ffn : dim;
    switch (which) {
    case HW_LAYER_QKV: *n_out = q + 2 * kv; break;
    case HW_LAYER_UP: *n_out = s->gated ? 2 * ffn : ffn; break;
    case HW_LAYER_HEAD: *n_out = (size_t)s->vocab_size; break;
    default: *n_out = dim; break;
    }
}

/* wo and w_down are split by inputs, and keep a partial sum for each cut. */
static void set_cuts(hw_weight_dims *d, hw_layer_matrix which)
{
    const bool split = which == HW_LAYER_WO || which == HW_LAYER_DOWN;
    for (size_t c = 1; c <= HW_N_CUTS; c++) d->cuts[c] = split ? c * d->n_in / HW_N_CUTS : d->n_in;
}

/* The first, the last, and random ones between. */
static void choose_sample(hw_selftest *t, int *sample, size_t n_sample, size_t n_out)
{
    for (size_t i = 0; i < n_sample; i++) {
        const size_t begin = i * n_out / n_sample, end = (i + 1) * n_out / n_sample;
        sample[i] = (int)(i == 0              ? 0
                          : i + 1 == n_sample ? n_out - 1
                                              : begin + hw_selftest_below(t, end - begin));
    }
}

static void copy_sampled(hw_sampled *m)
{
    const size_t n_in = m->whole.dims.n_in;
    for (size_t i = 0; i < m->n_sample; i++) {
        const size_t o = (size_t)m->sample[i];
        memcpy(m->plain.values + i * n_in, m->whole.values + o * n_in, n_in * sizeof(float));
        m->plain_bias[i] = m->bias[o];
    }
}

bool hw_sampled_make(hw_selftest *t, hw_sampled *m, hw_layer_matrix which, hw_dtype type, bool halves)
{
    size_t n_out, n_in, most;
    sizes_of(&t->shapes, which, &n_out, &n_in);
    if (halves) n_out /= 2;
    most = CHECKED / n_in / 16 * 16;
    if (most < LEAST_OUTPUTS) most = LEAST_OUTPUTS;
    if (n_out > most) n_out = most;
    size_t n_sample = PLAIN / n_in < LEAST_PLAIN  ? LEAST_PLAIN
                      : PLAIN / n_in > MOST_PLAIN ? MOST_PLAIN
                                                  : PLAIN / n_in;
    if (n_sample > n_out) n_sample = n_out;
    const size_t times = halves ? 2 : 1;
    *m = (hw_sampled){.n_sample = times * n_sample};
    m->whole.dims = (hw_weight_dims){.n_out = times * n_out, .n_in = n_in, .format = hw_format_plain(type)};
    set_cuts(&m->whole.dims, which);
    m->plain.dims = m->whole.dims;
    m->plain.dims.n_out = m->n_sample;
    m->whole.values = hw_selftest_numbers(t, type, times * n_out * n_in, 0.25f);
    m->plain.values = hw_selftest_take(t, m->n_sample * n_in * sizeof(float));
    m->bias = hw_selftest_numbers(t, HW_F32, times * n_out, 1);
    m->plain_bias = hw_selftest_take(t, m->n_sample * sizeof(float));
    m->sample = hw_selftest_take(t, m->n_sample * sizeof *m->sample);
    snprintf(m->shape, sizeof m->shape, "[%zu, %zu]", times * n_out, n_in);
    if (t->st) return false;
    choose_sample(t, m->sample, n_sample, n_out);
    for (size_t i = 0; i < n_sample && halves; i++) m->sample[n_sample + i] = m->sample[i] + (int)n_out;
    copy_sampled(m);
    return true;
}

/* out, x, bias */
static hw_status product(const hw_bound *b, int n)
{
    return b->d->k->matmul(b->d, b->at[0], b->at[1], b->w, b->s->n_arrays > 2 ? b->at[2] : NULL, n);
}

float *hw_sampled_product(hw_selftest *t, const hw_matrix *m, const float *x, const float *bias)
{
    const size_t n_out = m->dims.n_out, n_in = m->dims.n_in;
    float *out = hw_selftest_take(t, ROWS * n_out * sizeof *out);
    hw_matrix wide = *m;
    wide.dims.format.type = HW_F32; /* multiplied in float32, whatever the device is set to */
    hw_subject s = {.run = product,
                    .most_rows = ROWS,
                    .arrays = {{.kind = HW_ARRAY_FLOATS, .n = ROWS * n_out, .out = true, .row = n_out},
                               {.kind = HW_ARRAY_FLOATS, .start = x, .n = ROWS * n_in},
                               {.kind = HW_ARRAY_FLOATS, .start = bias, .n = n_out}},
                    .n_arrays = bias ? 3 : 2,
                    .matrix = &wide};
    hw_bound b;
    if (t->st || (t->st = hw_bound_create(&b, t->reference, &s, true, t->err))) return NULL;
    if (!(t->st = hw_bound_run(&b, ROWS, t->err))) memcpy(out, b.got[0], b.n_bytes[0]);
    hw_bound_destroy(&b);
    return t->st ? NULL : out;
}

static float *sizes_only(hw_selftest *t, const float *x, size_t n)
{
    float *y = hw_selftest_take(t, n * sizeof *y);
    for (size_t i = 0; i < n && y && x; i++) y[i] = fabsf(x[i]);
    return y;
}

float *hw_sampled_sizes(hw_selftest *t, const hw_sampled *m, const float *x, bool has_bias)
{
    hw_matrix sizes = m->plain;
    const size_t n_in = sizes.dims.n_in;
    sizes.values = sizes_only(t, m->plain.values, m->n_sample * n_in);
    const float *in = sizes_only(t, x, ROWS * n_in), *bias = sizes_only(t, m->plain_bias, m->n_sample);
    return hw_sampled_product(t, &sizes, in, has_bias ? bias : NULL);
}

/* ---- one row of a large matrix, which has to come from memory */

static hw_status put_streamed(hw_device *d, hw_weight *w, const hw_weight_dims *dims, const hw_matrix *from,
                              hw_error *err)
{
    hw_status st = HW_OK;
    const size_t at_once = from->dims.n_out < STREAMED_AT_ONCE ? from->dims.n_out : STREAMED_AT_ONCE;
    for (size_t o = 0; o < dims->n_out && !st; o += at_once) {
        const hw_weight_piece piece = {.src = from->values,
                                       .dtype = HW_F32,
                                       .stride_out = dims->n_in,
                                       .stride_in = 1,
                                       .first_out = o,
                                       .n_out = dims->n_out - o < at_once ? dims->n_out - o : at_once,
                                       .n_in = dims->n_in};
        st = d->k->weight_put(d, w, &piece, err);
    }
    return st;
}

static hw_status time_streamed(double *seconds, const hw_subject *s, hw_device *d, hw_error *err)
{
    hw_subject large = *s;
    hw_matrix nothing = {.dims = s->matrix->dims};
    hw_bound b;
    nothing.dims.n_out = *(const size_t *)s->own; /* `own` says how many outputs */
    large.matrix = NULL;
    large.arrays[0].n = large.arrays[2].n = nothing.dims.n_out;
    large.arrays[0].sample = NULL, large.arrays[2].start = NULL;
    hw_status st = hw_bound_create(&b, d, &large, false, err);
    if (st) return st;
    st = d->k->weight_create(d, &b.w, &nothing.dims, err);
    if (!st) st = put_streamed(d, b.w, &nothing.dims, s->matrix, err);
    if (!st) st = hw_bound_time(seconds, &b, 1, err);
    hw_bound_destroy(&b);
    return st;
}

/* ---- the ops */

/* Some rows have inputs of all sizes: terms, products and inputs that are flushed where units for bfloat16 do so. */
static void widen_range(float *x, size_t n_in)
{
    for (size_t r = 7; r < ROWS; r += 25)
        for (size_t i = 0; i < n_in; i += 3)
            x[r * n_in + i] = ldexpf(x[r * n_in + i], i % 2 ? -(int)(i % 150) : (int)(i % 20));
}

/* What the order of additions changes, here and in the plain loops; a bias that a 16-bit product cannot take with it
 * is added to what was rounded. */
static float *product_slacks(hw_selftest *t, const hw_sampled *m, const float *x)
{
    float *slacks = hw_sampled_sizes(t, m, x, true), *sums = hw_sampled_product(t, &m->plain, x, NULL);
    const double ulp = t->act == HW_F32 ? 0 : hw_half_ulp(t->act);
    for (size_t i = 0; i < ROWS * m->n_sample && slacks && sums; i++)
        slacks[i] =
            (float)(2 * hw_sum_slack(m->whole.dims.n_in) * (double)slacks[i] + ulp * fabs((double)sums[i]));
    return slacks;
}

/* A plug-in's device need not be as fast as a GPU: it streams no more than the model has. */
static size_t streamed_outputs(const hw_selftest *t, hw_layer_matrix which, size_t n_in)
{
    size_t n_out, unused;
    sizes_of(&t->shapes, which, &n_out, &unused);
    return t->promises || n_out > STREAMED / n_in ? STREAMED / n_in : n_out;
}

static void check_product(hw_selftest *t, hw_layer_matrix which, hw_dtype type, hw_matmul matmul)
{
    hw_sampled m;
    if (t->st || !hw_sampled_make(t, &m, which, type, false)) return;
    const size_t n_out = m.whole.dims.n_out, n_in = m.whole.dims.n_in;
    float *x = hw_selftest_numbers(t, t->act, ROWS * n_in, 1);
    if (x && t->promises && type == HW_BF16) widen_range(x, n_in);
    const float *slacks = t->promises ? NULL : product_slacks(t, &m, x);
    /* Where there is no limit to compare with, the slice will do. */
    const bool streams = t->limits[0].read > 0;
    size_t streamed = streams ? streamed_outputs(t, which, n_in) : n_out;
    const double terms = matmul == HW_MATMUL_BF16X3 ? 3 : 1;
    const hw_subject s = {.run = product,
                          .shape = m.shape,
                          .most_rows = ROWS,
                          .arrays = {{.kind = HW_ARRAY_ACTIVE,
                                      .n = ROWS * n_out,
                                      .out = true,
                                      .row = n_out,
                                      .slacks = slacks,
                                      .sample = m.sample,
                                      .n_sample = m.n_sample},
                                     {.kind = HW_ARRAY_ACTIVE, .start = x, .n = ROWS * n_in},
                                     {.kind = HW_ARRAY_FLOATS,
                                      .start = m.bias,
                                      .n = n_out,
                                      .sample = m.sample,
                                      .n_sample = m.n_sample,
                                      .plain_start = m.plain_bias}},
                          .n_arrays = 3,
                          .matrix = &m.whole,
                          .plain_matrix = &m.plain,
                          .matmul = matmul,
                          .exact = true,
                          .own = &streamed,
                          .timed = which == HW_LAYER_UP,
                          .bytes_one = (double)streamed * (double)n_in * (double)hw_dtype_size(type),
                          .flop_row = 2 * terms * (double)n_out * (double)n_in,
                          .on_matrix_units = t->promises ? matmul != HW_MATMUL_FLOAT32 : type != HW_F32,
                          .time_one = streams ? time_streamed : NULL};
    if (!t->st) hw_selftest_check(t, &s);
}

static void check_products(hw_selftest *t, hw_dtype type, hw_matmul matmul)
{
    char variant[48];
    snprintf(variant, sizeof variant, "%s%s%s", hw_dtype_name(type), type == HW_BF16 && matmul ? ", " : "",
             type == HW_BF16 && matmul ? hw_matmul_name(matmul) : "");
    hw_selftest_begin(t, "matmul", variant);
    for (int m = 0; m < HW_N_LAYER_MATRICES; m++) check_product(t, (hw_layer_matrix)m, type, matmul);
    hw_selftest_end(t);
}

static hw_status logits(const hw_bound *b, int n)
{
    return b->d->k->logits(b->d, b->at[0], b->at[1], b->w, n);
}

static void check_logits(hw_selftest *t)
{
    hw_sampled m;
    if (t->st || !hw_sampled_make(t, &m, HW_LAYER_HEAD, t->act, false)) return;
    const size_t n_out = m.whole.dims.n_out, n_in = m.whole.dims.n_in;
    const float *x = hw_selftest_numbers(t, t->act, ROWS * n_in, 1);
    float *slacks = hw_sampled_sizes(t, &m, x, false);
    for (size_t i = 0; i < ROWS * m.n_sample && slacks; i++) slacks[i] *= (float)(2 * hw_sum_slack(n_in));
    const hw_subject s = {.run = logits,
                          .plain = product,
                          .shape = m.shape,
                          .most_rows = ROWS,
                          .arrays = {{.kind = HW_ARRAY_FLOATS,
                                      .n = ROWS * n_out,
                                      .out = true,
                                      .row = n_out,
                                      .slacks = slacks,
                                      .sample = m.sample,
                                      .n_sample = m.n_sample},
                                     {.kind = HW_ARRAY_ACTIVE, .start = x, .n = ROWS * n_in}},
                          .n_arrays = 2,
                          .matrix = &m.whole,
                          .plain_matrix = &m.plain,
                          .timed = true};
    if (!t->st) hw_selftest_check(t, &s);
}

void hw_selftest_products(hw_selftest *t)
{
    if (t->promises) {
        check_products(t, HW_F32, HW_MATMUL_FLOAT32);
        check_products(t, HW_F16, HW_MATMUL_FLOAT32);
        for (int way = HW_MATMUL_FLOAT32; way <= HW_MATMUL_BF16; way++)
            check_products(t, HW_BF16, (hw_matmul)way);
    } else check_products(t, t->act, HW_MATMUL_AUTO);
    if (!t->paths[0].device->k->logits) return;
    hw_selftest_begin(t, "logits", "");
    check_logits(t);
    hw_selftest_end(t);
}
