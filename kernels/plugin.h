/* Devices in separate shared objects, because they depend on foreign libraries: a process that does not use such a
 * device does not map them. */
#ifndef HW_KERNELS_PLUGIN_H
#define HW_KERNELS_PLUGIN_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Selects one of the host's devices: visible devices are assigned to ranks in turn. */
typedef struct hw_device_place {
    int local_rank, n_local_ranks; /* on this host */
} hw_device_place;

/* Local. `act`: the type of activations and matrices, HW_F32, HW_F16 or HW_BF16. `name`: "cuda" for the plug-in
 * libheadway_cuda.so, or a path, which contains a '/'. A name is searched for in the folders of HW_PLUGIN_PATH
 * (separated by colons), then beside the program or shared library with this code and in the library folder next to
 * that, then on the loader's search path. The plug-in stays mapped, also after an error. On HW_OK the caller owns *out
 * (hw_device_destroy). Errors: HW_ERR_UNSUPPORTED (no such plug-in, or one of another version), HW_ERR_DEVICE (no
 * driver, an old one, no device, or one that computes wrongly or hangs; HW_PROVE=off skips that test),
 * HW_ERR_NO_MEMORY. */
hw_status hw_plugin_device_create(hw_device **out, const char *name, hw_device_place place, hw_dtype act,
                                  hw_error *err);

/* The same for automatic selection. *found: whether there is a driver for such hardware here, even if creation fails. */
hw_status hw_plugin_device_try(hw_device **out, const char *name, hw_device_place place, hw_dtype act,
                               bool *found, hw_error *err);

/* Local. A symbol of the shared object libheadway_NAME.so, searched for in the same places; NULL when the object is
 * missing, cannot be loaded or lacks the symbol. For optional features. The object stays mapped. */
const void *hw_plugin_symbol(const char *name, const char *symbol);

/* Local. Whether automatic selection should look for a GPU: there is an NVIDIA driver (libcuda.so.1), or
 * HW_PLUGIN_PATH is set. Other processes need not map foreign libraries. */
bool hw_plugin_may_find_gpu(void);

/* Local. The symbol `name` of a device's plug-in; NULL if it has none, and for devices that come from no plug-in. */
void *hw_device_symbol(const hw_device *d, const char *name);

/* ---- the symbol that a plug-in exports: an hw_plugin_create_fn */

#define HW_PLUGIN_SYMBOL "hw_plugin_create"

/* Incremented with every change of kernels.h that affects plug-ins; the size of the op table is a second check. */
enum { HW_PLUGIN_VERSION = 10 };

typedef struct hw_plugin_request {
    uint64_t version, table_bytes;
    hw_device_place place;
    hw_dtype act;
    bool *found; /* set when there is a driver */
} hw_plugin_request;

typedef hw_status hw_plugin_create_fn(hw_device **out, const hw_plugin_request *request, hw_error *err);

#ifdef __cplusplus
}
#endif
#endif
