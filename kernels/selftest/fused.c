/* Ops that are several others in one, on devices that have them. */
#include <math.h>
#include <string.h>

#include "kernels/selftest/products.h"

enum { ROWS = HW_SUBJECT_ROWS };

typedef struct fused_params {
    bool centred, gated, has_bias;
    float eps;
    int n_in, n_out; /* of the plain matrix */
    hw_activation act;
} fused_params;

/* Arrays of all three, in this order. */
enum { OUT, X, BIAS, NORM_W, NORM_B, BETWEEN, UP };

static const fused_params *params(const hw_bound *b) { return b->s->own; }
static const float *bias_of(const hw_bound *b) { return params(b)->has_bias ? b->at[BIAS] : NULL; }

static hw_norm norm_of(const hw_bound *b)
{
    const fused_params *p = params(b);
    return (hw_norm){
        .centred = p->centred, .eps = p->eps, .w = b->at[NORM_W], .b = p->centred ? b->at[NORM_B] : NULL};
}

static hw_status norm_matmul(const hw_bound *b, int n)
{
    const hw_norm norm = norm_of(b);
    return b->d->k->fused->norm_matmul(b->d, b->at[OUT], b->at[X], &norm, b->w, bias_of(b), n,
                                       b->at[BETWEEN]);
}

static hw_status norm_matmul_activate(const hw_bound *b, int n)
{
    const hw_norm norm = norm_of(b);
    return b->d->k->fused->norm_matmul_activate(b->d, b->at[OUT], b->at[X], &norm, b->w, bias_of(b), n,
                                                params(b)->act, params(b)->gated, b->at[BETWEEN], b->at[UP]);
}

static hw_status matmul_add(const hw_bound *b, int n)
{
    return b->d->k->fused->matmul_add(b->d, b->at[OUT], b->at[X], b->w, bias_of(b), n, b->at[BETWEEN]);
}

/* ---- the same by plain loops, one op after the other */

static hw_status plain_norm(const hw_bound *b, int n)
{
    const fused_params *p = params(b);
    const hw_kernels *k = b->d->k;
    if (!p->centred) return k->rmsnorm(b->d, b->at[BETWEEN], b->at[X], b->at[NORM_W], n, p->n_in, p->eps);
    return k->layernorm(b->d, b->at[BETWEEN], b->at[X], b->at[NORM_W], b->at[NORM_B], n, p->n_in, p->eps);
}

static hw_status plain_norm_matmul(const hw_bound *b, int n)
{
    hw_status st = plain_norm(b, n);
    return st ? st : b->d->k->matmul(b->d, b->at[OUT], b->at[BETWEEN], b->w, bias_of(b), n);
}

static hw_status plain_norm_matmul_activate(const hw_bound *b, int n)
{
    const fused_params *p = params(b);
    hw_status st = plain_norm(b, n);
    if (!st) st = b->d->k->matmul(b->d, b->at[UP], b->at[BETWEEN], b->w, bias_of(b), n);
    return st ? st
              : b->d->k->activate(b->d, b->at[OUT], b->at[UP], n, p->gated ? p->n_out / 2 : p->n_out, p->act,
                                  p->gated);
}

static hw_status plain_matmul_add(const hw_bound *b, int n)
{
    hw_status st = b->d->k->matmul(b->d, b->at[BETWEEN], b->at[X], b->w, NULL, n);
    return st ? st
              : b->d->k->add_bias_residual(b->d, b->at[OUT], b->at[BETWEEN], bias_of(b), n, params(b)->n_out);
}

/* ---- inputs that all three have */

typedef struct fused {
    hw_sampled m;
    fused_params p;
    hw_subject s;
    float *x, *norm_w, *norm_b;
    size_t n_out, n_in;
} fused;

static bool prepare(hw_selftest *t, fused *f, hw_layer_matrix which, bool halves)
{
    if (t->st || !hw_sampled_make(t, &f->m, which, t->act, halves)) return false;
    f->n_out = f->m.whole.dims.n_out, f->n_in = f->m.whole.dims.n_in;
    f->x = hw_selftest_numbers(t, t->act, ROWS * f->n_in, 1);
    f->norm_w = hw_selftest_numbers(t, HW_F32, f->n_in, 1);
    f->norm_b = hw_selftest_numbers(t, HW_F32, f->n_in, 1);
    f->p.eps = t->shapes.norm_eps, f->p.n_in = (int)f->n_in, f->p.n_out = (int)f->m.n_sample;
    f->s = (hw_subject){.shape = f->m.shape,
                        .most_rows = ROWS,
                        .arrays = {[X] = {.kind = HW_ARRAY_ACTIVE, .start = f->x, .n = ROWS * f->n_in},
                                   [BIAS] = {.kind = HW_ARRAY_FLOATS,
                                             .start = f->m.bias,
                                             .n = f->n_out,
                                             .sample = f->m.sample,
                                             .n_sample = f->m.n_sample,
                                             .plain_start = f->m.plain_bias},
                                   [NORM_W] = {.kind = HW_ARRAY_FLOATS, .start = f->norm_w, .n = f->n_in},
                                   [NORM_B] = {.kind = HW_ARRAY_FLOATS, .start = f->norm_b, .n = f->n_in},
                                   [BETWEEN] = {.kind = HW_ARRAY_ACTIVE,
                                                .n = ROWS * (f->n_in > f->n_out ? f->n_in : f->n_out)},
                                   [UP] = {.kind = HW_ARRAY_ACTIVE, .n = ROWS * f->n_out}},
                        .n_arrays = 7,
                        .matrix = &f->m.whole,
                        .plain_matrix = &f->m.plain,
                        .own = &f->p,
                        .timed = true};
    return !t->st;
}

/* Rows normed by the plain loops. */
static float *normed(hw_selftest *t, const fused *f)
{
    float *out = hw_selftest_take(t, ROWS * f->n_in * sizeof *out);
    const hw_kernels *k = t->reference->k;
    if (!out) return NULL;
    if (f->p.centred)
        t->st = k->layernorm(t->reference, out, f->x, f->norm_w, f->norm_b, ROWS, f->p.n_in, f->p.eps);
    else t->st = k->rmsnorm(t->reference, out, f->x, f->norm_w, ROWS, f->p.n_in, f->p.eps);
    return out;
}

/* A normed number is rounded, and before that off by some roundings of float32. */
static float *norm_slacks(hw_selftest *t, const fused *f)
{
    float *slacks = hw_sampled_sizes(t, &f->m, normed(t, f), f->p.has_bias);
    for (size_t i = 0; i < ROWS * f->m.n_sample && slacks; i++)
        slacks[i] *= (float)(hw_half_ulp(t->act) + 4 * hw_sum_slack(f->n_in));
    return slacks;
}

static void check_norm_matmul(hw_selftest *t, bool centred)
{
    fused f = {.p = {.centred = centred, .has_bias = centred}};
    if (!prepare(t, &f, HW_LAYER_QKV, false)) return;
    f.s.run = norm_matmul, f.s.plain = plain_norm_matmul;
    f.s.arrays[OUT] = (hw_array){.kind = HW_ARRAY_ACTIVE,
                                 .n = ROWS * f.n_out,
                                 .out = true,
                                 .row = f.n_out,
                                 .slacks = norm_slacks(t, &f),
                                 .sample = f.m.sample,
                                 .n_sample = f.m.n_sample};
    if (!t->st) hw_selftest_check(t, &f.s);
}

static double activation(double x, hw_activation act)
{
    switch (act) {
    case HW_ACT_SILU: return x / (1 + exp(-x));
    case HW_ACT_GELU: return 0.5 * x * (1 + erf(x * sqrt(0.5)));
    case HW_ACT_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case HW_ACT_RELU: break;
    }
    return x < 0 ? 0 : x;
}

/* What reaches the activation is off by the product's slack and rounded; no activation is steeper than 1.13. */
static float *activated_slacks(hw_selftest *t, const fused *f)
{
    const float *slacks = norm_slacks(t, f);
    const float *up =
        hw_sampled_product(t, &f->m.plain, normed(t, f), f->p.has_bias ? f->m.plain_bias : NULL);
    const size_t width = f->m.n_sample, n = f->p.gated ? width / 2 : width;
    float *out = hw_selftest_take(t, ROWS * n * sizeof *out);
    for (size_t i = 0; i < ROWS * n && !t->st; i++) {
        const size_t g = i / n * width + i % n;
        const double x = (double)up[g], off = hw_allowed(t->act, fabs(x), (double)slacks[g]);
        double slack = 1.13 * off + 1e-6 * fabs(x);
        if (f->p.gated) {
            const double u = (double)up[g + n], u_off = hw_allowed(t->act, fabs(u), (double)slacks[g + n]);
            slack = slack * (fabs(u) + u_off) + fabs(activation(x, f->p.act)) * u_off;
        }
        out[i] = (float)slack;
    }
    return out;
}

static void check_norm_matmul_activate(hw_selftest *t, hw_activation act, bool gated, bool centred)
{
    fused f = {.p = {.centred = centred, .has_bias = centred, .act = act, .gated = gated}};
    if (!prepare(t, &f, HW_LAYER_UP, gated)) return;
    const size_t times = gated ? 2 : 1;
    f.s.run = norm_matmul_activate, f.s.plain = plain_norm_matmul_activate;
    f.s.arrays[OUT] = (hw_array){.kind = HW_ARRAY_ACTIVE,
                                 .n = ROWS * f.n_out / times,
                                 .out = true,
                                 .row = f.n_out / times,
                                 .slacks = activated_slacks(t, &f),
                                 .sample = f.m.sample,
                                 .n_sample = f.m.n_sample / times};
    if (!t->st) hw_selftest_check(t, &f.s);
}

static void check_matmul_add(hw_selftest *t, hw_layer_matrix which, bool has_bias)
{
    fused f = {.p = {.has_bias = has_bias}};
    if (!prepare(t, &f, which, false)) return;
    const float *start = hw_selftest_numbers(t, t->act, ROWS * f.n_out, 3);
    float *plain = hw_selftest_take(t, ROWS * f.m.n_sample * sizeof *plain);
    float *slacks = hw_sampled_sizes(t, &f.m, f.x, has_bias),
          *sums = hw_sampled_product(t, &f.m.plain, f.x, NULL);
    for (size_t i = 0; i < ROWS * f.m.n_sample && !t->st; i++) {
        plain[i] = start[i / f.m.n_sample * f.n_out + (size_t)f.m.sample[i % f.m.n_sample]];
        slacks[i] = (float)(2 * hw_sum_slack(f.n_in) * (double)slacks[i] +
                            hw_half_ulp(t->act) * fabs((double)sums[i]) + hw_least_step(t->act) +
                            4e-7 * fabs((double)plain[i]));
    }
    f.s.run = matmul_add, f.s.plain = plain_matmul_add;
    f.s.arrays[OUT] = (hw_array){.kind = HW_ARRAY_ACTIVE,
                                 .start = start,
                                 .n = ROWS * f.n_out,
                                 .out = true,
                                 .row = f.n_out,
                                 .slacks = slacks,
                                 .sample = f.m.sample,
                                 .n_sample = f.m.n_sample,
                                 .plain_start = plain};
    if (!t->st) hw_selftest_check(t, &f.s);
}

void hw_selftest_fused(hw_selftest *t)
{
    if (!t->paths[0].device->k->fused) return;
    hw_selftest_begin(t, "norm_matmul", "");
    for (int centred = 0; centred < 2; centred++) check_norm_matmul(t, centred);
    hw_selftest_end(t);
    hw_selftest_begin(t, "norm_matmul_activate", "");
    for (int act = HW_ACT_SILU; act <= HW_ACT_RELU; act++)
        check_norm_matmul_activate(t, (hw_activation)act, act % 2 ? !t->shapes.gated : t->shapes.gated,
                                   act > 1);
    hw_selftest_end(t);
    hw_selftest_begin(t, "matmul_add", "");
    check_matmul_add(t, HW_LAYER_WO, true);
    check_matmul_add(t, HW_LAYER_DOWN, false);
    hw_selftest_end(t);
}
