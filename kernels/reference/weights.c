#include <math.h>
#include <stdlib.h>

#include "kernels/reference/reference.h"
#include "runtime/base/checked.h"

float hw_ref_get(const void *data, hw_dtype dtype, size_t i)
{
    float value;
    hw_convert(&value, HW_F32, (const char *)data + i * hw_dtype_size(dtype), dtype, 1);
    return value;
}

void hw_ref_set(void *data, hw_dtype dtype, size_t i, float value)
{
    hw_convert((char *)data + i * hw_dtype_size(dtype), dtype, &value, HW_F32, 1);
}

hw_status hw_ref_weight_create(hw_device *d, hw_weight **out, const hw_weight_dims *dims, hw_error *err)
{
    *out = NULL;
    hw_status st = hw_weight_dims_check(dims, err);
    if (st) return st;
    hw_weight *w = calloc(1, sizeof *w);
    if (!w) return hw_fail(err, HW_ERR_NO_MEMORY, "weight: no memory for %zu bytes", sizeof *w);
    w->dims = *dims;
    st = hw_host_op_alloc(d, &w->data, HW_SIZE(dims->n_out, dims->n_in, hw_dtype_size(dims->dtype)), err);
    if (st) {
        hw_ref_weight_destroy(d, w);
        return st;
    }
    *out = w;
    return HW_OK;
}

hw_status hw_ref_weight_put(hw_device *d, hw_weight *w, const hw_weight_piece *p, hw_error *err)
{
    (void)d;
    hw_status st = hw_weight_piece_check(&w->dims, p, err);
    if (st) return st;
    size_t src_size = hw_dtype_size(p->dtype), dst_size = hw_dtype_size(w->dims.dtype);
    for (size_t o = 0; o < p->n_out; o++)
        for (size_t i = 0; i < p->n_in; i++) {
            size_t to = (p->first_out + o) * w->dims.n_in + p->first_in + i;
            hw_convert((char *)w->data + to * dst_size, w->dims.dtype,
                       (const char *)p->src + (o * p->stride_out + i * p->stride_in) * src_size, p->dtype, 1);
        }
    return HW_OK;
}

void hw_ref_weight_destroy(hw_device *d, hw_weight *w)
{
    (void)d;
    if (!w) return;
    hw_host_free(w->data);
    free(w);
}

size_t hw_ref_weight_bytes(const hw_weight *w)
{
    return w->dims.n_out * w->dims.n_in * hw_dtype_size(w->dims.dtype);
}

const hw_weight_dims *hw_ref_weight_dims(const hw_weight *w) { return &w->dims; }

hw_status hw_ref_gather(hw_device *d, hw_stream *s, void *out, const hw_weight *table, const int32_t *ids,
                        int n, int first_id, bool accumulate)
{
    (void)d, (void)s;
    size_t dim = table->dims.n_in;
    for (int r = 0; r < n; r++) {
        float *to = (float *)out + (size_t)r * dim;
        int64_t row = (int64_t)ids[r] - first_id;
        bool here = row >= 0 && row < (int64_t)table->dims.n_out;
        for (size_t i = 0; i < dim; i++) {
            float value = here ? hw_ref_get(table->data, table->dims.dtype, (size_t)row * dim + i) : 0.0f;
            to[i] = (accumulate ? to[i] : 0.0f) + value; /* 0 + -0 is +0 */
        }
    }
    return HW_OK;
}

/* The partial sum of one cut, in the order that kernels.h promises. */
static float cut_sum(const float *x, const hw_weight *w, size_t out, size_t begin, size_t end)
{
    float sum = 0;
    for (size_t block = begin; block < end; block += 32) {
        float even = 0, odd = 0;
        for (size_t k = block; k < block + 32; k += 2) {
            size_t at = out * w->dims.n_in + k;
            if (k < end) even = fmaf(x[k], hw_ref_get(w->data, w->dims.dtype, at), even);
            if (k + 1 < end) odd = fmaf(x[k + 1], hw_ref_get(w->data, w->dims.dtype, at + 1), odd);
        }
        sum = sum + (even + odd);
    }
    return sum;
}

/* The balanced tree over cuts [first, first + n). False when all of them are empty. */
static bool tree_sum(float *sum, const float *x, const hw_weight *w, size_t out, int first, int n)
{
    const size_t *cuts = w->dims.cuts;
    if (n == 1) {
        if (cuts[first] == cuts[first + 1]) return false;
        *sum = cut_sum(x, w, out, cuts[first], cuts[first + 1]);
        return true;
    }
    float left = 0, right = 0;
    bool has_left = tree_sum(&left, x, w, out, first, n / 2);
    bool has_right = tree_sum(&right, x, w, out, first + n / 2, n / 2);
    if (has_left && has_right) *sum = left + right;
    else *sum = has_left ? left : right;
    return has_left || has_right;
}

hw_status hw_ref_matmul(hw_device *d, hw_stream *s, void *out, const void *x, const hw_weight *w,
                        const float *bias, int n)
{
    (void)d, (void)s;
    for (int r = 0; r < n; r++)
        for (size_t o = 0; o < w->dims.n_out; o++) {
            float sum = 0;
            tree_sum(&sum, (const float *)x + (size_t)r * w->dims.n_in, w, o, 0, HW_N_CUTS);
            ((float *)out)[(size_t)r * w->dims.n_out + o] = bias ? sum + bias[o] : sum;
        }
    return HW_OK;
}
