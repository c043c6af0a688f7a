/* Products by cuBLASLt. It counts columns first, so what is [n, dim] to us is [dim, n] to it, and y = x W^T
 * becomes y^T = W x^T. */
#include "kernels/cuda/cuda.h"

namespace
{

/* The descriptions that one product needs; all are taken back, made or not. */
struct product {
    const hw_blas_library *lt;
    cublasLtMatmulDesc_t matmul = nullptr;
    cublasLtMatrixLayout_t w = nullptr, x = nullptr, out = nullptr;
    cublasLtMatmulPreference_t wishes = nullptr;
    explicit product(const hw_blas_library *library) : lt(library) {}
    ~product()
    {
        if (wishes) lt->cublasLtMatmulPreferenceDestroy(wishes);
        if (out) lt->cublasLtMatrixLayoutDestroy(out);
        if (x) lt->cublasLtMatrixLayoutDestroy(x);
        if (w) lt->cublasLtMatrixLayoutDestroy(w);
        if (matmul) lt->cublasLtMatmulDescDestroy(matmul);
    }
};

/* The largest power of two up to 256 that all of them are multiples of. */
uint32_t alignment_of(const void *a, const void *b, const void *c)
{
    const uintptr_t bits = (uintptr_t)a | (uintptr_t)b | (uintptr_t)c | 256;
    return (uint32_t)(bits & -bits);
}

cudaDataType_t type_of(hw_dtype type)
{
    return type == HW_F32 ? CUDA_R_32F : type == HW_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

cublasStatus_t set_bias(product *p, const float *bias)
{
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    cublasStatus_t st = p->lt->cublasLtMatmulDescSetAttribute(p->matmul, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                                              &epilogue, sizeof epilogue);
    return st ? st
              : p->lt->cublasLtMatmulDescSetAttribute(p->matmul, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                                      sizeof bias);
}

cublasStatus_t describe(product *p, const hw_cuda_product *q)
{
    const hw_weight_dims *w = &q->w->dims;
    const cudaDataType_t type = type_of(w->format.type), out_type = q->wide ? CUDA_R_32F : type;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    cublasStatus_t st = p->lt->cublasLtMatmulDescCreate(&p->matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (!st)
        st = p->lt->cublasLtMatmulDescSetAttribute(p->matmul, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                                   sizeof transposed);
    if (!st && q->bias) st = set_bias(p, q->bias);
    if (!st) st = p->lt->cublasLtMatrixLayoutCreate(&p->w, type, w->n_in, w->n_out, (int64_t)q->w->stride);
    if (!st) st = p->lt->cublasLtMatrixLayoutCreate(&p->x, type, w->n_in, q->n_rows, (int64_t)w->n_in);
    if (!st)
        st = p->lt->cublasLtMatrixLayoutCreate(&p->out, out_type, w->n_out, q->n_rows, (int64_t)w->n_out);
    return st;
}

/* Rows of an odd number of elements are less aligned than where they begin; cuBLASLt knows that from the
 * layouts. */
cublasStatus_t choose(hw_cuda_device *c, product *p, hw_cuda_plan *plan)
{
    const size_t workspace = HW_CUDA_BLAS_BYTES;
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasStatus_t st = p->lt->cublasLtMatmulPreferenceCreate(&p->wishes);
    if (!st)
        st = p->lt->cublasLtMatmulPreferenceSetAttribute(p->wishes, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                         &workspace, sizeof workspace);
    for (cublasLtMatmulPreferenceAttributes_t a : alignments)
        if (!st)
            st = p->lt->cublasLtMatmulPreferenceSetAttribute(p->wishes, a, &plan->alignment,
                                                             sizeof plan->alignment);
    cublasLtMatmulHeuristicResult_t result = {};
    int n = 0;
    if (!st)
        st = p->lt->cublasLtMatmulAlgoGetHeuristic(c->blas, p->matmul, p->w, p->x, p->out, p->out, p->wishes,
                                                   1, &result, &n);
    plan->usable = !st && n;
    plan->algo = result.algo;
    return st == CUBLAS_STATUS_NOT_SUPPORTED ? CUBLAS_STATUS_SUCCESS : st;
}

bool same_shape(const hw_cuda_plan *a, const hw_cuda_plan *b)
{
    return a->n_out == b->n_out && a->n_rows == b->n_rows && a->n_in == b->n_in && a->stride == b->stride &&
           a->type == b->type && a->has_bias == b->has_bias && a->wide == b->wide &&
           a->alignment == b->alignment;
}

/* Choosing takes longer than many a product, so the choices for the last HW_CUDA_MAX_PLANS shapes are kept. A
 * choice holds for its number of rows alone: cuBLASLt promises nothing for others. A step with a new number
 * of rows chooses once for each shape of matrix and not for each layer, which is little beside its products. */
cublasStatus_t find_plan(hw_cuda_device *c, product *p, hw_cuda_plan *wanted)
{
    for (int i = 0; i < c->n_plans; i++)
        if (same_shape(&c->plans[i], wanted)) {
            *wanted = c->plans[i];
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

hw_status hw_cuda_blas_product(hw_cuda_device *c, const hw_cuda_product *q, bool *done)
{
    const char *const name = "matrix product of cuBLASLt";
    const hw_weight *w = q->w;
    product p(&c->lt);
    hw_cuda_plan plan = {};
    const float one = 1, zero = 0;
    plan.n_out = w->dims.n_out, plan.n_rows = q->n_rows, plan.n_in = w->dims.n_in, plan.stride = w->stride;
    plan.type = w->dims.format.type, plan.has_bias = q->bias != nullptr, plan.wide = q->wide;
    plan.alignment = alignment_of(q->out, q->x, w->data);
    cublasStatus_t st = describe(&p, q);
    if (!st) st = find_plan(c, &p, &plan);
    *done = !st && plan.usable;
    if (!st && !plan.usable) return HW_OK;
    if (!st)
        st =
            c->lt.cublasLtMatmul(c->blas, p.matmul, &one, w->data, p.w, q->x, p.x, &zero, q->out, p.out,
                                 q->out, p.out, &plan.algo, c->blas_workspace, HW_CUDA_BLAS_BYTES, c->stream);
    return st ? hw_cuda_blas_note(&c->failure, st, name) : hw_cuda_started(c, cudaSuccess, name);
}
