/* cuBLASLt as plain loops; HW_SIMT_WRONG_PRODUCT=n lets one number of the n-th product be wrong. It refuses what it was not asked to plan for: another shape, or pointers that
 * are less aligned than was said. */
#include <cublasLt.h>

#include "runtime/base/dtype.h"
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
    cudaDataType_t type;
    uint64_t rows, cols;
    int64_t ld;
};
struct hw_simt_blas_preference {
    uint64_t workspace_bytes;
    uint32_t alignments[4];
};

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

size_t cublasLtGetVersion() { return 130100; }
cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    return hw_simt_is_lost() ? CUBLAS_STATUS_NOT_INITIALIZED : make(out);
}
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

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType_t type, uint64_t rows,
                                          uint64_t cols, int64_t ld)
{
    if (ld < (int64_t)rows) return CUBLAS_STATUS_INVALID_VALUE;
    make(out);
    **out = {type, rows, cols, ld};
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
    /* Of some shapes it says that it has nothing, as the real one may. */
    *n = n_wanted && b->rows % 5 != 3 ? 1 : 0;
    if (n_wanted)
        out->algo = {{d->rows, d->cols, b->rows, (uint64_t)a->ld, al[0], al[1], al[3], (uint64_t)d->type}};
    return CUBLAS_STATUS_SUCCESS;
}

static size_t size_of(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : 2; }

static double number(const void *p, cudaDataType_t type, uint64_t i)
{
    const char *at = (const char *)p + i * size_of(type);
    uint16_t half;
    float x;
    memcpy(&half, at, sizeof half);
    if (type == CUDA_R_32F) memcpy(&x, at, sizeof x);
    else x = type == CUDA_R_16F ? hw_f16_to_f32(half) : hw_bf16_to_f32(half);
    return (double)x;
}

static void put(void *p, cudaDataType_t type, uint64_t i, float x)
{
    char *at = (char *)p + i * size_of(type);
    const uint16_t half = type == CUDA_R_16F ? hw_f32_to_f16(x) : hw_f32_to_bf16(x);
    if (type == CUDA_R_32F) memcpy(at, &x, sizeof x);
    else memcpy(at, &half, sizeof half);
}

static long n_products;
static bool is_loaded;

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
        plan[7] != (uint64_t)ld.type || !aligned(a, plan[4]) || !aligned(b, plan[5]) || !aligned(d, plan[6]))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (la.type != lb.type || (ld.type != la.type && ld.type != CUDA_R_32F) ||
        (bias && ld.type != CUDA_R_32F))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (hw_simt_is_lost()) return CUBLAS_STATUS_EXECUTION_FAILED;
    hw_simt_first_use(&is_loaded);
    const bool wrong = hw_simt_is_to_fail("HW_SIMT_WRONG_PRODUCT", &n_products);
    hw_simt_enqueue([=] {
        for (uint64_t col = 0; col < ld.cols; col++)
            for (uint64_t row = 0; row < ld.rows; row++) {
                double sum = wrong && row + 1 == ld.rows && col + 1 == ld.cols; /* the last */
                for (uint64_t k = 0; k < la.rows; k++)
                    sum += number(a, la.type, row * (uint64_t)la.ld + k) *
                           number(b, lb.type, col * (uint64_t)lb.ld + k);
                put(d, ld.type, col * (uint64_t)ld.ld + row, (float)sum + (bias ? bias[row] : 0.0f));
            }
    });
    return CUBLAS_STATUS_SUCCESS;
}
