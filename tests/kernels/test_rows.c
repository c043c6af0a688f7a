#include "tests/kernels/support.h"

/* By hand: the mean square of 1, 2, 3, 4 is 7.5. `want` is rounded to six decimals, hence 1e-6. */
Test(rmsnorm, scales_by_inverse_rms)
{
    const float x[4] = {1, 2, 3, 4}, w[4] = {1, 1, 1, 2};
    const float want[4] = {0.365148f, 0.730297f, 1.095445f, 2.921187f};
    hw_device *reference = open_reference();
    devices all = open_devices();
    for (int i = -1; i < all.n; i++) {
        hw_device *d = i < 0 ? reference : all.at[i];
        float got[4] = {0};
        cr_assert_eq(d->k->rmsnorm(d, got, x, w, 1, 4, 0.0f), HW_OK);
        assert_close(got, want, 4, 1e-6f, hw_device_description(d));
    }
    close_devices(&all);
    hw_device_destroy(reference);
}

/* By hand: 1, 2, 3, 6 have mean 3 and variance 3.5. */
Test(layernorm, centres_and_scales)
{
    const float x[4] = {1, 2, 3, 6}, w[4] = {1, 2, 1, 1}, b[4] = {0, 0, 0.5f, 0};
    const float want[4] = {-1.069045f, -1.069045f, 0.5f, 1.603567f};
    hw_device *reference = open_reference();
    devices all = open_devices();
    for (int i = -1; i < all.n; i++) {
        hw_device *d = i < 0 ? reference : all.at[i];
        float got[4] = {0};
        cr_assert_eq(d->k->layernorm(d, got, x, w, b, 1, 4, 0.0f), HW_OK);
        assert_close(got, want, 4, 1e-6f, hw_device_description(d));
    }
    close_devices(&all);
    hw_device_destroy(reference);
}

/* By hand from tables: silu(1) = 1 / (1 + 1/e); gelu(1) = Phi(1); gelu_tanh(1) from the formula. Six
 * decimals. */
Test(activate, matches_values_from_tables)
{
    const float x[2] = {1, -2};
    const float want[4][2] = {
        {0.731059f, -0.238406f}, {0.841345f, -0.045500f}, {0.841192f, -0.045402f}, {1, 0}};
    hw_device *reference = open_reference();
    devices all = open_devices();
    for (int i = -1; i < all.n; i++) {
        hw_device *d = i < 0 ? reference : all.at[i];
        for (int act = HW_ACT_SILU; act <= HW_ACT_RELU; act++) {
            float got[2];
            d->k->activate(d, got, x, 1, 2, (hw_activation)act, false);
            assert_close(got, want[act], 2, 1e-6f, hw_device_description(d));
        }
    }
    close_devices(&all);
    hw_device_destroy(reference);
}

enum { ROWS = 9, MOST_DIM = 4103 };
static const int dims[] = {1, 15, 16, 17, 131, MOST_DIM};
enum { N_DIMS = sizeof dims / sizeof *dims };

typedef void op(hw_device *d, float *out, const float *x, const float *w, const float *b, int n, int dim);

static void op_rmsnorm(hw_device *d, float *out, const float *x, const float *w, const float *b, int n,
                       int dim)
{
    (void)b;
    d->k->rmsnorm(d, out, x, w, n, dim, 1e-5f);
}
static void op_layernorm(hw_device *d, float *out, const float *x, const float *w, const float *b, int n,
                         int dim)
{
    d->k->layernorm(d, out, x, w, dim % 2 ? b : NULL, n, dim, 1e-5f);
}
static void op_residual(hw_device *d, float *out, const float *x, const float *w, const float *b, int n,
                        int dim)
{
    (void)w;
    for (int i = 0; i < n * dim; i++) out[i] = x[n * dim - 1 - i];
    d->k->add_bias_residual(d, out, x, dim % 2 ? b : NULL, n, dim);
}
static void op_select(hw_device *d, float *out, const float *x, const float *w, const float *b, int n,
                      int dim)
{
    (void)w, (void)b;
    const int32_t rows[ROWS] = {3, 3, 0, 8, 1, 2, 7, 5, 4};
    d->k->select_rows(d, out, x, rows, n, dim);
}

/* The devices agree with the reference within `tolerance`, and with each other to the bit, for any number of
 * rows. */
static void check(op *run, float tolerance, const char *what)
{
    hw_device *reference = open_reference();
    devices all = open_devices();
    for (int c = 0; c < N_DIMS; c++) {
        size_t n = (size_t)dims[c] * ROWS;
        float *x = noise_array(n, 1), *w = noise_array((size_t)dims[c], 2),
              *b = noise_array((size_t)dims[c], 3);
        float *want = malloc(n * 4), *plain = malloc(n * 4), *got = malloc(n * 4);
        run(reference, want, x, w, b, ROWS, dims[c]);
        run(all.at[0], plain, x, w, b, ROWS, dims[c]);
        assert_close(plain, want, n, tolerance, what);
        for (int i = 0; i < all.n; i++) {
            run(all.at[i], got, x, w, b, ROWS, dims[c]);
            assert_same_bits(got, plain, n * 4, hw_device_description(all.at[i]));
            if (run == op_residual) continue; /* its input depends on the number of rows */
            memset(got, 0, n * 4);
            run(all.at[i], got, x, w, b, 1, dims[c]);
            assert_same_bits(got, plain, (size_t)dims[c] * 4, "one row alone");
        }
        free(x), free(w), free(b), free(want), free(plain), free(got);
    }
    close_devices(&all);
    hw_device_destroy(reference);
}

/* Results are below 12 in size; a few roundings of 6e-8 each, and the sum's own error is divided by two under
 * the root. */
Test(rmsnorm, agrees_with_the_reference_and_has_the_same_bits_everywhere)
{
    check(op_rmsnorm, 5e-6f, "rmsnorm");
}
Test(layernorm, agrees_with_the_reference_and_has_the_same_bits_everywhere)
{
    check(op_layernorm, 1e-5f, "layernorm"); /* with two or three numbers the variance can be small */
}
/* Two additions in the same order, and copies: equal. */
Test(add_bias_residual, equals_the_reference) { check(op_residual, 0, "residual"); }
Test(select_rows, equals_the_reference) { check(op_select, 0, "select"); }

/* From far below underflow to far above overflow in small steps. exp is within 1.1 ulp (1.3e-7), a division
 * and two products add half an ulp each; gelu's erf is within 1.2e-7 and cancels against 1 for negative x,
 * whence the absolute part in x. */
Test(activate, agrees_with_the_reference_over_the_whole_range)
{
    enum { N = 5000, WIDTH = 2500 };
    hw_device *reference = open_reference();
    devices all = open_devices();
    float *x = noise_array(2 * N, 4), want[N], plain[N], got[N];
    for (int i = 0; i < N; i++) x[i] = (float)(i - N / 2) * 0.05f + x[i] * 0.01f;
    for (int act = HW_ACT_SILU; act <= HW_ACT_RELU; act++)
        for (int gated = 0; gated < 2; gated++) {
            int rows = gated ? 1 : N / WIDTH, width = gated ? N : WIDTH;
            reference->k->activate(reference, want, x, rows, width, (hw_activation)act, gated);
            for (int i = 0; i < all.n; i++) {
                hw_device *d = all.at[i];
                d->k->activate(d, got, x, rows, width, (hw_activation)act, gated);
                if (!i) memcpy(plain, got, sizeof got);
                assert_same_bits(got, plain, sizeof got, hw_device_description(d));
            }
            for (int i = 0; i < N; i++) {
                float up = gated ? fabsf(x[N + i]) : 1, size = fabsf(x[i]) * up;
                float tolerance =
                    5e-7f * fabsf(want[i]) + 2e-36f; /* beyond 88.73 exp is infinite, and x / exp 0 */
                if (act == HW_ACT_GELU) tolerance += 1.5e-7f * size;
                /* exp(-u) multiplies u's own rounding, which for gelu_tanh reaches u = 100 where the result
                 * vanishes. */
                if (act == HW_ACT_GELU_TANH) tolerance += 1.5e-7f * size;
                cr_assert(fabsf(plain[i] - want[i]) <= tolerance, "act %d gated %d x %g: %.9g, want %.9g",
                          act, gated, (double)x[i], (double)plain[i], (double)want[i]);
            }
        }
    free(x);
    close_devices(&all);
    hw_device_destroy(reference);
}

Test(activate, lets_nan_through)
{
    devices all = open_devices();
    for (int i = 0; i < all.n; i++)
        for (int act = HW_ACT_SILU; act <= HW_ACT_RELU; act++) {
            float x[3] = {1, NAN, 2}, out[3];
            all.at[i]->k->activate(all.at[i], out, x, 1, 3, (hw_activation)act, false);
            cr_assert(isnan(out[1]) && !isnan(out[0]) && !isnan(out[2]));
        }
    close_devices(&all);
}
