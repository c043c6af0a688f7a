/* Products by cuBLASLt. It counts columns first, so what is [n, dim] to us is [dim, n] to it, and y = x W^T
 * becomes y^T = W x^T. */
#include "kernels/cuda/cuda.h"

namespace
{

/* The descriptions that one product needs; all are taken back, made or not. */
struct product {
    cublasLtMatmulDesc_t matmul = nullptr;
    cublasLtMatrixLayout_t w = nullptr, x = nullptr, out = nullptr;
    cublasLtMatmulPreference_t wishes = nullptr;
    ~product()
    {
        if (wishes) cublasLtMatmulPreferenceDestroy(wishes);
        if (out) cublasLtMatrixLayoutDestroy(out);
        if (x) cublasLtMatrixLayoutDestroy(x);
        if (w) cublasLtMatrixLayoutDestroy(w);
        if (matmul) cublasLtMatmulDescDestroy(matmul);
    }
};

/* The largest power of two up to 256 that all of them are multiples of. */
uint32_t alignment_of(const void *a, const void *b, const void *c)
{
    const uintptr_t bits = (uintptr_t)a | (uintptr_t)b | (uintptr_t)c | 256;
    return (uint32_t)(bits & -bits);
}

cublasStatus_t describe(product *p, size_t out_stride, size_t stride, const float *bias, size_t n_rows,
                        size_t n_out, size_t n_in)
{
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    cublasStatus_t st = cublasLtMatmulDescCreate(&p->matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (!st)
        st = cublasLtMatmulDescSetAttribute(p->matmul, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                            sizeof transposed);
    if (!st && bias) {
        st = cublasLtMatmulDescSetAttribute(p->matmul, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                            sizeof epilogue);
        if (!st)
            st = cublasLtMatmulDescSetAttribute(p->matmul, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                                sizeof bias);
    }
    if (!st) st = cublasLtMatrixLayoutCreate(&p->w, CUDA_R_32F, n_in, n_out, (int64_t)stride);
    if (!st) st = cublasLtMatrixLayoutCreate(&p->x, CUDA_R_32F, n_in, n_rows, (int64_t)n_in);
    if (!st) st = cublasLtMatrixLayoutCreate(&p->out, CUDA_R_32F, n_out, n_rows, (int64_t)out_stride);
    return st;
}

cublasStatus_t choose(hw_cuda_device *c, product *p, hw_cuda_plan *plan)
{
    const size_t workspace = HW_CUDA_BLAS_BYTES;
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasStatus_t st = cublasLtMatmulPreferenceCreate(&p->wishes);
    if (!st)
        st = cublasLtMatmulPreferenceSetAttribute(p->wishes, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &workspace, sizeof workspace);
    for (cublasLtMatmulPreferenceAttributes_t a : alignments)
        if (!st)
            st = cublasLtMatmulPreferenceSetAttribute(p->wishes, a, &plan->alignment, sizeof plan->alignment);
    cublasLtMatmulHeuristicResult_t result = {};
    int n = 0;
    if (!st)
        st = cublasLtMatmulAlgoGetHeuristic(c->blas, p->matmul, p->w, p->x, p->out, p->out, p->wishes, 1,
                                            &result, &n);
    if (!st && !n) st = CUBLAS_STATUS_NOT_SUPPORTED;
    plan->algo = result.algo;
    return st;
}

bool same_shape(const hw_cuda_plan *a, const hw_cuda_plan *b)
{
    return a->n_out == b->n_out && a->n_rows == b->n_rows && a->n_in == b->n_in && a->stride == b->stride &&
           a->has_bias == b->has_bias && a->alignment == b->alignment;
}

/* Choosing takes longer than many a product, so the choices for the last shapes are kept. */
cublasStatus_t find_plan(hw_cuda_device *c, product *p, hw_cuda_plan *wanted)
{
    for (int i = 0; i < c->n_plans; i++)
        if (same_shape(&c->plans[i], wanted)) {
            wanted->algo = c->plans[i].algo;
            return CUBLAS_STATUS_SUCCESS;
        }
    cublasStatus_t st = choose(c, p, wanted);
    if (st) return st;
    c->plans[c->next_plan] = *wanted;
    c->next_plan = (c->next_plan + 1) % HW_CUDA_MAX_PLANS;
    if (c->n_plans < HW_CUDA_MAX_PLANS) c->n_plans++;
    return CUBLAS_STATUS_SUCCESS;
}

} // namespace

hw_status hw_cuda_blas_product(hw_cuda_device *c, float *out, size_t out_stride, const float *x,
                               const float *wide, size_t stride, const float *bias, size_t n_rows,
                               size_t n_out, size_t n_in)
{
    product p;
    hw_cuda_plan plan = {};
    const float one = 1, zero = 0;
    plan.n_out = n_out, plan.n_rows = n_rows, plan.n_in = n_in, plan.stride = stride;
    plan.has_bias = bias != nullptr;
    plan.alignment = alignment_of(out, x, wide);
    cublasStatus_t st = describe(&p, out_stride, stride, bias, n_rows, n_out, n_in);
    if (!st) st = find_plan(c, &p, &plan);
    if (!st)
        st = cublasLtMatmul(c->blas, p.matmul, &one, wide, p.w, x, p.x, &zero, out, p.out, out, p.out,
                            &plan.algo, c->blas_workspace, HW_CUDA_BLAS_BYTES, c->stream);
    return hw_cuda_blas_note(&c->failure, st, "matrix product");
}
