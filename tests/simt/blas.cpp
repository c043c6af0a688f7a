/* cuBLASLt as plain loops. It refuses what it was not asked to plan for: another shape, or pointers that
 * are less aligned than was said. */
#include <cublasLt.h>

#include "tests/simt/simt.h"

struct hw_simt_blas {
    int unused;
};
struct hw_simt_blas_matmul {
    cublasOperation_t transposed;
    cublasLtEpilogue_t epilogue;
    const float *bias;
};
struct hw_simt_blas_layout {
    uint64_t rows, cols;
    int64_t ld;
};
struct hw_simt_blas_preference {
    uint64_t workspace_bytes;
    uint32_t alignments[4];
};

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "unknown";
}

template <typename T> static cublasStatus_t make(T **out)
{
    *out = new T();
    return CUBLAS_STATUS_SUCCESS;
}
template <typename T> static cublasStatus_t take_back(T *object)
{
    delete object;
    return CUBLAS_STATUS_SUCCESS;
}
template <typename T> static cublasStatus_t set(T *to, const void *value, size_t n_bytes)
{
    if (n_bytes != sizeof *to) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, n_bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) { return make(out); }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return take_back(handle); }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t, cudaDataType_t)
{
    make(out);
    (*out)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute, const void *value,
                                              size_t n_bytes)
{
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(&desc->transposed, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(&desc->epilogue, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(&desc->bias, value, n_bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { return take_back(desc); }

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType_t, uint64_t rows,
                                          uint64_t cols, int64_t ld)
{
    if (ld < (int64_t)rows) return CUBLAS_STATUS_INVALID_VALUE;
    make(out);
    **out = {rows, cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return take_back(layout); }
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) { return make(out); }
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    return take_back(preference);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t n_bytes)
{
    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        return set(&preference->workspace_bytes, value, n_bytes);
    return set(&preference->alignments[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value,
               n_bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int n_wanted,
                                              cublasLtMatmulHeuristicResult_t *out, int *n)
{
    const uint32_t *al = preference->alignments;
    *n = n_wanted ? 1 : 0;
    if (n_wanted) out->algo = {{d->rows, d->cols, b->rows, (uint64_t)a->ld, al[0], al[1], al[3], 0}};
    return CUBLAS_STATUS_SUCCESS;
}

static bool aligned(const void *p, uint64_t to) { return to && (uintptr_t)p % to == 0; }

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t layout_a, const void *b, cublasLtMatrixLayout_t layout_b,
                              const void *beta, const void *c, cublasLtMatrixLayout_t, void *d,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t *algo, void *,
                              size_t, cudaStream_t)
{
    const hw_simt_blas_layout la = *layout_a, lb = *layout_b, ld = *layout_d;
    const float *bias = desc->epilogue == CUBLASLT_EPILOGUE_BIAS ? desc->bias : nullptr;
    if (desc->transposed != CUBLAS_OP_T || *(const float *)alpha != 1 || *(const float *)beta != 0 || c != d)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (la.rows != lb.rows || la.cols != ld.rows || lb.cols != ld.cols) return CUBLAS_STATUS_INVALID_VALUE;
    const uint64_t *plan = algo->data;
    if (plan[0] != ld.rows || plan[1] != ld.cols || plan[2] != lb.rows || plan[3] != (uint64_t)la.ld ||
        !aligned(a, plan[4]) || !aligned(b, plan[5]) || !aligned(d, plan[6]))
        return CUBLAS_STATUS_INVALID_VALUE;
    hw_simt_enqueue([=] {
        for (uint64_t col = 0; col < ld.cols; col++)
            for (uint64_t row = 0; row < ld.rows; row++) {
                const float *x = (const float *)a + row * (uint64_t)la.ld,
                            *y = (const float *)b + col * (uint64_t)lb.ld;
                double sum = 0;
                for (uint64_t k = 0; k < la.rows; k++) sum += (double)x[k] * (double)y[k];
                ((float *)d)[col * (uint64_t)ld.ld + row] = (float)sum + (bias ? bias[row] : 0.0f);
            }
    });
    return CUBLAS_STATUS_SUCCESS;
}
