#include "parallel/nccl/library.h"

#include <dlfcn.h>

static const int OLDEST = 21800;
static const char WAY_OUT[] = "install NCCL 2.18 or later, or use --comm mpi";

/* Function pointers and dlsym's object pointers have the same representation wherever dlsym exists. */
static bool find_functions(hw_nccl_library *l, const char **missing)
{
#define HW_NCCL_FIND(name)                                                                                   \
    l->name = reinterpret_cast<decltype(l->name)>(dlsym(l->file.handle, #name));                             \
    if (!l->name) *missing = #name;
    HW_NCCL_FUNCTIONS(HW_NCCL_FIND)
#undef HW_NCCL_FIND
    return !*missing;
}

hw_status hw_nccl_open(hw_nccl_library *out, hw_error *err)
{
    const char *missing = nullptr;
    hw_error why;
    *out = {};
    if (hw_library_open(&out->file, "libnccl.so.2", "HW_NCCL", &why))
        return hw_fail(err, HW_ERR_DEVICE, "collectives \"nccl\": NCCL was not found: %s; %s", why.message,
                       WAY_OUT);
    if (!find_functions(out, &missing))
        return hw_fail(err, HW_ERR_DEVICE, "collectives \"nccl\": the NCCL that was found lacks %s; %s",
                       missing, WAY_OUT);
    const ncclResult_t code = out->ncclGetVersion(&out->version);
    if (code) return hw_nccl_check(out, err, code, "asking for its version");
    if (out->version < OLDEST)
        return hw_fail(err, HW_ERR_DEVICE, "collectives \"nccl\": NCCL %d.%d was found, too old; %s",
                       out->version / 10000, out->version / 100 % 100, WAY_OUT);
    return HW_OK;
}

hw_status hw_nccl_check(const hw_nccl_library *l, hw_error *err, ncclResult_t code, const char *what)
{
    if (code == ncclSuccess) return HW_OK;
    return hw_fail(err, code == ncclRemoteError ? HW_ERR_RANK : HW_ERR_DEVICE, "NCCL %d.%d: %s: %s",
                   l->version / 10000, l->version / 100 % 100, what, l->ncclGetErrorString(code));
}
