#include "launch/study/machine.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/peaks.h"
#include "launch/report/statistics.h"
#include "runtime/base/clock.h"

enum { MEMORY_BYTES = 256 << 20, LEAST_BYTES = 1 << 20, WIDTH = 2048, ROWS = 256, REPEATS = 7 };

/* Collective. */
static hw_status sum_over_ranks(hw_comm *comm, double mine, double *sum, hw_error *err)
{
    int n = hw_comm_n_ranks(comm);
    hw_tag tag = {.site = HW_SITE_CONTROL};
    double *all = malloc((size_t)n * sizeof *all);
    hw_status st = all ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "study: no memory");
    st = hw_comm_agree(comm, st, err);
    if (!st) st = hw_comm_all_gather(comm, tag, &mine, sizeof mine, all, err);
    *sum = 0;
    for (int i = 0; i < n && !st; i++) *sum += all[i];
    free(all);
    return st;
}

/* Collective. The better of the plain and the prefetching loop, because this is to be an upper limit. */
static hw_status read_rate(hw_comm *comm, hw_device *d, uint64_t n_bytes, double *rate, hw_error *err)
{
    hw_peaks *a = NULL;
    const hw_peak_sizes sizes = {.read_bytes = n_bytes};
    double plain[REPEATS], prefetched[REPEATS];
    hw_status st = hw_peaks_create(&a, d, &sizes, err);
    st = hw_comm_agree(comm, st, err);
    for (int i = 0; i < REPEATS && !st; i++) {
        st = hw_peaks_measure(d, a, HW_PEAK_READ, &plain[i], err);
        if (!st) st = hw_peaks_measure(d, a, HW_PEAK_READ_PREFETCHED, &prefetched[i], err);
        st = hw_comm_agree(comm, st, err);
    }
    if (!st) {
        double p = hw_summarise(plain, REPEATS).median, q = hw_summarise(prefetched, REPEATS).median;
        st = sum_over_ranks(comm, p > q ? p : q, rate, err);
    }
    hw_peaks_destroy(d, a);
    return st;
}

typedef struct product {
    hw_weight *w;
    void *x, *y; /* [ROWS, WIDTH] D */
} product;

static hw_status make_product(product *p, hw_device *d, hw_dtype dtype, hw_error *err)
{
    hw_weight_dims dims = {.n_out = WIDTH, .n_in = WIDTH, .format = hw_format_plain(dtype)};
    for (int i = 1; i <= HW_N_CUTS; i++) dims.cuts[i] = WIDTH;
    size_t n = (size_t)WIDTH * WIDTH;
    float *numbers = malloc(n * sizeof *numbers);
    if (!numbers) return hw_fail(err, HW_ERR_NO_MEMORY, "study: no memory for a matrix of %zu numbers", n);
    for (size_t i = 0; i < n; i++) numbers[i] = (float)((int)(i * 2654435761u % 255) - 127) / 1024;
    hw_weight_piece piece = {
        .src = numbers, .dtype = HW_F32, .stride_out = WIDTH, .stride_in = 1, .n_out = WIDTH, .n_in = WIDTH};
    size_t rows = (size_t)ROWS * WIDTH * hw_dtype_size(d->act);
    hw_status st = d->k->weight_create(d, &p->w, &dims, err);
    if (!st) st = d->k->weight_put(d, p->w, &piece, err);
    if (!st) st = d->k->alloc(d, &p->x, rows, err);
    if (!st) st = d->k->alloc(d, &p->y, rows, err);
    if (!st && d->act == HW_F32)
        st = d->k->copy_in(d, p->x, numbers, rows); /* zeros could be faster than numbers */
    free(numbers);
    return st;
}

/* Collective. */
static hw_status product_rate(hw_comm *comm, hw_device *d, hw_dtype dtype, double *rate, hw_error *err)
{
    product p = {.w = NULL};
    double rates[REPEATS];
    hw_status st = hw_comm_agree(comm, make_product(&p, d, dtype, err), err);
    for (int i = -1; i < REPEATS && !st; i++) { /* i = -1: warm-up */
        uint64_t start = hw_clock_ns();
        st = d->k->matmul(d, p.y, p.x, p.w, NULL, ROWS);
        if (!st) st = d->k->synchronize(d, err);
        if (i >= 0) rates[i] = 2.0 * ROWS * WIDTH * WIDTH / hw_seconds_since(start);
        st = hw_comm_agree(comm, st, err);
    }
    if (!st) st = sum_over_ranks(comm, hw_summarise(rates, REPEATS).median, rate, err);
    d->k->free(d, p.x);
    d->k->free(d, p.y);
    d->k->weight_destroy(d, p.w);
    return st;
}

hw_status hw_machine_measure(hw_machine *out, hw_comm *comm, hw_device *d, hw_dtype dtype,
                             uint64_t weight_bytes, hw_error *err)
{
    hw_device *own = NULL;
    *out = (hw_machine){.memory_bytes = MEMORY_BYTES,
                        .weight_bytes = weight_bytes > LEAST_BYTES ? weight_bytes : LEAST_BYTES};
    if (out->weight_bytes > MEMORY_BYTES) out->weight_bytes = MEMORY_BYTES;
    hw_status st = HW_OK;
    if (strcmp(d->k->name, "cpu")) {
        st = hw_comm_agree(comm, hw_cpu_device_create(&own, d->n_threads, NULL, err), err);
        d = own;
    }
    if (!st) st = read_rate(comm, d, out->memory_bytes, &out->memory_read, err);
    if (!st) st = read_rate(comm, d, out->weight_bytes, &out->weight_read, err);
    if (!st) st = product_rate(comm, d, dtype, &out->product_rate, err);
    hw_device_destroy(own);
    return st;
}
