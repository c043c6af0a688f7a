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
static const hw_selftest_shapes learned = {.dim = 96,
                                           .ffn_dim = 160,
                                           .vocab_size = 515,
                                           .n_heads = 6,
                                           .n_kv_heads = 6,
                                           .head_dim = 16,
                                           .norm_eps = 1e-6f,
                                           .attn_scale = 0.25f};

static void expect_right(void *n_lines, const hw_selftest_line *line)
{
    ++*(int *)n_lines;
    cr_expect(!line->wrong, "%s %s: %s", line->op, line->variant, line->what);
    cr_expect(!line->wants_bits || line->same_bits, "%s %s", line->op, line->variant);
}

static int check(const hw_selftest_path *paths, int n, const hw_selftest_shapes *shapes)
{
    int n_lines = 0;
    hw_error err = {""};
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
        hw_error err = {""};
        cr_assert_eq(hw_plugin_device_create(&path.device, plugin_under_test(), (hw_device_place){0, 1},
                                             types[i], &err),
                     HW_OK, "%s", err.message);
        cr_expect_geq(check(&path, 1, shapes), 20);
        hw_device_destroy(path.device);
    }
}

Test(selftest, finds_nothing_wrong_with_uneven_shapes) { check_types(&uneven); }
Test(selftest, finds_nothing_wrong_with_learned_positions) { check_types(&learned); }
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
#endif
