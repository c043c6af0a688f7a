/* Products with a weight matrix. Few rows (decode) are a pass over the weights, with what comes before and
 * after in the same kernel; many rows (prefill) go to cuBLASLt. */
#include <algorithm>

#include "kernels/cuda/gemv.h"

namespace
{

/* As few rows at a time, which goes for any matrix whose inputs fit into shared memory. */
hw_status in_parts(hw_cuda_device *c, void *out, const void *x, const hw_weight *w, const hw_gemv *g, int n)
{
    const size_t size = hw_dtype_size(w->dims.format.type), out_size = g->wide ? sizeof(float) : size;
    int most = HW_GEMV_ROWS;
    while (most > 1 && !hw_cuda_gemv_takes(c, w, most)) most /= 2;
    if (!hw_cuda_gemv_takes(c, w, most))
        return hw_cuda_blas_note(&c->failure, CUBLAS_STATUS_NOT_SUPPORTED, "matrix product");
    hw_status st = HW_OK;
    for (int r = 0; r < n && !st; r += most)
        st = hw_cuda_gemv(c, (char *)out + (size_t)r * w->dims.n_out * out_size,
                          (const char *)x + (size_t)r * w->dims.n_in * size, w, g, std::min(n - r, most));
    return st;
}

/* A bias is float32, which cuBLASLt adds to float32 alone: to 16 bits it adds a bias of 16 bits. There it is
 * a pass of its own, which only products have behind which nothing else passes over the result: q/k/v of
 * models with biases. */
hw_status many_rows(hw_cuda_device *c, void *out, const void *x, const hw_weight *w, const hw_gemv *g, int n)
{
    const bool takes_bias = g->wide || w->dims.format.type == HW_F32;
    const hw_cuda_product p = {out, x, w, takes_bias ? g->bias : nullptr, (size_t)n, g->wide};
    bool done = false;
    hw_status st = hw_cuda_blas_product(c, &p, &done);
    if (st) return st;
    if (!done) return in_parts(c, out, x, w, g, n);
    if (!g->bias || takes_bias) return HW_OK;
    return hw_cuda_add_bias_residual(&c->base.device, out, nullptr, g->bias, n, (int)w->dims.n_out);
}

hw_status product(hw_cuda_device *c, void *out, const void *x, const hw_weight *w, const hw_gemv *g, int n)
{
    if (!n || !w->dims.n_out) return HW_OK;
    if (!w->dims.n_in) return in_parts(c, out, x, w, g, n);
    if (hw_cuda_gemv_takes(c, w, n)) return hw_cuda_gemv(c, out, x, w, g, n);
    return many_rows(c, out, x, w, g, n);
}

} // namespace

hw_status hw_cuda_matmul(hw_device *d, void *out, const void *x, const hw_weight *w, const float *bias, int n)
{
    hw_gemv g = {};
    g.bias = bias;
    return product(hw_cuda_of(d), out, x, w, &g, n);
}

hw_status hw_cuda_logits(hw_device *d, float *out, const void *x, const hw_weight *w, int n)
{
    hw_gemv g = {};
    g.wide = true;
    return product(hw_cuda_of(d), out, x, w, &g, n);
}

namespace
{

hw_status norm_matmul(hw_device *d, void *out, const void *x, const hw_norm *norm, const hw_weight *w,
                      const float *bias, int n, void *normed)
{
    hw_gemv g = {};
    g.norm = norm, g.bias = bias;
    if (w->dims.n_in && hw_cuda_gemv_takes(hw_cuda_of(d), w, n))
        return hw_cuda_gemv(hw_cuda_of(d), out, x, w, &g, n);
    hw_status st = hw_cuda_norm(d, normed, x, *norm, n, (int)w->dims.n_in);
    return st ? st : hw_cuda_matmul(d, out, normed, w, bias, n);
}

hw_status norm_matmul_activate(hw_device *d, void *out, const void *x, const hw_norm *norm,
                               const hw_weight *w, const float *bias, int n, hw_activation act, bool gated,
                               void *normed, void *up)
{
    hw_gemv g = {};
    g.norm = norm, g.bias = bias, g.activates = true, g.gated = gated, g.act = act;
    if (w->dims.n_in && hw_cuda_gemv_takes(hw_cuda_of(d), w, n))
        return hw_cuda_gemv(hw_cuda_of(d), out, x, w, &g, n);
    const int n_out = (int)w->dims.n_out;
    hw_status st = norm_matmul(d, up, x, norm, w, nullptr, n, normed);
    return st ? st
              : hw_cuda_activate_biased(hw_cuda_of(d), out, up, bias, n, gated ? n_out / 2 : n_out, act,
                                        gated);
}

hw_status matmul_add(hw_device *d, void *x, const void *in, const hw_weight *w, const float *bias, int n,
                     void *y)
{
    hw_gemv g = {};
    g.bias = bias, g.adds = true;
    if (hw_cuda_gemv_takes(hw_cuda_of(d), w, n)) return hw_cuda_gemv(hw_cuda_of(d), x, in, w, &g, n);
    hw_status st = hw_cuda_matmul(d, y, in, w, nullptr, n);
    return st ? st : hw_cuda_add_bias_residual(d, x, y, bias, n, (int)w->dims.n_out);
}

} // namespace

const hw_fused_ops hw_cuda_fused = {norm_matmul, norm_matmul_activate, matmul_add};
