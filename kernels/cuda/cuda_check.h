/* The one place where errors of the CUDA runtime and of cuBLASLt become ours. */
#ifndef HW_KERNELS_CUDA_CUDA_CHECK_H
#define HW_KERNELS_CUDA_CUDA_CHECK_H

#include <cublasLt.h>
#include <cuda_runtime.h>

#include "runtime/base/status.h"

/* The first thing that went wrong. Ops cannot give a message themselves; `synchronize` does, from this. */
typedef struct hw_cuda_failure {
    const char *what; /* the call or kernel; NULL: nothing went wrong */
    cudaError_t code;
    cublasStatus_t blas; /* when code is cudaSuccess */
} hw_cuda_failure;

/* Running out of memory is HW_ERR_NO_MEMORY, everything else HW_ERR_DEVICE. */
static inline hw_status hw_cuda_status(cudaError_t code)
{
    if (code == cudaSuccess) return HW_OK;
    return code == cudaErrorMemoryAllocation ? HW_ERR_NO_MEMORY : HW_ERR_DEVICE;
}

/* For calls that can say what went wrong. The runtime also remembers an error for whoever asks next: it is
 * taken from there, as it has been told. */
static inline hw_status hw_cuda_check(hw_error *err, cudaError_t code, const char *what)
{
    if (code == cudaSuccess) return HW_OK;
    (void)cudaGetLastError();
    return hw_fail(err, hw_cuda_status(code), "device cuda: %s: %s (%s)", what, cudaGetErrorString(code),
                   cudaGetErrorName(code));
}

/* cuBLASLt has names for them too, but it may be what is missing. */
static inline const char *hw_cuda_blas_name(cublasStatus_t code)
{
    switch (code) {
    case CUBLAS_STATUS_NOT_INITIALIZED: return "it could not be initialised";
    case CUBLAS_STATUS_ALLOC_FAILED: return "it could not allocate memory";
    case CUBLAS_STATUS_INVALID_VALUE: return "invalid value";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "not for this GPU";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "execution failed";
    case CUBLAS_STATUS_INTERNAL_ERROR: return "internal error";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "not supported";
    default: return "unknown error";
    }
}

static inline hw_status hw_cuda_blas_check(hw_error *err, cublasStatus_t code, const char *what)
{
    if (code == CUBLAS_STATUS_SUCCESS) return HW_OK;
    return hw_fail(err, code == CUBLAS_STATUS_ALLOC_FAILED ? HW_ERR_NO_MEMORY : HW_ERR_DEVICE,
                   "device cuda: cuBLASLt: %s: %s (%d)", what, hw_cuda_blas_name(code), (int)code);
}

/* For ops. */
static inline hw_status hw_cuda_note(hw_cuda_failure *failure, cudaError_t code, const char *what)
{
    if (code == cudaSuccess) return HW_OK;
    (void)cudaGetLastError();
    if (!failure->what) *failure = {what, code, CUBLAS_STATUS_SUCCESS};
    return hw_cuda_status(code);
}

static inline hw_status hw_cuda_blas_note(hw_cuda_failure *failure, cublasStatus_t code, const char *what)
{
    if (code == CUBLAS_STATUS_SUCCESS) return HW_OK;
    if (!failure->what) *failure = {what, cudaSuccess, code};
    return HW_ERR_DEVICE;
}

/* Tells what was noted, every time: a device that failed stays that way. HW_OK when there is nothing. */
static inline hw_status hw_cuda_tell(const hw_cuda_failure *failure, hw_error *err)
{
    if (!failure->what) return HW_OK;
    return failure->code ? hw_cuda_check(err, failure->code, failure->what)
                         : hw_cuda_blas_check(err, failure->blas, failure->what);
}

#endif
