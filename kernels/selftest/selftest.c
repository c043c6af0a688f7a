#include "kernels/selftest/selftest.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/peaks.h"
#include "kernels/selftest/subject.h"

/* Memory to read for the limit of reads: about what one row of a large matrix reads, so that both find as much of it in
 * caches. A GPU takes what suits its own. */
enum { READ_BYTES = 32 << 20, REPEATS = 6 };

/* The best of a few. */
static hw_status measure(double *rate, const hw_device *d, hw_peaks *a, hw_peak which, hw_error *err)
{
    hw_status st = HW_OK;
    for (int i = 0; i < REPEATS && !st && hw_peaks_have(d, a, which); i++) {
        double once = 0;
        st = hw_peaks_measure(d, a, which, &once, err);
        if (once > *rate) *rate = once;
    }
    return st;
}

static hw_status measure_limits(hw_selftest_limits *l, hw_device *d, hw_error *err)
{
    const hw_peak_sizes sizes = {.read_bytes = d->host_memory ? READ_BYTES : 0};
    hw_peaks *a = NULL;
    if (!d->k->peaks) return HW_OK;
    hw_status st = hw_peaks_create(&a, d, &sizes, err);
    if (!st) st = measure(&l->read, d, a, HW_PEAK_READ, err);
    if (!st) st = measure(&l->read, d, a, HW_PEAK_READ_PREFETCHED, err);
    if (!st) st = measure(&l->fma, d, a, HW_PEAK_FMA, err);
    if (!st) st = measure(&l->matrix, d, a, HW_PEAK_MATRIX, err);
    hw_peaks_destroy(d, a);
    return st;
}

static hw_status check_shapes(const hw_selftest_shapes *s, hw_error *err)
{
    if (s->dim > 0 && s->ffn_dim > 0 && s->vocab_size > 0 && s->n_kv_heads > 0 && s->head_dim > 0 &&
        s->n_heads % s->n_kv_heads == 0 && s->rotary_half >= 0 && 2 * s->rotary_half <= s->head_dim)
        return HW_OK;
    return hw_fail(err, HW_ERR_INVALID,
                   "selftest: shapes that no model has: width %d, MLP %d, %d/%d heads of %d", s->dim,
                   s->ffn_dim, s->n_heads, s->n_kv_heads, s->head_dim);
}

static hw_status prepare(hw_selftest *t, hw_selftest_limits *limits, hw_error *err)
{
    hw_status st = check_shapes(&t->shapes, err);
    if (!st) st = hw_reference_device_create(&t->reference, err);
    if (st) return st;
    t->lines = calloc((size_t)t->n_paths, sizeof *t->lines);
    t->limits = calloc((size_t)t->n_paths, sizeof *t->limits);
    if (!t->lines || !t->limits) return hw_fail(err, HW_ERR_NO_MEMORY, "selftest: no memory");
    for (int p = 0; p < t->n_paths && t->options.timed && !st; p++)
        st = measure_limits(&t->limits[p], t->paths[p].device, err);
    if (!st && limits) memcpy(limits, t->limits, (size_t)t->n_paths * sizeof *limits);
    return st;
}

hw_status hw_selftest_run(const hw_selftest_path *paths, int n_paths, const hw_selftest_shapes *shapes,
                          const hw_selftest_options *options, hw_selftest_limits *limits, hw_error *err)
{
    /* A device that leaves its arithmetic to the caller adds in the order that kernels.h promises. */
    hw_selftest t = {.paths = paths,
                     .n_paths = n_paths,
                     .shapes = *shapes,
                     .options = *options,
                     .act = paths[0].device->act,
                     .promises = paths[0].device->matmul != HW_MATMUL_AUTO,
                     .noise = options->seed * 977 + 12345,
                     .err = err};
    t.st = prepare(&t, limits, err);
    if (!t.st) {
        hw_selftest_rows(&t);
        hw_selftest_products(&t);
        hw_selftest_fused(&t);
        hw_selftest_attention(&t);
        hw_selftest_sampling(&t);
    }
    free(t.lines), free(t.limits);
    hw_device_destroy(t.reference);
    return t.st;
}
