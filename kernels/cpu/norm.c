#include <math.h>

#include "kernels/cpu/ops.h"

typedef struct norm_job {
    float *out;
    const float *x, *w, *b; /* b may be NULL */
    int dim;
    float eps;
} norm_job;

/* Rows that one thread takes at a time: enough to be worth waking one. */
enum { ROWS_AT_ONCE = 4 };

static int lanes_left(int dim, int i) { return dim - i < HW_LANES ? dim - i : HW_LANES; }

/* out, x, w [dim]; out may be x. */
static void rmsnorm_row(float *out, const float *x, const float *w, int dim, float eps)
{
    v16 squares = v16_zero();
    for (int i = 0; i < dim; i += HW_LANES) {
        v16 v = v16_load_n(x + i, lanes_left(dim, i));
        squares = v16_fma(v, v, squares);
    }
    v16 inverse = v16_set1(1.0f / sqrtf(v16_sum(squares) / (float)dim + eps));
    for (int i = 0; i < dim; i += HW_LANES) {
        int n = lanes_left(dim, i);
        v16 y = v16_mul(v16_mul(v16_load_n(x + i, n), inverse), v16_load_n(w + i, n));
        v16_store_n(out + i, y, n);
    }
}

static void rmsnorm_rows(void *arg, size_t begin, size_t end)
{
    const norm_job *job = arg;
    const size_t dim = (size_t)job->dim;
    for (size_t r = begin; r < end; r++)
        rmsnorm_row(job->out + r * dim, job->x + r * dim, job->w, job->dim, job->eps);
}

hw_status HW_CPU_FN(rmsnorm)(hw_device *d, void *out, const void *x, const float *w, int n, int dim,
                             float eps)
{
    norm_job job = {out, x, w, NULL, dim, eps};
    hw_pool_for(hw_cpu_pool(d), (size_t)n, ROWS_AT_ONCE, rmsnorm_rows, &job);
    return HW_OK;
}

typedef struct qk_norm_job {
    float *qkv;
    hw_heads heads;
    const float *q_w, *k_w;
    float eps;
} qk_norm_job;

static void qk_norm_rows(void *arg, size_t begin, size_t end)
{
    const qk_norm_job *job = arg;
    const size_t dim = (size_t)job->heads.head_dim, n_q = (size_t)job->heads.n_heads,
                 n_kv = (size_t)job->heads.n_kv_heads;
    for (size_t r = begin; r < end; r++) {
        float *head = job->qkv + r * (n_q + 2 * n_kv) * dim;
        for (size_t h = 0; h < n_q + n_kv; h++, head += dim)
            rmsnorm_row(head, head, h < n_q ? job->q_w : job->k_w, job->heads.head_dim, job->eps);
    }
}

hw_status HW_CPU_FN(qk_norm)(hw_device *d, void *qkv, hw_heads heads, const float *q_w, const float *k_w,
                             int n, float eps)
{
    qk_norm_job job = {qkv, heads, q_w, k_w, eps};
    hw_pool_for(hw_cpu_pool(d), (size_t)n, ROWS_AT_ONCE, qk_norm_rows, &job);
    return HW_OK;
}

/* The variance is taken around the mean in a second pass: in one pass it would cancel. */
static void layernorm_rows(void *arg, size_t begin, size_t end)
{
    const norm_job *job = arg;
    for (size_t r = begin; r < end; r++) {
        const float *x = job->x + r * (size_t)job->dim;
        float *out = job->out + r * (size_t)job->dim;
        v16 sum = v16_zero(), squares = v16_zero();
        for (int i = 0; i < job->dim; i += HW_LANES)
            sum = v16_add(sum, v16_load_n(x + i, lanes_left(job->dim, i)));
        v16 mean = v16_set1(v16_sum(sum) / (float)job->dim);
        for (int i = 0; i < job->dim; i += HW_LANES) {
            int n = lanes_left(job->dim, i);
            v16 away = v16_keep_n(v16_sub(v16_load_n(x + i, n), mean), n);
            squares = v16_fma(away, away, squares);
        }
        v16 inverse = v16_set1(1.0f / sqrtf(v16_sum(squares) / (float)job->dim + job->eps));
        for (int i = 0; i < job->dim; i += HW_LANES) {
            int n = lanes_left(job->dim, i);
            v16 y = v16_mul(v16_sub(v16_load_n(x + i, n), mean), inverse);
            v16 bias = job->b ? v16_load_n(job->b + i, n) : v16_zero();
            v16_store_n(out + i, v16_fma(y, v16_load_n(job->w + i, n), bias), n);
        }
    }
}

hw_status HW_CPU_FN(layernorm)(hw_device *d, void *out, const void *x, const float *w, const float *b, int n,
                               int dim, float eps)
{
    norm_job job = {out, x, w, b, dim, eps};
    hw_pool_for(hw_cpu_pool(d), (size_t)n, ROWS_AT_ONCE, layernorm_rows, &job);
    return HW_OK;
}
