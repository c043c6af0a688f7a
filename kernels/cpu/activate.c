#include "kernels/cpu/ops.h"
#include "kernels/cpu/vmath.h"

/* Numbers that one thread takes at a time, a multiple of the lanes. */
enum { CHUNK = 4096 };

/* x / (1 + exp(-u)): silu for u = x; gelu's tanh form for twice tanh's argument, since (1 + tanh(t)) / 2 = 1
 * / (1 + exp(-2t)). */
HW_INLINE v16 times_sigmoid(v16 x, v16 u)
{
    return v16_div(x, v16_add(v16_set1(1.0f), v16_exp(v16_sub(v16_zero(), u))));
}

HW_INLINE v16 activation(v16 x, hw_activation act)
{
    if (act == HW_ACT_SILU) return times_sigmoid(x, x);
    if (act == HW_ACT_RELU) return v16_max(v16_zero(), x);
    if (act == HW_ACT_GELU) {
        v16 e = v16_erf(v16_mul(x, v16_set1(0.70710678f)));
        return v16_mul(v16_mul(x, v16_set1(0.5f)), v16_add(v16_set1(1.0f), e));
    }
    /* 2 * sqrt(2 / pi) * (x + 0.044715 x^3) */
    v16 inner = v16_fma(v16_mul(x, x), v16_set1(0.044715f), v16_set1(1.0f));
    return times_sigmoid(x, v16_mul(v16_mul(x, v16_set1(1.5957691216f)), inner));
}

typedef struct activate_job {
    float *out;
    const float *x;
    int n;
    size_t chunks_per_row;
    hw_activation act;
    bool gated;
} activate_job;

HW_INLINE void activate_span(const activate_job *job, size_t item, hw_activation act)
{
    size_t row = item / job->chunks_per_row;
    int first = (int)(item % job->chunks_per_row) * CHUNK;
    int last = job->n - first < CHUNK ? job->n : first + CHUNK;
    const float *x = job->x + row * (size_t)job->n * (job->gated ? 2 : 1);
    float *out = job->out + row * (size_t)job->n;
    for (int i = first; i < last; i += HW_LANES) {
        int n = last - i < HW_LANES ? last - i : HW_LANES;
        v16 y = activation(v16_load_n(x + i, n), act);
        if (job->gated) y = v16_mul(y, v16_load_n(x + job->n + i, n));
        v16_store_n(out + i, y, n);
    }
}

static void activate_items(void *arg, size_t begin, size_t end)
{
    const activate_job *job = arg;
    for (size_t i = begin; i < end; i++) switch (job->act) {
        case HW_ACT_SILU: activate_span(job, i, HW_ACT_SILU); break;
        case HW_ACT_GELU: activate_span(job, i, HW_ACT_GELU); break;
        case HW_ACT_GELU_TANH: activate_span(job, i, HW_ACT_GELU_TANH); break;
        case HW_ACT_RELU: activate_span(job, i, HW_ACT_RELU); break;
        }
}

hw_status HW_CPU_FN(activate)(hw_device *d, void *out, const void *x, int n_rows, int n, hw_activation act,
                              bool gated)
{
    size_t chunks = ((size_t)n + CHUNK - 1) / CHUNK;
    activate_job job = {out, x, n, chunks, act, gated};
    hw_pool_for(hw_cpu_pool(d), (size_t)n_rows * chunks, 1, activate_items, &job);
    return HW_OK;
}

typedef struct residual_job {
    float *x;
    const float *y, *bias;
    int dim;
} residual_job;

static void add_rows(void *arg, size_t begin, size_t end)
{
    const residual_job *job = arg;
    for (size_t r = begin; r < end; r++)
        for (int i = 0; i < job->dim; i += HW_LANES) {
            int n = job->dim - i < HW_LANES ? job->dim - i : HW_LANES;
            size_t at = r * (size_t)job->dim + (size_t)i;
            v16 y = v16_load_n(job->y + at, n);
            if (job->bias) y = v16_add(y, v16_load_n(job->bias + i, n));
            v16_store_n(job->x + at, v16_add(v16_load_n(job->x + at, n), y), n);
        }
}

hw_status HW_CPU_FN(add_bias_residual)(hw_device *d, void *x, const void *y, const float *bias, int n,
                                       int dim)
{
    residual_job job = {x, y, bias, dim};
    hw_pool_for(hw_cpu_pool(d), (size_t)n, 16, add_rows, &job);
    return HW_OK;
}
