/* What the kernel tests share: numbers, devices of every kind, comparisons. */
#ifndef HW_TESTS_KERNELS_SUPPORT_H
#define HW_TESTS_KERNELS_SUPPORT_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/kernels.h"

#ifdef HW_TEST_PLUGIN /* the tests are built a second time, for the device of this plug-in */
#include "kernels/plugin.h"
#include "tests/kernels/mirror.h"
#include "tests/kernels/plugin_under_test.h"
enum { EXACT = false };
#else
enum { EXACT = true }; /* the devices keep kernels.h's promises about bits */
#endif

enum { MAX_DEVICES = 11 };

/* Whether the devices under test keep matrices of this type: those of a plug-in have the type of their
 * activations, which is float32 here. */
static inline bool is_kept(hw_dtype type) { return EXACT || type == HW_F32; }

/* Devices under test. [0] is the plainest; all must agree with it to the last bit. */
typedef struct devices {
    hw_device *at[MAX_DEVICES];
    int n;
} devices;

#ifdef HW_TEST_PLUGIN
static inline hw_device *open_device(void)
{
    hw_device *d;
    hw_error err = {.rank = -1};
    hw_status st = hw_plugin_device_create(&d, plugin_under_test(), (hw_device_place){0, 1}, HW_F32, &err);
    if (!st) st = hw_mirror_device_create(&d, d, &err);
    cr_assert_eq(st, HW_OK, "%s", err.message);
    return d;
}
static inline devices open_devices(void) { return (devices){.at = {open_device()}, .n = 1}; }
#else
/* The best of this processor. */
static inline hw_device *open_device(void)
{
    hw_device *d;
    cr_assert_eq(hw_cpu_device_create(&d, 1, NULL, NULL), HW_OK);
    d->matmul = HW_MATMUL_FLOAT32;
    return d;
}

/* Every instruction set that this processor has, with 1 and 3 threads, and emulated matrix units, which are slow, with
 * 3. They multiply in float32 unless a test says otherwise. */
static inline devices open_devices(void)
{
    static const char *const isas[] = {"generic", "avx2", "avx512", "avx512-bf16", "amx", "amx-emulated"};
    devices all = {.n = 0};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
        for (int n_threads = i < 5 ? 1 : 3; n_threads <= 3; n_threads += 2) {
            hw_error err = {.rank = -1};
            hw_status st = hw_cpu_device_create(&all.at[all.n], n_threads, isas[i], &err);
            if (st == HW_ERR_UNSUPPORTED) { /* not Criterion's warning, which would be a failure */
                fprintf(stderr, "skipped %s: %s\n", isas[i], err.message);
                break;
            }
            cr_assert_eq(st, HW_OK, "%s", err.message);
            all.at[all.n++]->matmul = HW_MATMUL_FLOAT32;
        }
    return all;
}
#endif

static inline void close_devices(devices *all)
{
    for (int i = 0; i < all->n; i++) hw_device_destroy(all->at[i]);
}

static inline hw_device *open_reference(void)
{
    hw_device *d;
    cr_assert_eq(hw_reference_device_create(&d, NULL), HW_OK);
    return d;
}

/* Distinct numbers, about half of them in (-1, 1) and some several times as large: a cheap generator of the test's own. */
static inline float noise(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    float u = (float)(int32_t)(*state >> 32) * 0x1p-31f;
    return u * (*state >> 20 & 1 ? 1.0f : 3.0f);
}

/* 0, but for plug-ins what HW_TEST_SEED says: tests/gpu/run wants other numbers every time. */
static inline uint64_t fresh_seed(void)
{
    const char *text = EXACT ? NULL : getenv("HW_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : 0;
}

static inline float *noise_array(size_t n, uint64_t seed)
{
    float *x = malloc((n ? n : 1) * sizeof *x);
    cr_assert_not_null(x);
    uint64_t state = seed * 977 + 12345 + fresh_seed();
    for (size_t i = 0; i < n; i++) x[i] = noise(&state);
    return x;
}

static inline void assert_close(const float *got, const float *want, size_t n, float tolerance,
                                const char *what)
{
    for (size_t i = 0; i < n; i++)
        cr_assert(fabsf(got[i] - want[i]) <= tolerance, "%s: [%zu] is %.9g, want %.9g within %g", what, i,
                  (double)got[i], (double)want[i], (double)tolerance);
}

static inline void assert_same_bits(const void *got, const void *want, size_t n_bytes, const char *what)
{
    for (size_t i = 0; i < n_bytes / 4; i++)
        cr_assert_eq(memcmp((const char *)got + 4 * i, (const char *)want + 4 * i, 4), 0,
                     "%s: 4 bytes at [%zu] differ: %.9g and %.9g", what, i, (double)((const float *)got)[i],
                     (double)((const float *)want)[i]);
    cr_assert_eq(memcmp(got, want, n_bytes), 0, "%s: bits differ", what);
}

#endif
