/* NCCL, found when it is asked for and not when the plug-in is loaded: a rank that adds over MPI does without
 * it. Everything from 2.18 on will do; what is newer than that is not used. */
#ifndef HW_PARALLEL_NCCL_LIBRARY_H
#define HW_PARALLEL_NCCL_LIBRARY_H

#include <cuda_runtime.h>
#include <nccl.h>

#include "runtime/base/library.h"

/* Every function that is called. */
#define HW_NCCL_FUNCTIONS(X)                                                                                 \
    X(ncclGetVersion)                                                                                        \
    X(ncclGetErrorString)                                                                                    \
    X(ncclGetUniqueId)                                                                                       \
    X(ncclCommInitRankConfig)                                                                                \
    X(ncclCommGetAsyncError)                                                                                 \
    X(ncclCommFinalize)                                                                                      \
    X(ncclCommDestroy)                                                                                       \
    X(ncclCommAbort)                                                                                         \
    X(ncclAllReduce)

typedef struct hw_nccl_library {
    hw_library file;
    int version; /* 2.30.1 is 23001 */
#define HW_NCCL_MEMBER(name) decltype(&::name) name;
    HW_NCCL_FUNCTIONS(HW_NCCL_MEMBER)
#undef HW_NCCL_MEMBER
} hw_nccl_library;

/* Local. libnccl.so.2 as hw_library_open finds it, or the file that HW_NCCL names. Errors: HW_ERR_DEVICE. */
hw_status hw_nccl_open(hw_nccl_library *out, hw_error *err);

/* Local. The one place where NCCL's errors become ours: HW_ERR_RANK when others are gone, HW_ERR_NO_MEMORY
 * never (NCCL does not say), else HW_ERR_DEVICE. */
hw_status hw_nccl_check(const hw_nccl_library *l, hw_error *err, ncclResult_t code, const char *what);

#endif
