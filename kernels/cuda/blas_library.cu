#include "kernels/cuda/blas_library.h"

#include <dlfcn.h>
#include <stdio.h>

static const char WAY_OUT[] =
    "install the CUDA libraries or the Python package nvidia-cublas, or use --device cpu";

/* Function pointers and dlsym's object pointers have the same representation wherever dlsym exists. */
static const char *find_functions(hw_blas_library *l)
{
#define HW_BLAS_FIND(name)                                                                                   \
    l->name = reinterpret_cast<decltype(l->name)>(dlsym(l->file.handle, #name));                             \
    if (!l->name) return #name;
    HW_BLAS_FUNCTIONS(HW_BLAS_FIND)
#undef HW_BLAS_FIND
    return nullptr;
}

hw_status hw_blas_open(hw_blas_library *out, hw_error *err)
{
    char file[32];
    hw_error why;
    *out = {};
    snprintf(file, sizeof file, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
    if (hw_library_open(&out->file, file, "HW_CUBLASLT", &why))
        return hw_fail(err, HW_ERR_DEVICE, "device cuda: cuBLASLt was not found: %s; %s", why.message,
                       WAY_OUT);
    const char *missing = find_functions(out);
    if (missing)
        return hw_fail(err, HW_ERR_DEVICE, "device cuda: %s is no cuBLASLt: it lacks %s; %s", out->file.path,
                       missing, WAY_OUT);
    out->version = out->cublasLtGetVersion();
    return HW_OK;
}
