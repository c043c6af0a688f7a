/* Peaks: that they are there, and count what they do. How fast they are is no matter of tests. */
#include "kernels/peaks.h"

#include "kernels/cpu/matrix_unit.h"
#include "kernels/cpu/peaks.h"
#include "tests/kernels/support.h"

static const hw_peak_sizes sizes = {
    .read_bytes = 3 << 20, .shapes = {{5, 48, 32}, {7, 16, 64}}, .n_shapes = 2};

#ifdef HW_TEST_PLUGIN /* itself, not in the mirror */
static devices open_all(void)
{
    hw_error err = {.rank = -1};
    devices all = {.n = 1};
    hw_status st =
        hw_plugin_device_create(&all.at[0], plugin_under_test(), (hw_device_place){0, 1}, HW_BF16, &err);
    cr_assert_eq(st, HW_OK, "%s", err.message);
    return all;
}
#else
static devices open_all(void) { return open_devices(); }
#endif

Test(peaks, every_device_measures_what_it_has)
{
    devices all = open_all();
    for (int i = 0; i < all.n; i++) {
        hw_peaks *a;
        hw_error err = {.rank = -1};
        cr_assert_eq(hw_peaks_create(&a, all.at[i], &sizes, &err), HW_OK, "%s", err.message);
        cr_expect(hw_peaks_have(all.at[i], a, HW_PEAK_READ));
        for (int which = 0; which < HW_N_PEAKS; which++) {
            double rate = 0;
            if (!hw_peaks_have(all.at[i], a, (hw_peak)which)) continue;
            cr_assert_eq(hw_peaks_measure(all.at[i], a, (hw_peak)which, &rate, &err), HW_OK, "%s",
                         err.message);
            cr_expect(rate > 0 && isfinite(rate), "peak %d of %s: %g", which,
                      hw_device_description(all.at[i]), rate);
        }
        hw_peaks_destroy(all.at[i], a);
    }
    close_devices(&all);
}

Test(peaks, without_shapes_there_are_no_products)
{
    devices all = open_all();
    hw_device *d = all.at[0];
    hw_peaks *a;
    const hw_peak_sizes reads = {.read_bytes = 1 << 20};
    cr_assert_eq(hw_peaks_create(&a, d, &reads, NULL), HW_OK);
    cr_expect_not(hw_peaks_have(d, a, HW_PEAK_PRODUCT_F32));
    cr_expect_not(hw_peaks_have(d, a, HW_PEAK_PRODUCT_BF16));
    hw_peaks_destroy(d, a);
    close_devices(&all);
}

#ifndef HW_TEST_PLUGIN
Test(peaks, the_reference_device_has_none)
{
    hw_device *d = open_reference();
    hw_peaks *a;
    hw_error err = {.rank = -1};
    cr_expect_eq(hw_peaks_create(&a, d, &sizes, &err), HW_ERR_UNSUPPORTED);
    cr_expect(strstr(err.message, "reference"), "%s", err.message);
    cr_expect_null(a);
    hw_device_destroy(d);
}

/* x -> 0.75 x + 0.25 draws every chain to 1, whatever it starts from; so the sum over the chains says how many
 * there are, and each does two operations in each of sixteen lanes per round. Rounding is below 1e-5 of it. */
Test(peaks, multiply_adds_are_counted_as_they_are_done)
{
    enum { ROUNDS = 1000 };
    static const hw_cpu_peak_ops *const isas[] = {
        &hw_cpu_generic_peaks,
#if defined(__x86_64__)
        &hw_cpu_avx2_peaks,
        &hw_cpu_avx512_peaks
#endif
    };
    static const char *const names[] = {"generic", "avx2", "avx512"};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        hw_device *d;
        if (hw_cpu_device_create(&d, 1, names[i], NULL)) continue; /* not on this processor */
        hw_device_destroy(d);
        float sink[16] = {0.75f, 0.25f};
        const double flops = (double)isas[i]->fma(ROUNDS, sink);
        for (int lane = 0; lane < 16; lane++)
            cr_expect(fabs(flops - 2.0 * 16 * ROUNDS * (double)sink[lane]) < 1e-5 * flops, "%s: %g, %g",
                      names[i], flops, (double)sink[lane]);
    }
}

Test(peaks, units_for_bfloat16_count_what_they_do)
{
#if defined(__x86_64__)
    if (hw_matrix_unit_amx.usable()) cr_expect_eq(hw_matrix_unit_amx.peak(10), 10 * 4 * 2 * 16 * 16 * 32);
    if (hw_matrix_unit_dot.usable()) cr_expect_eq(hw_matrix_unit_dot.peak(10), 10 * 24 * 2 * 32);
#endif
}
#endif
