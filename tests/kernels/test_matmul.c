#include <float.h>

#include "tests/kernels/support.h"

/* A matrix in host memory and what it is to be on a device. */
typedef struct matrix {
    hw_weight_dims dims;
    float *values; /* [n_out, n_in], already rounded to the type that the device keeps */
} matrix;

static matrix make_matrix(size_t n_out, const size_t cut_sizes[HW_N_CUTS], hw_dtype dtype)
{
    matrix m = {.dims = {.n_out = n_out, .format = hw_format_plain(dtype)}};
    for (int c = 0; c < HW_N_CUTS; c++) m.dims.cuts[c + 1] = m.dims.cuts[c] + cut_sizes[c];
    m.dims.n_in = m.dims.cuts[HW_N_CUTS];
    m.values = noise_array(n_out * m.dims.n_in, n_out + m.dims.n_in);
    for (size_t i = 0; i < n_out * m.dims.n_in; i++) {
        uint32_t kept;
        hw_convert(&kept, dtype, &m.values[i], HW_F32, 1);
        hw_convert(&m.values[i], HW_F32, &kept, dtype, 1);
    }
    return m;
}

/* The whole matrix in one piece of `dtype`, transposed in memory or not. */
static void put_whole(hw_device *d, hw_weight *w, const matrix *m, hw_dtype dtype, bool transposed)
{
    size_t n_out = m->dims.n_out, n_in = m->dims.n_in, size = hw_dtype_size(dtype);
    char *src = malloc(n_out * n_in * size + 1), *odd_address = src + 1; /* sources need no alignment */
    for (size_t o = 0; o < n_out; o++)
        for (size_t i = 0; i < n_in; i++)
            hw_convert(odd_address + (transposed ? i * n_out + o : o * n_in + i) * size, dtype,
                       &m->values[o * n_in + i], HW_F32, 1);
    hw_weight_piece piece = {.src = odd_address,
                             .dtype = dtype,
                             .n_out = n_out,
                             .n_in = n_in,
                             .stride_out = transposed ? 1 : n_in,
                             .stride_in = transposed ? n_out : 1};
    cr_assert_eq(d->k->weight_put(d, w, &piece, NULL), HW_OK);
    free(src);
}

/* The matrix in rectangles of odd sizes, last ones first. */
static void put_in_pieces(hw_device *d, hw_weight *w, const matrix *m)
{
    const size_t step_out = 13, step_in = 37;
    size_t n_out = m->dims.n_out, n_in = m->dims.n_in;
    for (size_t o = (n_out - 1) / step_out * step_out;; o -= step_out) {
        for (size_t i = (n_in - 1) / step_in * step_in;; i -= step_in) {
            hw_weight_piece piece = {.src = m->values + o * n_in + i,
                                     .dtype = HW_F32,
                                     .stride_out = n_in,
                                     .stride_in = 1,
                                     .first_out = o,
                                     .first_in = i,
                                     .n_out = n_out - o < step_out ? n_out - o : step_out,
                                     .n_in = n_in - i < step_in ? n_in - i : step_in};
            cr_assert_eq(d->k->weight_put(d, w, &piece, NULL), HW_OK);
            if (!i) break;
        }
        if (!o) break;
    }
}

static hw_weight *create(hw_device *d, const matrix *m)
{
    hw_weight *w;
    hw_error err = {.rank = -1};
    cr_assert_eq(d->k->weight_create(d, &w, &m->dims, &err), HW_OK, "%s", err.message);
    return w;
}

/* y = W x + b in double. */
static void naive(float *out, float *size, const matrix *m, const float *x, const float *bias, size_t n)
{
    for (size_t r = 0; r < n; r++)
        for (size_t o = 0; o < m->dims.n_out; o++) {
            double sum = bias ? (double)bias[o] : 0, total = fabs(sum);
            for (size_t i = 0; i < m->dims.n_in; i++) {
                double product = (double)x[r * m->dims.n_in + i] * (double)m->values[o * m->dims.n_in + i];
                sum += product, total += fabs(product);
            }
            out[r * m->dims.n_out + o] = (float)sum;
            size[r * m->dims.n_out + o] = (float)total;
        }
}

/* The promised bits; on devices that promise none, what the order of additions can change: see `agrees_with_a_naive_loop_in_double`. */
static void assert_promised(const float *got, const float *want, const float *size, size_t n,
                            const char *what)
{
    if (EXACT) assert_same_bits(got, want, n * sizeof *got, what);
    for (size_t i = 0; i < n; i++)
        cr_assert(fabsf(got[i] - want[i]) <= 2e-6f * size[i], "%s: [%zu] is %.9g, want %.9g", what, i,
                  (double)got[i], (double)want[i]);
}

/* Uneven cuts, empty ones at either end and inside, tails of 1 and 31. */
static const size_t cut_cases[][HW_N_CUTS] = {
    {77},
    {64, 64, 64, 64, 64, 64, 64, 64},
    {0, 33, 0, 0, 31, 1, 64, 0},
    {0, 0, 0, 40, 0, 0, 0, 0},
    {5, 6, 7, 8, 9, 10, 11, 12},
    {0, 0, 0, 0, 0, 96, 3, 2000},
};
static const hw_dtype dtypes[] = {HW_F32, HW_F16, HW_BF16};
enum { N_CUT_CASES = sizeof cut_cases / sizeof *cut_cases, N_DTYPES = 3 };

/* A sum of n float32 products in blocks is off by less than n / 4 half-ulps of the sum of their sizes; 2e-6 covers 2100 inputs
 * generously, since errors do not all point one way. */
Test(matmul, agrees_with_a_naive_loop_in_double)
{
    hw_device *reference = open_reference();
    for (int c = 0; c < N_CUT_CASES; c++)
        for (int t = 0; t < N_DTYPES; t++) {
            const size_t n = 3, n_out = 37;
            matrix m = make_matrix(n_out, cut_cases[c], dtypes[t]);
            float *x = noise_array(n * m.dims.n_in, 5), *bias = noise_array(n_out, 6);
            float got[3 * 37], want[3 * 37], size[3 * 37];
            hw_weight *w = create(reference, &m);
            put_whole(reference, w, &m, dtypes[t], false);
            reference->k->matmul(reference, got, x, w, bias, (int)n);
            naive(want, size, &m, x, bias, n);
            for (size_t i = 0; i < n * n_out; i++)
                cr_assert(fabsf(got[i] - want[i]) <= 2e-6f * size[i], "cuts %d type %d: [%zu] %g, want %g", c,
                          t, i, (double)got[i], (double)want[i]);
            reference->k->weight_destroy(reference, w);
            free(x), free(bias), free(m.values);
        }
    hw_device_destroy(reference);
}

/* The reference follows the promised order to the letter, so this is equality, not closeness. */
Test(matmul, has_the_promised_bits_on_every_instruction_set_and_number_of_threads_and_rows)
{
    static const int row_counts[] = {1, 2, 5, 6, 7, 8, 9, 64, 99};
    hw_device *reference = open_reference();
    devices all = open_devices();
    for (int c = 0; c < N_CUT_CASES; c++)
        for (int t = 0; t < N_DTYPES; t++) {
            if (!is_kept(dtypes[t])) continue;
            const size_t n_out = 83, most_rows = 99;
            matrix m = make_matrix(n_out, cut_cases[c], dtypes[t]);
            float *x = noise_array(most_rows * m.dims.n_in, 7), *bias = noise_array(n_out, 8);
            float *want = malloc(most_rows * n_out * sizeof *want),
                  *size = malloc(most_rows * n_out * sizeof *size),
                  *got = malloc(most_rows * n_out * sizeof *got);
            naive(want, size, &m, x, bias, most_rows);
            hw_weight *w = create(reference, &m);
            put_whole(reference, w, &m, dtypes[t], false);
            reference->k->matmul(reference, want, x, w, bias, (int)most_rows);
            reference->k->weight_destroy(reference, w);
            for (int i = 0; i < all.n; i++) {
                hw_device *d = all.at[i];
                w = create(d, &m);
                put_whole(d, w, &m, dtypes[t], false);
                for (size_t n = 0; n < sizeof row_counts / sizeof *row_counts; n++) {
                    memset(got, 0xff, most_rows * n_out * sizeof *got);
                    d->k->matmul(d, got, x, w, bias, row_counts[n]);
                    assert_promised(got, want, size, (size_t)row_counts[n] * n_out, hw_device_description(d));
                }
                d->k->weight_destroy(d, w);
            }
            free(want), free(size), free(got), free(x), free(bias), free(m.values);
        }
    close_devices(&all);
    hw_device_destroy(reference);
}

#ifndef HW_TEST_PLUGIN
/* Inputs of all sizes: some so small that their lower terms, their products or they themselves are flushed. */
static float *inputs_of_all_sizes(size_t n)
{
    float *x = noise_array(n, 31);
    for (size_t i = 0; i < n; i++)
        if (i % 5 == 1) x[i] = ldexpf(x[i], i % 3 ? -(int)(i % 150) : (int)(i % 30));
    return x;
}

/* One to three tiles of rows, whole and in part, on both sides of what matrix units are used for; reference, multiply-adds
 * and tiles (here emulated) share no code but the splitting of rows, which the reference does on its own. */
Test(matmul, by_terms_has_the_promised_bits_with_multiply_adds_and_on_tiles)
{
    static const int row_counts[] = {1, 4, 5, 16, 37, 99};
    const hw_matmul ways[] = {HW_MATMUL_BF16X3, HW_MATMUL_BF16};
    hw_device *reference = open_reference();
    devices all = open_devices();
    for (int c = 0; c < N_CUT_CASES - 1; c++) /* the longest would take longest */
        for (int way = 0; way < 2; way++) {
            const size_t n_out = 59, most_rows = 99;
            matrix m = make_matrix(n_out, cut_cases[c], HW_BF16);
            m.values[n_out * m.dims.n_in - 1] = 1e-39f; /* a weight that is flushed */
            float *x = inputs_of_all_sizes(most_rows * m.dims.n_in), *bias = noise_array(n_out, 8);
            float *want = malloc(most_rows * n_out * sizeof *want),
                  *got = malloc(most_rows * n_out * sizeof *got);
            reference->matmul = ways[way];
            hw_weight *w = create(reference, &m);
            put_whole(reference, w, &m, HW_BF16, false);
            reference->k->matmul(reference, want, x, w, bias, (int)most_rows);
            reference->k->weight_destroy(reference, w);
            for (int i = 0; i < all.n; i++) {
                hw_device *d = all.at[i];
                cr_assert_eq(hw_device_choose_matmul(d, ways[way], NULL), HW_OK);
                w = create(d, &m);
                put_whole(d, w, &m, HW_BF16, false);
                for (size_t n = 0; n < sizeof row_counts / sizeof *row_counts; n++) {
                    memset(got, 0xff, most_rows * n_out * sizeof *got);
                    d->k->matmul(d, got, x, w, bias, row_counts[n]);
                    assert_same_bits(got, want, (size_t)row_counts[n] * n_out * 4, hw_device_description(d));
                }
                d->k->weight_destroy(d, w);
            }
            free(want), free(got), free(x), free(bias), free(m.values);
        }
    close_devices(&all);
    hw_device_destroy(reference);
}

/* Cuts that end inside a panel of blocks and some that are longer than one, so that every sum of the tree waits for the next
 * panel in one of the cases. */
static const size_t long_cuts[][HW_N_CUTS] = {
    {2500},
    {300, 700, 0, 1100, 40, 0, 64, 500},
    {0, 0, 0, 0, 2100, 0, 0, 33},
    {256, 256, 256, 256, 256, 256, 256, 256},
};

/* Several tiles of rows, the last in part; groups of outputs that four do not divide, the last in part. The row counts are on both
 * sides of every way to multiply on tiles. */
Test(matmul, by_terms_has_the_promised_bits_over_many_panels)
{
#ifdef HW_SANITIZE /* with sanitizers everything takes ten times as long */
    static const int row_counts[] = {2, 17, 33};
    enum { MOST_ROWS = 33, N_LONG_CUTS = 2 };
#else
    static const int row_counts[] = {2, 16, 17, 31, 32, 33, 48, 150};
    enum { MOST_ROWS = 150, N_LONG_CUTS = sizeof long_cuts / sizeof *long_cuts };
#endif
    const hw_matmul ways[] = {HW_MATMUL_BF16X3, HW_MATMUL_BF16};
    const size_t n_out = 16 * 5 + 5, most_rows = MOST_ROWS, one = n_out * sizeof(float);
    hw_device *reference = open_reference();
    devices all = open_devices();
    for (size_t c = 0; c < N_LONG_CUTS; c++)
        for (int way = 0; way < 2; way++) {
            matrix m = make_matrix(n_out, long_cuts[c], HW_BF16);
            float *x = inputs_of_all_sizes(most_rows * m.dims.n_in), *bias = noise_array(n_out, 8);
            float *want = malloc(most_rows * one), *got = malloc(most_rows * one);
            reference->matmul = ways[way];
            hw_weight *w = create(reference, &m);
            put_whole(reference, w, &m, HW_BF16, false);
            reference->k->matmul(reference, want, x, w, bias, (int)most_rows);
            reference->k->weight_destroy(reference, w);
            for (int i = 0; i < all.n; i++) {
                hw_device *d = all.at[i];
                cr_assert_eq(hw_device_choose_matmul(d, ways[way], NULL), HW_OK);
                w = create(d, &m);
                put_whole(d, w, &m, HW_BF16, false);
                const char *path = hw_device_path(d);
                const bool emulated = !strcmp(path, "amx-emulated"), tiles = emulated || !strcmp(path, "amx");
                for (size_t n = 0; n < sizeof row_counts / sizeof *row_counts; n++) {
                    /* emulated tiles are slow, and multiply-adds have tests of their own */
                    if (tiles ? emulated && row_counts[n] / 16 != 2 : row_counts[n] != 2) continue;
                    memset(got, 0xff, most_rows * one);
                    d->k->matmul(d, got, x, w, bias, row_counts[n]);
                    assert_same_bits(got, want, (size_t)row_counts[n] * one, hw_device_description(d));
                }
                d->k->weight_destroy(d, w);
            }
            free(want), free(got), free(x), free(bias), free(m.values);
        }
    close_devices(&all);
    hw_device_destroy(reference);
}

#ifndef HW_SANITIZE
/* As many rows and outputs as fill what a thread has for sums that wait, in steps that four groups do not divide; against the
 * multiply-adds of one row. */
Test(matmul, of_one_term_has_room_for_all_sums_that_wait)
{
    static const struct {
        size_t n_rows, n_in, n_out, n_cuts;
    } cases[] = {{448, 3000, 2336, 8}, {896, 2400, 1168, 8}, {160, 2112, 6528, 1}};
    hw_device *d, *plain;
    hw_error err = {.rank = -1};
    cr_assert_eq(hw_cpu_device_create(&plain, 1, "generic", NULL), HW_OK);
    if (hw_cpu_device_create(&d, 1, "amx", &err)) {
        fprintf(stderr, "skipped: %s\n", err.message); /* emulated it takes too long */
        return;
    }
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const size_t n = cases[c].n_rows, n_out = cases[c].n_out;
        size_t cuts[HW_N_CUTS] = {0};
        for (size_t i = 0; i < cases[c].n_cuts; i++) cuts[i] = cases[c].n_in / cases[c].n_cuts;
        matrix m = make_matrix(n_out, cuts, HW_BF16);
        float *x = noise_array(n * m.dims.n_in, 3), *got = malloc(n * n_out * 4), *want = malloc(n_out * 4);
        d->matmul = plain->matmul = HW_MATMUL_BF16;
        hw_weight *w = create(d, &m), *same = create(plain, &m);
        put_whole(d, w, &m, HW_BF16, false), put_whole(plain, same, &m, HW_BF16, false);
        d->k->matmul(d, got, x, w, NULL, (int)n);
        for (size_t r = 0; r < n; r += 37) {
            plain->k->matmul(plain, want, x + r * m.dims.n_in, same, NULL, 1);
            assert_same_bits(got + r * n_out, want, n_out * sizeof *want, "amx");
        }
        d->k->weight_destroy(d, w), plain->k->weight_destroy(plain, same);
        free(x), free(got), free(want), free(m.values);
    }
    hw_device_destroy(d), hw_device_destroy(plain);
}
#endif

Test(matmul, of_no_outputs_or_rows_does_nothing)
{
    devices all = open_devices();
    const size_t cuts[HW_N_CUTS] = {64};
    matrix m = make_matrix(0, cuts, HW_BF16);
    float *x = noise_array(40 * m.dims.n_in, 3), out = 5;
    for (int i = 0; i < all.n; i++) {
        all.at[i]->matmul = HW_MATMUL_BF16X3;
        hw_weight *w = create(all.at[i], &m);
        cr_assert_eq(all.at[i]->k->matmul(all.at[i], &out, x, w, NULL, 40), HW_OK);
        cr_assert_eq(all.at[i]->k->matmul(all.at[i], &out, x, w, NULL, 0), HW_OK);
        cr_assert_eq(out, 5);
        all.at[i]->k->weight_destroy(all.at[i], w);
    }
    free(x), free(m.values);
    close_devices(&all);
}

/* Three terms hold the whole input, so that only the order of additions differs from float32: the same tolerance. One term
 * is the input rounded to 8 bits, half an ulp of which is 2^-9 of it. */
Test(matmul, by_three_terms_is_as_accurate_as_float32)
{
    devices all = open_devices();
    const size_t n = 6, n_out = 37;
    matrix m = make_matrix(n_out, cut_cases[5], HW_BF16);
    float *x = noise_array(n * m.dims.n_in, 5), want[6 * 37], size[6 * 37], got[6 * 37];
    naive(want, size, &m, x, NULL, n);
    for (int i = 0; i < all.n; i += 3)
        for (int way = 0; way < 2; way++) {
            hw_device *d = all.at[i];
            d->matmul = way ? HW_MATMUL_BF16 : HW_MATMUL_BF16X3;
            hw_weight *w = create(d, &m);
            put_whole(d, w, &m, HW_BF16, false);
            d->k->matmul(d, got, x, w, NULL, (int)n);
            for (size_t j = 0; j < n * n_out; j++)
                cr_assert(fabsf(got[j] - want[j]) <= (way ? 0x1p-9f : 2e-6f) * size[j],
                          "%s: [%zu] %g, want %g", hw_device_description(d), j, (double)got[j],
                          (double)want[j]);
            d->k->weight_destroy(d, w);
        }
    free(x), free(m.values);
    close_devices(&all);
}

/* What is not finite stays what it is, and the largest finite number does not become infinite. Which NaN comes out is the
 * processor's business. */
Test(matmul, by_terms_keeps_infinities_and_nan)
{
    devices all = open_devices();
    const size_t n = 6, cuts[HW_N_CUTS] = {40};
    matrix m = make_matrix(17, cuts, HW_BF16);
    for (size_t i = 0; i < 17 * 40; i++) m.values[i] = 1.0f;
    uint32_t bits = 0x7f800001; /* a NaN whose upper half is that of infinity */
    float x[6][40] = {{0}}, nan, got[6][17];
    memcpy(&nan, &bits, sizeof nan);
    x[0][3] = INFINITY, x[1][38] = -INFINITY, x[2][5] = nan, x[3][0] = FLT_MAX, x[4][39] = 2,
    x[5][1] = INFINITY;
    x[5][2] = -INFINITY;
    for (int i = 0; i < all.n; i += 3) {
        hw_device *d = all.at[i];
        d->matmul = HW_MATMUL_BF16X3;
        hw_weight *w = create(d, &m);
        put_whole(d, w, &m, HW_BF16, false);
        for (int rows = (int)n; rows > 0; rows -= 5) { /* 6 on tiles, 1 not */
            d->k->matmul(d, got, rows == 1 ? x[2] : x[0], w, NULL, rows);
            cr_assert(isnan(got[rows == 1 ? 0 : 2][16]), "%s", hw_device_description(d));
            if (rows == 1) break;
            cr_assert_eq(got[0][16], INFINITY);
            cr_assert_eq(got[1][0], -INFINITY);
            cr_assert_eq(got[3][16], FLT_MAX);
            cr_assert_eq(got[4][7], 2.0f);
            cr_assert(isnan(got[5][3]));
        }
        d->k->weight_destroy(d, w);
    }
    free(m.values);
    close_devices(&all);
}

/* More rows than there is room for at once, on a machine with and one without matrix units. */
Test(matmul, by_terms_of_many_rows_has_the_bits_of_each_row)
{
    devices all = open_devices();
    const size_t n = 530, n_out = 16, cuts[HW_N_CUTS] = {33, 7};
    matrix m = make_matrix(n_out, cuts, HW_BF16);
    float *x = inputs_of_all_sizes(n * m.dims.n_in), *got = malloc(n * n_out * 4), want[16];
    for (int i = 0; i < all.n; i += 2) {
        hw_device *d = all.at[i];
        d->matmul = HW_MATMUL_BF16X3;
        hw_weight *w = create(d, &m);
        put_whole(d, w, &m, HW_BF16, false);
        d->k->matmul(d, got, x, w, NULL, (int)n);
        for (size_t r = 0; r < n; r += 23) {
            d->k->matmul(d, want, x + r * m.dims.n_in, w, NULL, 1);
            assert_same_bits(got + r * n_out, want, sizeof want, hw_device_description(d));
        }
        d->k->weight_destroy(d, w);
    }
    free(x), free(got), free(m.values);
    close_devices(&all);
}
#endif

/* Every way to fill a weight gives the same products: types converted on the way, transposed sources, odd pieces. */
Test(weight_put, does_not_care_how_the_numbers_arrive)
{
    devices all = open_devices();
    for (int c = 0; c < N_CUT_CASES; c++)
        for (int t = 0; t < N_DTYPES; t++) {
            if (!is_kept(dtypes[t])) continue;
            const size_t n_out = 53;
            matrix m = make_matrix(n_out, cut_cases[c], dtypes[t]);
            float *x = noise_array(m.dims.n_in, 9), want[53], size[53], got[53];
            hw_device *reference = open_reference(), *d = all.at[all.n - 1];
            hw_weight *w = create(reference, &m);
            put_whole(reference, w, &m, HW_F32, false);
            naive(want, size, &m, x, NULL, 1);
            reference->k->matmul(reference, want, x, w, NULL, 1);
            reference->k->weight_destroy(reference, w);
            for (int way = 0; way < 5; way++) {
                w = create(d, &m);
                if (way < 2) put_whole(d, w, &m, dtypes[t], way == 1);
                else if (way < 4) put_whole(d, w, &m, HW_F32, way == 3);
                else put_in_pieces(d, w, &m);
                d->k->matmul(d, got, x, w, NULL, 1);
                assert_promised(got, want, size, n_out, way < 4 ? "whole" : "pieces");
                d->k->weight_destroy(d, w);
            }
            hw_device_destroy(reference);
            free(x), free(m.values);
        }
    close_devices(&all);
}

/* float32 to each type rounds as hw_convert does, also when the source is float16 and the weight bfloat16. */
Test(weight_put, rounds_to_the_nearest)
{
    const size_t cuts[HW_N_CUTS] = {35};
    hw_device *d = open_device();
    for (int from = 0; from < N_DTYPES; from++)
        for (int to = 0; to < N_DTYPES; to++) {
            if (!is_kept(dtypes[to])) continue;
            matrix m = make_matrix(17, cuts, dtypes[from]); /* values of the source type */
            m.dims.format.type = dtypes[to];
            hw_weight *w = create(d, &m);
            put_whole(d, w, &m, dtypes[from], false);
            const int32_t id = 16;
            float got[35], want[35];
            d->k->gather(d, got, w, &id, 1, 0, false);
            for (int i = 0; i < 35; i++) {
                uint32_t rounded;
                hw_convert(&rounded, dtypes[to], &m.values[16 * 35 + i], HW_F32, 1);
                hw_convert(&want[i], HW_F32, &rounded, dtypes[to], 1);
            }
            assert_same_bits(got, want, sizeof got, "rounded");
            d->k->weight_destroy(d, w);
            free(m.values);
        }
    hw_device_destroy(d);
}

Test(weight, without_inputs_or_outputs_is_fine)
{
    devices all = open_devices();
    hw_device *d = all.at[0];
    const float bias[20] = {[19] = 3};
    float out[40];
    hw_weight *w;
    hw_weight_dims none_in = {.n_out = 20, .format = hw_format_plain(HW_F32)},
                   none_out = {.format = hw_format_plain(HW_F32), .n_in = 5};
    for (int c = 1; c <= HW_N_CUTS; c++) none_out.cuts[c] = 5;
    cr_assert_eq(d->k->weight_create(d, &w, &none_in, NULL), HW_OK);
    cr_assert_eq(d->k->weight_bytes(w), 0);
    d->k->matmul(d, out, NULL, w, bias, 2);
    for (int i = 0; i < 40; i++) cr_assert_eq(out[i], i % 20 == 19 ? 3.0f : 0.0f);
    d->k->weight_destroy(d, w);
    cr_assert_eq(d->k->weight_create(d, &w, &none_out, NULL), HW_OK);
    d->k->matmul(d, out, bias, w, NULL, 2);
    d->k->weight_destroy(d, w);
    close_devices(&all);
}

Test(weight, refuses_what_does_not_fit)
{
    devices all = open_devices();
    hw_device *d = all.at[0];
    hw_error err = {.rank = -1};
    hw_weight *w = (hw_weight *)&err;
    hw_weight_dims dims = {.n_out = 4, .n_in = 8, .format = hw_format_plain(HW_U64)};
    for (int c = 1; c <= HW_N_CUTS; c++) dims.cuts[c] = 8;
    cr_assert_eq(d->k->weight_create(d, &w, &dims, &err), HW_ERR_INVALID);
    cr_assert_null(w);
    cr_assert(strstr(err.message, "uint64"), "%s", err.message);
    dims.format.type = HW_F32, dims.cuts[3] = 9;
    cr_assert_eq(d->k->weight_create(d, &w, &dims, &err), HW_ERR_INVALID);
    dims.cuts[3] = 8, dims.n_out = SIZE_MAX / 4;
    cr_assert_eq(d->k->weight_create(d, &w, &dims, &err), HW_ERR_NO_MEMORY);
    dims.n_out = 4;
    cr_assert_eq(d->k->weight_create(d, &w, &dims, &err), HW_OK);
    const float x[8] = {0};
    hw_weight_piece piece = {
        .src = x, .dtype = HW_F32, .stride_out = 8, .stride_in = 1, .first_out = 3, .n_out = 2, .n_in = 8};
    cr_assert_eq(d->k->weight_put(d, w, &piece, &err), HW_ERR_INVALID);
    cr_assert(strstr(err.message, "[4, 8]"), "%s", err.message);
    d->k->weight_destroy(d, w);
    d->k->weight_destroy(d, NULL);
    close_devices(&all);
}

/* Rows of other ranks are zeros; minus zero becomes plus zero; accumulating adds. */
Test(gather, picks_rows_and_leaves_out_those_of_other_ranks)
{
    const size_t cuts[HW_N_CUTS] = {0, 33, 0, 7, 5};
    const int32_t ids[4] = {107, 99, 122, 123};
    hw_device *reference = open_reference();
    devices all = open_devices();
    for (int t = 0; t < N_DTYPES; t++) {
        if (!is_kept(dtypes[t])) continue;
        matrix m = make_matrix(23, cuts, dtypes[t]);
        m.values[7 * 45 + 44] = -0.0f;
        for (int i = -1; i < all.n; i++) {
            hw_device *d = i < 0 ? reference : all.at[i];
            hw_weight *w = create(d, &m);
            put_whole(d, w, &m, dtypes[t], false);
            float out[4][45];
            d->k->gather(d, out, w, ids, 4, 100, false);
            for (int k = 0; k < 45; k++) {
                const float want[4] = {m.values[7 * 45 + k] + 0.0f, 0, m.values[22 * 45 + k] + 0.0f, 0};
                for (int r = 0; r < 4; r++) assert_same_bits(&out[r][k], &want[r], 4, "gathered");
            }
            d->k->gather(d, out, w, ids, 4, 100, true);
            for (int k = 0; k < 45; k++) {
                cr_assert_eq(out[0][k], 2 * m.values[7 * 45 + k]);
                cr_assert_eq(out[1][k], 0);
            }
            d->k->weight_destroy(d, w);
        }
        free(m.values);
    }
    close_devices(&all);
    hw_device_destroy(reference);
}
