#include <math.h>

#include "kernels/reference/reference.h"

hw_status hw_ref_select_rows(hw_device *d, void *out, const void *x, const int32_t *rows, int n, int dim)
{
    (void)d;
    for (int r = 0; r < n; r++)
        for (int i = 0; i < dim; i++)
            ((float *)out)[(size_t)r * (size_t)dim + (size_t)i] =
                ((const float *)x)[(size_t)rows[r] * (size_t)dim + (size_t)i];
    return HW_OK;
}

hw_status hw_ref_rmsnorm(hw_device *d, void *out, const void *x, const float *w, int n, int dim, float eps)
{
    (void)d;
    for (int r = 0; r < n; r++) {
        const float *in = (const float *)x + (size_t)r * (size_t)dim;
        float *to = (float *)out + (size_t)r * (size_t)dim;
        double squares = 0;
        for (int i = 0; i < dim; i++) squares += (double)in[i] * in[i];
        double inverse = 1 / sqrt(squares / dim + (double)eps);
        for (int i = 0; i < dim; i++) to[i] = (float)(in[i] * inverse * w[i]);
    }
    return HW_OK;
}

hw_status hw_ref_qk_norm(hw_device *d, void *qkv, hw_heads heads, const float *q_w, const float *k_w, int n,
                         float eps)
{
    const size_t dim = (size_t)heads.head_dim, n_q = (size_t)heads.n_heads, n_kv = (size_t)heads.n_kv_heads;
    for (int r = 0; r < n; r++) {
        float *q = (float *)qkv + (size_t)r * (n_q + 2 * n_kv) * dim, *k = q + n_q * dim;
        hw_ref_rmsnorm(d, q, q, q_w, heads.n_heads, heads.head_dim, eps);
        hw_ref_rmsnorm(d, k, k, k_w, heads.n_kv_heads, heads.head_dim, eps);
    }
    return HW_OK;
}

hw_status hw_ref_layernorm(hw_device *d, void *out, const void *x, const float *w, const float *b, int n,
                           int dim, float eps)
{
    (void)d;
    for (int r = 0; r < n; r++) {
        const float *in = (const float *)x + (size_t)r * (size_t)dim;
        float *to = (float *)out + (size_t)r * (size_t)dim;
        double mean = 0, variance = 0;
        for (int i = 0; i < dim; i++) mean += in[i];
        mean /= dim;
        for (int i = 0; i < dim; i++) variance += (in[i] - mean) * (in[i] - mean);
        double inverse = 1 / sqrt(variance / dim + (double)eps);
        for (int i = 0; i < dim; i++)
            to[i] = (float)((in[i] - mean) * inverse * w[i] + (b ? (double)b[i] : 0));
    }
    return HW_OK;
}

static double activation(double x, hw_activation act)
{
    switch (act) {
    case HW_ACT_SILU: return x / (1 + exp(-x));
    case HW_ACT_GELU: return 0.5 * x * (1 + erf(x * sqrt(0.5)));
    case HW_ACT_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case HW_ACT_RELU: return x < 0 ? 0 : x; /* NaN stays NaN */
    }
    return NAN;
}

hw_status hw_ref_activate(hw_device *d, void *out, const void *x, int n_rows, int n, hw_activation act,
                          bool gated)
{
    (void)d;
    for (int r = 0; r < n_rows; r++) {
        const float *in = (const float *)x + (size_t)r * (size_t)n * (gated ? 2 : 1);
        for (int j = 0; j < n; j++) {
            double y = activation(in[j], act);
            ((float *)out)[(size_t)r * (size_t)n + (size_t)j] = (float)(gated ? y * (double)in[n + j] : y);
        }
    }
    return HW_OK;
}

hw_status hw_ref_add_bias_residual(hw_device *d, void *x, const void *y, const float *bias, int n, int dim)
{
    (void)d;
    for (int r = 0; r < n; r++)
        for (int i = 0; i < dim; i++) {
            size_t at = (size_t)r * (size_t)dim + (size_t)i;
            float added = ((const float *)y)[at];
            if (bias) added += bias[i];
            ((float *)x)[at] += added;
        }
    return HW_OK;
}
