#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "kernels/reference/reference.h"

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
    st = hw_host_op_alloc(d, &w->data, hw_format_size(dims->format, dims->n_out, dims->n_in), err);
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
    size_t src_size = hw_dtype_size(p->dtype), dst_size = hw_dtype_size(w->dims.format.type);
    for (size_t o = 0; o < p->n_out; o++)
        for (size_t i = 0; i < p->n_in; i++) {
            size_t to = (p->first_out + o) * w->dims.n_in + p->first_in + i;
            hw_convert((char *)w->data + to * dst_size, w->dims.format.type,
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
    return hw_format_size(w->dims.format, w->dims.n_out, w->dims.n_in);
}

const hw_weight_dims *hw_ref_weight_dims(const hw_weight *w) { return &w->dims; }

hw_status hw_ref_gather(hw_device *d, void *out, const hw_weight *table, const int32_t *ids, int n,
                        int first_id, bool accumulate)
{
    (void)d;
    size_t dim = table->dims.n_in;
    for (int r = 0; r < n; r++) {
        float *to = (float *)out + (size_t)r * dim;
        int64_t row = (int64_t)ids[r] - first_id;
        bool here = row >= 0 && row < (int64_t)table->dims.n_out;
        for (size_t i = 0; i < dim; i++) {
            float value =
                here ? hw_ref_get(table->data, table->dims.format.type, (size_t)row * dim + i) : 0.0f;
            to[i] = (accumulate ? to[i] : 0.0f) + value; /* 0 + -0 is +0 */
        }
    }
    return HW_OK;
}

/* Applied to every operand and result of a product by terms. */
static float flush(float x) { return fabsf(x) < FLT_MIN ? copysignf(0, x) : x; }

/* The sum of one block of 32 inputs, of which `n` exist. */
static float chains(const float *x, const hw_weight *w, size_t at, size_t n, bool flushed)
{
    float chain[2] = {0};
    for (size_t k = 0; k < n; k++) {
        float weight = hw_ref_get(w->data, w->dims.format.type, at + k);
        if (flushed) chain[k % 2] = flush(fmaf(flush(x[k]), flush(weight), chain[k % 2]));
        else chain[k % 2] = fmaf(x[k], weight, chain[k % 2]);
    }
    return chain[0] + chain[1];
}

static float upper_half(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Terms of an input in the order in which they are added; how many. */
static int split(float term[3], float x, hw_matmul matmul)
{
    if (matmul == HW_MATMUL_BF16) {
        term[0] = hw_bf16_to_f32(hw_f32_to_bf16(flush(x)));
        return 1;
    }
    term[2] = isfinite(x) ? upper_half(x) : x;
    float rest = isfinite(x) ? x - term[2] : 0;
    term[1] = upper_half(rest);
    term[0] = rest - term[1];
    return 3;
}

/* Adds the sum of a block's terms. */
static float add_terms(float sum, const float *x, const hw_weight *w, size_t at, size_t n, hw_matmul matmul)
{
    float term[3][32], one[3];
    int n_terms = 0;
    for (size_t k = 0; k < n; k++) {
        n_terms = split(one, x[k], matmul);
        for (int t = 0; t < n_terms; t++) term[t][k] = one[t];
    }
    for (int t = 0; t < n_terms; t++) sum = flush(sum + flush(chains(term[t], w, at, n, true)));
    return sum;
}

/* The partial sum of one cut, in the order that kernels.h specifies. */
static float cut_sum(const float *x, const hw_weight *w, size_t out, size_t begin, size_t end,
                     hw_matmul matmul)
{
    float sum = 0;
    for (size_t block = begin; block < end; block += 32) {
        size_t at = out * w->dims.n_in + block, n = end - block < 32 ? end - block : 32;
        if (matmul == HW_MATMUL_FLOAT32) sum = sum + chains(x + block, w, at, n, false);
        else sum = add_terms(sum, x + block, w, at, n, matmul);
    }
    return sum;
}

/* The balanced tree over cuts [first, first + n). False when all of them are empty. */
static bool tree_sum(float *sum, const float *x, const hw_weight *w, size_t out, int first, int n,
                     hw_matmul matmul)
{
    const size_t *cuts = w->dims.cuts;
    if (n == 1) {
        if (cuts[first] == cuts[first + 1]) return false;
        *sum = cut_sum(x, w, out, cuts[first], cuts[first + 1], matmul);
        return true;
    }
    float left = 0, right = 0;
    bool has_left = tree_sum(&left, x, w, out, first, n / 2, matmul);
    bool has_right = tree_sum(&right, x, w, out, first + n / 2, n / 2, matmul);
    if (has_left && has_right) *sum = matmul == HW_MATMUL_FLOAT32 ? left + right : flush(left + right);
    else *sum = has_left ? left : right;
    return has_left || has_right;
}

hw_status hw_ref_matmul(hw_device *d, void *out, const void *x, const hw_weight *w, const float *bias, int n)
{
    hw_matmul matmul = w->dims.format.type == HW_BF16 ? d->matmul : HW_MATMUL_FLOAT32;
    for (int r = 0; r < n; r++)
        for (size_t o = 0; o < w->dims.n_out; o++) {
            float sum = 0, *to = (float *)out + (size_t)r * w->dims.n_out + o;
            tree_sum(&sum, (const float *)x + (size_t)r * w->dims.n_in, w, o, 0, HW_N_CUTS, matmul);
            if (bias && matmul == HW_MATMUL_FLOAT32) sum += bias[o];
            else if (bias) sum = flush(sum + flush(bias[o]));
            *to = sum;
        }
    return HW_OK;
}
