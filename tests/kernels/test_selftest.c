/* The self-test on the devices under test, with shapes that no model has: uneven ones, heads that do not fill a vector, and
 * more matrices than fit a row of tiles. */
#include "kernels/selftest/selftest.h"

#include "tests/kernels/support.h"

static const hw_selftest_shapes uneven = {.dim = 77,
                                          .ffn_dim = 211,
                                          .vocab_size = 1279,
                                          .n_heads = 6,
                                          .n_kv_heads = 2,
                                          .head_dim = 20,
                                          .rotary_half = 8,
                                          .gated = true,
                                          .norm_eps = 1e-5f,
                                          .attn_scale = 0.22f};
#if !defined HW_TEST_PLUGIN || !defined HW_SANITIZE
static const hw_selftest_shapes learned = {.dim = 96,
                                           .ffn_dim = 160,
                                           .vocab_size = 515,
                                           .n_heads = 6,
                                           .n_kv_heads = 6,
                                           .head_dim = 16,
                                           .norm_eps = 1e-6f,
                                           .attn_scale = 0.25f};
#endif

static void expect_right(void *n_lines, const hw_selftest_line *line)
{
    ++*(int *)n_lines;
    cr_expect(!line->wrong, "%s %s: %s", line->op, line->variant, line->what);
    cr_expect(!line->wants_bits || line->same_bits, "%s %s", line->op, line->variant);
}

static int check(const hw_selftest_path *paths, int n, const hw_selftest_shapes *shapes)
{
    int n_lines = 0;
    hw_error err = {.rank = -1};
    const hw_selftest_options options = {.seed = fresh_seed(), .report = expect_right, .user = &n_lines};
    cr_assert_eq(hw_selftest_run(paths, n, shapes, &options, NULL, &err), HW_OK, "%s", err.message);
    return n_lines;
}

#ifdef HW_TEST_PLUGIN
static void check_types(const hw_selftest_shapes *shapes)
{
    static const hw_dtype types[] = {HW_F32, HW_F16, HW_BF16};
    for (int i = 0; i < 3; i++) {
        hw_selftest_path path = {.name = hw_dtype_name(types[i])};
        hw_error err = {.rank = -1};
        cr_assert_eq(hw_plugin_device_create(&path.device, plugin_under_test(), (hw_device_place){0, 1},
                                             types[i], &err),
                     HW_OK, "%s", err.message);
        cr_expect_geq(check(&path, 1, shapes), 20);
        hw_device_destroy(path.device);
    }
}

Test(selftest, finds_nothing_wrong_with_uneven_shapes) { check_types(&uneven); }
#ifndef HW_SANITIZE /* twice as long again */
Test(selftest, finds_nothing_wrong_with_learned_positions) { check_types(&learned); }
#endif
#else
static void check_all(const hw_selftest_shapes *shapes)
{
    devices all = open_devices();
    hw_selftest_path paths[MAX_DEVICES];
    for (int i = 0; i < all.n; i++)
        paths[i] = (hw_selftest_path){.name = hw_device_description(all.at[i]), .device = all.at[i]};
    cr_expect_geq(check(paths, all.n, shapes), 20 * all.n);
    close_devices(&all);
}

Test(selftest, finds_nothing_wrong_with_uneven_shapes) { check_all(&uneven); }
Test(selftest, finds_nothing_wrong_with_learned_positions) { check_all(&learned); }

/* ---- faults: one op of the plain loops is broken, and compared with the plain loops */

enum { MOST_WRONG = 8 };

typedef struct wrong {
    int n;
    hw_selftest_line lines[MOST_WRONG];
} wrong;

static void collect(void *user, const hw_selftest_line *line)
{
    wrong *w = user;
    if (line->wrong && w->n < MOST_WRONG) w->lines[w->n++] = *line;
}

static const hw_selftest_shapes tiny = {.dim = 32,
                                        .ffn_dim = 48,
                                        .vocab_size = 131,
                                        .n_heads = 2,
                                        .n_kv_heads = 1,
                                        .head_dim = 8,
                                        .rotary_half = 4,
                                        .gated = true,
                                        .norm_eps = 1e-5f,
                                        .attn_scale = 0.35f};

/* The reference device, and after it, or alone, one with the table `broken`. */
static wrong find(const hw_kernels *broken, bool alone)
{
    wrong found = {0};
    hw_device *whole = open_reference(), *d = open_reference();
    const hw_selftest_path paths[] = {{"whole", whole}, {"broken", d}};
    const hw_selftest_options options = {.report = collect, .user = &found};
    hw_error err = {.rank = -1};
    d->k = broken;
    cr_assert_eq(hw_selftest_run(paths + alone, 2 - alone, &tiny, &options, NULL, &err), HW_OK, "%s",
                 err.message);
    hw_device_destroy(whole);
    hw_device_destroy(d);
    return found;
}

static hw_kernels reference_table(void)
{
    hw_device *d = open_reference();
    const hw_kernels k = *d->k;
    hw_device_destroy(d);
    return k;
}

/* The table to fall back on, for ops that are wrong in a few places. */
static hw_kernels right;

static void expect_found(const wrong *w, const char *op, const char *variant, const char *what)
{
    cr_assert_eq(w->n, 1, "%d wrong", w->n);
    cr_expect_str_eq(w->lines[0].op, op);
    cr_expect_str_eq(w->lines[0].variant, variant);
    cr_expect(strstr(w->lines[0].what, what), "no '%s' in: %s", what, w->lines[0].what);
}

static float next_after(float x) { return nextafterf(x, INFINITY); }

/* The last bit of one number, for one number of rows, in one arithmetic. */
static hw_status matmul_with_a_wrong_bit(hw_device *d, void *out, const void *x, const hw_weight *w,
                                         const float *bias, int n)
{
    hw_status st = right.matmul(d, out, x, w, bias, n);
    float *last = (float *)out + (size_t)n * d->k->weight_dims(w)->n_out - 1;
    if (n == 17 && d->matmul == HW_MATMUL_BF16X3) *last = next_after(*last);
    return st;
}

Test(selftest, finds_a_wrong_bit_of_one_number_of_rows)
{
    hw_kernels k = right = reference_table();
    k.matmul = matmul_with_a_wrong_bit;
    const wrong w = find(&k, true);
    expect_found(&w, "matmul", "bfloat16, bf16x3", "17 rows: [16, ");
}

/* Within what rounding allows: right by itself, but not the bits of the other path. */
static hw_status rmsnorm_with_other_bits(hw_device *d, void *out, const void *x, const float *w, int n,
                                         int dim, float eps)
{
    hw_status st = right.rmsnorm(d, out, x, w, n, dim, eps);
    ((float *)out)[dim - 1] = next_after(((float *)out)[dim - 1]);
    return st;
}

Test(selftest, finds_bits_that_are_not_those_of_the_first_path)
{
    hw_kernels k = right = reference_table();
    k.rmsnorm = rmsnorm_with_other_bits;
    wrong w = find(&k, false);
    expect_found(&w, "rmsnorm", "", "the bits of [0, 31] are not those of whole");
    cr_expect_eq(w.lines[0].path, 1);
    w = find(&k, true);
    cr_expect_eq(w.n, 0, "%s", w.lines[0].what);
}

/* A row depends on how many there are. */
static hw_status layernorm_of_few_rows(hw_device *d, void *out, const void *x, const float *w, const float *b,
                                       int n, int dim, float eps)
{
    hw_status st = right.layernorm(d, out, x, w, b, n, dim, eps);
    if (n < 5) *(float *)out = next_after(*(float *)out);
    return st;
}

Test(selftest, finds_bits_that_depend_on_the_number_of_rows)
{
    hw_kernels k = right = reference_table();
    k.layernorm = layernorm_of_few_rows;
    const wrong w = find(&k, true);
    expect_found(&w, "layernorm", "", "2 rows: the bits of [0, 0] are not those of broken with 64 rows");
}

/* 1 % off is outside of every tolerance. */
static hw_status attention_that_is_off(hw_device *d, void *out, const void *qkv, hw_heads heads,
                                       const hw_attn *attn, const hw_rows *rows, hw_kv_layer kv,
                                       void *scratch)
{
    hw_status st = right.attention(d, out, qkv, heads, attn, rows, kv, scratch);
    if (kv.dtype == HW_F16) *(float *)out += 0.01f * (1 + fabsf(*(float *)out));
    return st;
}

Test(selftest, finds_a_number_that_is_off)
{
    hw_kernels k = right = reference_table();
    k.attention = attention_that_is_off;
    const wrong w = find(&k, true);
    expect_found(&w, "attention", "float16 cache", "more or less is allowed");
    cr_expect(w.lines[0].error > w.lines[0].allowed);
}

static hw_status select_one_row_more(hw_device *d, void *out, const void *x, const int32_t *rows, int n,
                                     int dim)
{
    hw_status st = right.select_rows(d, out, x, rows, n, dim);
    if (n == 33) ((float *)out)[n * dim] = 0;
    return st;
}

Test(selftest, finds_what_is_written_behind_the_rows)
{
    hw_kernels k = right = reference_table();
    k.select_rows = select_one_row_more;
    const wrong w = find(&k, true);
    expect_found(&w, "select_rows", "", "33 rows: rows behind these were written to");
}

static hw_status draw_another(hw_device *d, uint64_t *key, const float *row, int n_vocab, int first_id,
                              int n_valid, float floor, float temperature, uint64_t seed, uint64_t step)
{
    return right.row_draw(d, key, row, n_vocab, first_id, n_valid, floor, temperature, seed,
                          step + (step == 3));
}

Test(selftest, finds_another_token)
{
    hw_kernels k = right = reference_table();
    k.row_draw = draw_another;
    const wrong w = find(&k, true);
    expect_found(&w, "row_draw", "", "5 rows: [3] is ");
}

static hw_status activate_nothing(hw_device *d, void *out, const void *x, int n_rows, int n,
                                  hw_activation act, bool gated)
{
    return act == HW_ACT_GELU ? HW_ERR_DEVICE : right.activate(d, out, x, n_rows, n, act, gated);
}

Test(selftest, finds_an_op_that_fails)
{
    hw_kernels k = right = reference_table();
    k.activate = activate_nothing;
    const wrong w = find(&k, true);
    expect_found(&w, "activate", "gelu", "the op returned status");
}

/* A cache of NaN where nothing was appended stays so, and one slot too far is found. */
static hw_status append_elsewhere(hw_device *d, void *qkv, const float *angles, int half, hw_heads heads,
                                  const hw_rows *rows, hw_kv_layer kv)
{
    hw_status st = right.rope_append(d, qkv, angles, half, heads, rows, kv);
    if (kv.dtype == HW_BF16 && rows->n_rows > 60) *(uint16_t *)kv.data = 0;
    return st;
}

Test(selftest, finds_a_slot_of_the_cache_that_is_not_the_rows)
{
    hw_kernels k = right = reference_table();
    k.rope_append = append_elsewhere;
    const wrong w = find(&k, true);
    expect_found(&w, "rope_append", "bfloat16 cache", "the plain loops give");
}
#endif
