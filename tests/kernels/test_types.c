/* Devices in plug-ins, with activations of every type, against plain loops in double on fresh random inputs.
 * Inputs are numbers of the type, so what differs is what the op rounds. */
#include "tests/kernels/types.h"

/* ---- matrices */

typedef struct linear {
    size_t n_out, n_in;
    float *values, *bias; /* bias is float32 */
    hw_weight *w;
    void *bias_there;
} linear;

static linear make_linear(hw_device *d, size_t n_out, size_t n_in, bool has_bias)
{
    linear l = {.n_out = n_out, .n_in = n_in, .values = numbers(d->act, n_out * n_in, 0.25f)};
    hw_weight_dims dims = {.n_out = n_out, .n_in = n_in, .format = hw_format_plain(d->act)};
    const hw_weight_piece piece = {
        .src = l.values, .dtype = HW_F32, .stride_out = n_in, .stride_in = 1, .n_out = n_out, .n_in = n_in};
    hw_error err = {.rank = -1};
    for (int c = 1; c <= HW_N_CUTS; c++) dims.cuts[c] = n_in;
    cr_assert_eq(d->k->weight_create(d, &l.w, &dims, &err), HW_OK, "%s", err.message);
    cr_assert_eq(d->k->weight_put(d, l.w, &piece, &err), HW_OK, "%s", err.message);
    if (has_bias) l.bias = numbers(HW_F32, n_out, 1), l.bias_there = there(d, HW_F32, l.bias, n_out);
    return l;
}

static void drop_linear(hw_device *d, linear *l)
{
    d->k->weight_destroy(d, l->w);
    d->k->free(d, l->bias_there);
    free(l->values), free(l->bias);
}

/* out[r][o] = W x + bias, size: the sum of the sizes of what is added. */
static void multiply(double *out, double *size, const linear *l, const double *x, size_t n)
{
    for (size_t r = 0; r < n; r++)
        for (size_t o = 0; o < l->n_out; o++) {
            double sum = l->bias ? (double)l->bias[o] : 0, total = fabs(sum);
            for (size_t i = 0; i < l->n_in; i++) {
                const double product = x[r * l->n_in + i] * (double)l->values[o * l->n_in + i];
                sum += product, total += fabs(product);
            }
            out[r * l->n_out + o] = sum, size[r * l->n_out + o] = total;
        }
}

static double *wide(const float *x, size_t n)
{
    double *y = malloc((n + 1) * sizeof *y);
    for (size_t i = 0; i < n; i++) y[i] = (double)x[i];
    return y;
}

/* Rows of every way: by one pass over the weights with 1, 2, 4, 8 rows in it, by cuBLASLt, and by cuBLASLt where
 * it has no way (the SIMT layer's has none for 13 rows). Inputs that are whole packs, and that are not; more inputs
 * than fit into shared memory for several rows; just as many as a block has without asking; few outputs, which several warps share. */
static const struct {
    size_t n_out, n_in;
    int n;
} products[] = {{40, 64, 1},  {37, 77, 1},   {6, 2048, 1}, {3, 2999, 2}, {70, 136, 3},
                {129, 40, 4}, {33, 200, 5},  {18, 96, 8},  {2, 2500, 7}, {50, 72, 9},
                {31, 45, 13}, {64, 128, 21}, {3, 3072, 8}};
enum { N_PRODUCTS = sizeof products / sizeof *products };

Test(matmul, of_every_type_agrees_with_a_plain_loop)
{
    for (int t = 0; t < N_TYPES; t++) {
        hw_device *d = open_device(types[t]);
        for (int c = 0; c < N_PRODUCTS; c++) {
            const size_t n = (size_t)products[c].n, n_out = products[c].n_out, total = n * n_out;
            linear l = make_linear(d, n_out, products[c].n_in, c % 2);
            float *x = numbers(types[t], n * l.n_in, 1), *got;
            double *in = wide(x, n * l.n_in), *want = doubles(total), *slack = doubles(total);
            void *from = there(d, types[t], x, n * l.n_in), *to = there(d, types[t], NULL, total),
                 *logits = there(d, HW_F32, NULL, total);
            multiply(want, slack, &l, in, n);
            /* A bias that a 16-bit product cannot take with it is added to what was rounded. */
            for (size_t i = 0; i < total; i++)
                slack[i] = SUM * slack[i] +
                           (l.bias ? hw_half_ulp(types[t]) * fabs(want[i] - (double)l.bias[i % n_out]) : 0);
            cr_assert_eq(d->k->matmul(d, to, from, l.w, l.bias_there, (int)n), HW_OK);
            got = back(d, types[t], to, total);
            expect(got, want, slack, total, hw_half_ulp(types[t]), hw_least_step(types[t]), "matmul",
                   types[t]);
            free(got);
            cr_assert_eq(d->k->logits(d, logits, from, l.w, (int)n), HW_OK);
            got = back(d, HW_F32, logits, total);
            for (size_t i = 0; i < total && l.bias; i++) want[i] -= (double)l.bias[i % n_out];
            expect(got, want, slack, total, hw_half_ulp(HW_F32), 0, "logits", types[t]);
            d->k->free(d, from);
            drop_linear(d, &l), free(x), free(got), free(in), free(want), free(slack);
        }
        hw_device_destroy(d);
    }
}

/* Twice as many numbers of rows as the device keeps algorithms for, each twice: an algorithm is found again,
 * chosen again, and never taken for another number. */
Test(matmul, of_more_shapes_than_are_kept_agree)
{
    enum { FIRST = 9, N_COUNTS = 128, LAST = FIRST + N_COUNTS, N_OUT = 4, N_IN = 16 };
    hw_device *d = open_device(HW_F32);
    linear l = make_linear(d, N_OUT, N_IN, false);
    float *x = numbers(HW_F32, LAST * N_IN, 1);
    double *in = wide(x, LAST * N_IN), *want = doubles(LAST * N_OUT), *slack = doubles(LAST * N_OUT);
    void *from = there(d, HW_F32, x, LAST * N_IN);
    multiply(want, slack, &l, in, LAST);
    for (int i = 0; i < LAST * N_OUT; i++) slack[i] *= SUM;
    for (int i = 0; i < 2 * N_COUNTS; i++) {
        const size_t n = (size_t)(FIRST + i % N_COUNTS);
        void *to = there(d, HW_F32, NULL, n * N_OUT);
        cr_assert_eq(d->k->matmul(d, to, from, l.w, NULL, (int)n), HW_OK);
        float *got = back(d, HW_F32, to, n * N_OUT);
        expect(got, want, slack, n * N_OUT, hw_half_ulp(HW_F32), 0, "matmul", HW_F32);
        free(got);
    }
    d->k->free(d, from);
    drop_linear(d, &l), free(x), free(in), free(want), free(slack);
    hw_device_destroy(d);
}

static void norm_row(double *out, const float *x, const float *w, const float *b, bool centred, size_t dim)
{
    double mean = 0, squares = 0;
    for (size_t i = 0; i < dim; i++) mean += centred ? (double)x[i] / (double)dim : 0;
    for (size_t i = 0; i < dim; i++) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    const double inverse = 1 / sqrt(squares / (double)dim + 1e-5);
    for (size_t i = 0; i < dim; i++)
        out[i] = ((double)x[i] - mean) * inverse * (double)w[i] + (b ? (double)b[i] : 0);
}

static double act_of(double x, hw_activation act)
{
    switch (act) {
    case HW_ACT_SILU: return x / (1 + exp(-x));
    case HW_ACT_GELU: return 0.5 * x * (1 + erf(x * sqrt(0.5)));
    case HW_ACT_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    case HW_ACT_RELU: break;
    }
    return x < 0 ? 0 : x;
}

/* What comes between the ops of a fused one is rounded to the type or not: the slack is what both may do.
 * No activation is steeper than 1.13. */
static void check_fused(hw_device *d, int c)
{
    const double ulp = hw_half_ulp(d->act);
    const size_t n = (size_t)products[c].n, dim = products[c].n_in, ffn = products[c].n_out;
    const bool centred = c % 2, gated = c % 3 != 1;
    const hw_activation act = (hw_activation)(c % 4);
    linear l = make_linear(d, gated ? 2 * ffn : ffn, dim, centred);
    const size_t total = n * l.n_out, n_act = n * ffn;
    float *x = numbers(d->act, n * dim, 3), *w = numbers(HW_F32, dim, 1), *b = numbers(HW_F32, dim, 1), *got;
    double *normed = doubles(n * dim), *want = doubles(total), *slack = doubles(total),
           *acted = doubles(n_act), *act_slack = doubles(n_act);
    void *from = there(d, d->act, x, n * dim), *between = there(d, d->act, NULL, n * dim),
         *up = there(d, d->act, NULL, total), *to = there(d, d->act, NULL, total),
         *to_act = there(d, d->act, NULL, n_act);
    void *w_there = there(d, HW_F32, w, dim), *b_there = centred ? there(d, HW_F32, b, dim) : NULL;
    const hw_norm norm = {.centred = centred, .eps = 1e-5f, .w = w_there, .b = b_there};

    for (size_t r = 0; r < n; r++)
        norm_row(normed + r * dim, x + r * dim, w, centred ? b : NULL, centred, dim);
    multiply(want, slack, &l, normed, n);
    /* A normed number is rounded, and before that off by some roundings of float32; with a mean near its
     * size, as three numbers can have, by more. */
    for (size_t i = 0; i < total; i++) slack[i] *= ulp + 3 * SUM;
    cr_assert_eq(d->k->fused->norm_matmul(d, to, from, &norm, l.w, l.bias_there, (int)n, between), HW_OK);
    got = back(d, d->act, to, total);
    expect(got, want, slack, total, ulp, hw_least_step(d->act), "norm_matmul", d->act);
    free(got);

    for (size_t r = 0; r < n; r++)
        for (size_t o = 0; o < ffn; o++) {
            const size_t g = r * l.n_out + o, i = r * ffn + o;
            const double eg = slack[g] + ulp * (fabs(want[g]) + slack[g]) + hw_least_step(d->act),
                         a = act_of(want[g], act);
            acted[i] = a, act_slack[i] = 1.13 * eg + 3e-7 * fabs(want[g]);
            if (!gated) continue;
            const double u = want[g + ffn],
                         eu = slack[g + ffn] + ulp * (fabs(u) + slack[g + ffn]) + hw_least_step(d->act);
            act_slack[i] = act_slack[i] * (fabs(u) + eu) + fabs(a) * eu;
            acted[i] = a * u;
        }
    cr_assert_eq(d->k->fused->norm_matmul_activate(d, to_act, from, &norm, l.w, l.bias_there, (int)n, act,
                                                   gated, between, up),
                 HW_OK);
    got = back(d, d->act, to_act, n_act);
    expect(got, acted, act_slack, n_act, ulp, hw_least_step(d->act), "norm_matmul_activate", d->act);
    d->k->free(d, from), d->k->free(d, between), d->k->free(d, up), d->k->free(d, w_there),
        d->k->free(d, b_there);
    drop_linear(d, &l), free(got), free(x), free(w), free(b);
    free(normed), free(want), free(slack), free(acted), free(act_slack);
}

Test(fused, norm_and_activation_agree_with_plain_loops)
{
    for (int t = 0; t < N_TYPES; t++) {
        hw_device *d = open_device(types[t]);
        for (int c = 0; c < N_PRODUCTS; c++) check_fused(d, c);
        hw_device_destroy(d);
    }
}

Test(fused, matmul_add_agrees_with_a_plain_loop)
{
    for (int t = 0; t < N_TYPES; t++) {
        hw_device *d = open_device(types[t]);
        const double ulp = hw_half_ulp(types[t]);
        for (int c = 0; c < N_PRODUCTS; c++) {
            const size_t n = (size_t)products[c].n, n_out = products[c].n_out, total = n * n_out;
            linear l = make_linear(d, n_out, products[c].n_in, c % 2);
            float *in = numbers(types[t], n * l.n_in, 1), *x = numbers(types[t], total, 3), *got;
            double *in_wide = wide(in, n * l.n_in), *want = doubles(total), *slack = doubles(total);
            void *from = there(d, types[t], in, n * l.n_in), *to = there(d, types[t], x, total),
                 *between = there(d, types[t], NULL, total);
            multiply(want, slack, &l, in_wide, n);
            for (size_t i = 0; i < total; i++) {
                const double y = want[i] - (l.bias ? (double)l.bias[i % n_out] : 0);
                slack[i] =
                    SUM * slack[i] + ulp * fabs(y) + hw_least_step(types[t]) + 2e-7 * fabs((double)x[i]);
                want[i] += (double)x[i];
            }
            cr_assert_eq(d->k->fused->matmul_add(d, to, from, l.w, l.bias_there, (int)n, between), HW_OK);
            got = back(d, types[t], to, total);
            expect(got, want, slack, total, ulp, hw_least_step(types[t]), "matmul_add", types[t]);
            d->k->free(d, from), d->k->free(d, between);
            drop_linear(d, &l), free(in), free(x), free(got), free(in_wide), free(want), free(slack);
        }
        hw_device_destroy(d);
    }
}

/* ---- rows */

static void check_rows(hw_device *d, size_t dim, size_t n)
{
    const double ulp = hw_half_ulp(d->act);
    const size_t total = n * dim;
    float *x = numbers(d->act, total, 3), *y = numbers(d->act, total, 3), *b = numbers(HW_F32, dim, 1),
          *w = numbers(HW_F32, dim, 1), *got;
    double *want = doubles(total), *slack = doubles(total);
    void *b_there = there(d, HW_F32, b, dim), *w_there = there(d, HW_F32, w, dim),
         *x_there = there(d, d->act, x, total), *y_there = there(d, d->act, y, total), *to;

    for (int centred = 0; centred < 2; centred++) {
        to = there(d, d->act, NULL, total);
        for (size_t r = 0; r < n; r++)
            norm_row(want + r * dim, x + r * dim, w, centred ? b : NULL, centred, dim);
        /* Roundings of x - mean and of the factor, where the norm makes small differences large. */
        for (size_t i = 0; i < total; i++) slack[i] = 2e-5;
        if (centred) d->k->layernorm(d, to, x_there, w_there, b_there, (int)n, (int)dim, 1e-5f);
        else d->k->rmsnorm(d, to, x_there, w_there, (int)n, (int)dim, 1e-5f);
        got = back(d, d->act, to, total);
        expect(got, want, slack, total, ulp, hw_least_step(d->act), centred ? "layernorm" : "rmsnorm",
               d->act);
        free(got);
    }
    for (size_t i = 0; i < total; i++) {
        want[i] = (double)x[i] + (double)y[i] + (double)b[i % dim];
        slack[i] = 1e-6;
    }
    d->k->add_bias_residual(d, x_there, y_there, b_there, (int)n, (int)dim);
    got = back(d, d->act, x_there, total);
    expect(got, want, slack, total, ulp, hw_least_step(d->act), "add_bias_residual", d->act);
    free(got);

    for (int gated = 0; gated < 2 && n % 2 == 0; gated++) {
        const size_t n_rows = gated ? n / 2 : n;
        to = there(d, d->act, NULL, n_rows * dim);
        for (size_t i = 0; i < n_rows * dim; i++) {
            const size_t r = i / dim, k = i % dim;
            const double in = (double)y[gated ? 2 * r * dim + k : i],
                         up = gated ? (double)y[(2 * r + 1) * dim + k] : 1;
            want[i] = act_of(in, HW_ACT_SILU) * up, slack[i] = 1e-6 * fabs(in * up);
        }
        d->k->activate(d, to, y_there, (int)n_rows, (int)dim, HW_ACT_SILU, gated);
        got = back(d, d->act, to, n_rows * dim);
        expect(got, want, slack, n_rows * dim, ulp, hw_least_step(d->act), "activate", d->act);
        free(got);
    }
    d->k->free(d, b_there), d->k->free(d, w_there), d->k->free(d, y_there);
    free(x), free(y), free(b), free(w), free(want), free(slack);
}

Test(rows, of_every_type_agree_with_plain_loops)
{
    static const size_t dims[] = {1, 8, 15, 136, 1031, 4096};
    for (int t = 0; t < N_TYPES; t++) {
        hw_device *d = open_device(types[t]);
        for (size_t c = 0; c < sizeof dims / sizeof *dims; c++) check_rows(d, dims[c], c % 2 ? 4 : 3);
        hw_device_destroy(d);
    }
}

Test(gather, of_every_type_copies_and_adds)
{
    for (int t = 0; t < N_TYPES; t++)
        for (size_t dim = 24; dim <= 45; dim += 21) {
            hw_device *d = open_device(types[t]);
            const int32_t ids[4] = {106, 99, 122, 123};
            linear table = make_linear(d, 23, dim, false);
            const size_t total = 4 * dim;
            float *x = numbers(types[t], total, 1), *got;
            double *want = doubles(total), *slack = doubles(total);
            void *to = there(d, types[t], x, total);
            int32_t *ids_at = ids_there(d, ids, 4);
            d->k->gather(d, to, table.w, ids_at, 4, 100, true);
            got = back(d, types[t], to, total);
            for (size_t i = 0; i < total; i++) {
                const bool here = ids[i / dim] >= 100 && ids[i / dim] < 123;
                want[i] = (double)x[i];
                if (here) want[i] += (double)table.values[(size_t)(ids[i / dim] - 100) * dim + i % dim];
            }
            expect(got, want, slack, total, hw_half_ulp(types[t]), hw_least_step(types[t]), "gather",
                   types[t]);
            d->k->free(d, ids_at);
            drop_linear(d, &table), free(x), free(got), free(want), free(slack);
            hw_device_destroy(d);
        }
}

/* ---- copies */

/* More than the memory that they go through, which has to be taken again and again. */
Test(copy_in, has_read_what_is_written_again_at_once)
{
    static const size_t sizes[] = {3, (8 << 20) + 5, 100, 3 << 20, 7 << 20};
    enum { N = sizeof sizes / sizeof *sizes };
    hw_device *d = open_device(HW_F32);
    hw_error err = {.rank = -1};
    char *host = malloc(sizes[1]);
    void *at[N];
    for (size_t i = 0; i < N; i++) {
        cr_assert_eq(d->k->alloc(d, &at[i], sizes[i], &err), HW_OK, "%s", err.message);
        memset(host, (int)i + 1, sizes[i]);
        cr_assert_eq(d->k->copy_in(d, at[i], host, sizes[i]), HW_OK);
    }
    for (size_t i = 0; i < N; i++) {
        cr_assert_eq(d->k->copy_out(d, host, at[i], sizes[i]), HW_OK);
        cr_assert_eq(d->k->synchronize(d, &err), HW_OK, "%s", err.message);
        size_t n_same = 0;
        while (n_same < sizes[i] && host[n_same] == (char)(i + 1)) n_same++;
        cr_expect_eq(n_same, sizes[i], "copy %zu is right up to byte %zu", i, n_same);
        d->k->free(d, at[i]);
    }
    free(host);
    hw_device_destroy(d);
}
