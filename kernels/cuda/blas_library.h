/* cuBLASLt, opened when a device is made and not when the plug-in is loaded: so a plug-in says what is missing, and finds
 * it where CUDA is not in the loader's path. */
#ifndef HW_KERNELS_CUDA_BLAS_LIBRARY_H
#define HW_KERNELS_CUDA_BLAS_LIBRARY_H

#include <cublasLt.h>

#include "runtime/base/library.h"

/* Every function that is called. */
#define HW_BLAS_FUNCTIONS(X)                                                                                 \
    X(cublasLtGetVersion)                                                                                    \
    X(cublasLtCreate)                                                                                        \
    X(cublasLtDestroy)                                                                                       \
    X(cublasLtMatmulDescCreate)                                                                              \
    X(cublasLtMatmulDescSetAttribute)                                                                        \
    X(cublasLtMatmulDescDestroy)                                                                             \
    X(cublasLtMatrixLayoutCreate)                                                                            \
    X(cublasLtMatrixLayoutDestroy)                                                                           \
    X(cublasLtMatmulPreferenceCreate)                                                                        \
    X(cublasLtMatmulPreferenceSetAttribute)                                                                  \
    X(cublasLtMatmulPreferenceDestroy)                                                                       \
    X(cublasLtMatmulAlgoGetHeuristic)                                                                        \
    X(cublasLtMatmul)

typedef struct hw_blas_library {
    hw_library file;
    size_t version; /* 130100 is 13.1.0 */
#define HW_BLAS_MEMBER(name) decltype(&::name) name;
    HW_BLAS_FUNCTIONS(HW_BLAS_MEMBER)
#undef HW_BLAS_MEMBER
} hw_blas_library;

/* Local. The cuBLASLt of the major version that this was compiled with; HW_CUBLASLT names a file. Errors:
 * HW_ERR_DEVICE. */
hw_status hw_blas_open(hw_blas_library *out, hw_error *err);

#endif
