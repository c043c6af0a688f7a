/* What the tests of activation types share: fresh random numbers of a type, their way to the device of a
 * plug-in and back, and what is compared. */
#ifndef HW_TESTS_KERNELS_TYPES_H
#define HW_TESTS_KERNELS_TYPES_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kernels/kernels.h"
#include "kernels/plugin.h"
#include "kernels/selftest/noise.h"
#include "tests/kernels/plugin_under_test.h"

static const hw_dtype types[] = {HW_F32, HW_F16, HW_BF16};
enum { N_TYPES = 3 };

/* No sum here has more than 3000 numbers: hw_sum_slack of them. */
static const double SUM = 4e-6;

/* ---- numbers, and their way to a device and back */

/* The seed stands in every message. */
static inline unsigned long long seed(void)
{
    static unsigned long long s;
    if (s) return s;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const char *wanted = getenv("HW_TEST_SEED");
    s = wanted ? strtoull(wanted, NULL, 10)
               : (unsigned long long)now.tv_nsec * 1000003 + (unsigned)now.tv_sec;
    return s = s ? s : 1;
}

static inline uint64_t *noise_state(void)
{
    static uint64_t state;
    if (!state) state = seed();
    return &state;
}

/* n numbers of the type, in -scale .. scale. */
static inline float *numbers(hw_dtype type, size_t n, float scale)
{
    float *x = malloc((n + 1) * sizeof *x);
    hw_noise_fill(noise_state(), x, n, type, scale);
    return x;
}

static inline hw_device *open_device(hw_dtype act)
{
    hw_device *d;
    hw_error err = {.rank = -1};
    cr_assert_eq(hw_plugin_device_create(&d, plugin_under_test(), (hw_device_place){0, 1}, act, &err), HW_OK,
                 "%s", err.message);
    return d;
}

/* NULL: memory that an op is to write. It is poisoned: all ones are NaN in every type. */
static inline void *there(hw_device *d, hw_dtype type, const float *x, size_t n)
{
    const size_t n_bytes = n * hw_dtype_size(type);
    char *host = malloc(n_bytes + 1);
    void *p;
    memset(host, 0xff, n_bytes);
    if (x) hw_convert(host, type, x, HW_F32, n);
    cr_assert_eq(d->k->alloc(d, &p, n_bytes + 1, NULL), HW_OK);
    cr_assert_eq(d->k->copy_in(d, p, host, n_bytes), HW_OK);
    free(host);
    return p;
}

static inline int32_t *ids_there(hw_device *d, const int32_t *ids, int n)
{
    void *p;
    cr_assert_eq(d->k->alloc(d, &p, (size_t)n * sizeof *ids, NULL), HW_OK);
    cr_assert_eq(d->k->copy_in(d, p, ids, (size_t)n * sizeof *ids), HW_OK);
    return p;
}

/* Frees p. */
static inline float *back(hw_device *d, hw_dtype type, void *p, size_t n)
{
    hw_error err = {.rank = -1};
    char *host = malloc(n * hw_dtype_size(type) + 1);
    float *x = malloc((n + 1) * sizeof *x);
    cr_assert_eq(d->k->copy_out(d, host, p, n * hw_dtype_size(type)), HW_OK);
    cr_assert_eq(d->k->synchronize(d, &err), HW_OK, "%s", err.message);
    hw_convert(x, HW_F32, host, type, n);
    d->k->free(d, p);
    free(host);
    return x;
}

/* `slack` [n]: what may differ before the result is rounded. */
static inline void expect(const float *got, const double *want, const double *slack, size_t n, double ulp,
                          double small, const char *what, hw_dtype type)
{
    for (size_t i = 0; i < n; i++)
        cr_assert(fabs((double)got[i] - want[i]) <=
                      1.001 * ulp * (fabs(want[i]) + slack[i]) + slack[i] + small,
                  "%s, %s, HW_TEST_SEED=%llu: [%zu] is %.9g, want %.9g within %g", what, hw_dtype_name(type),
                  seed(), i, (double)got[i], want[i], ulp * fabs(want[i]) + slack[i]);
}

static inline double *doubles(size_t n) { return calloc(n + 1, sizeof(double)); }

#endif
