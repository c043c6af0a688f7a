/* Devices that live in shared objects of their own, because they bring foreign libraries with them: a
 * process that does not use such a device does not map them. */
#ifndef HW_KERNELS_PLUGIN_H
#define HW_KERNELS_PLUGIN_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Which of the host's devices a rank gets. Ranks take the visible devices in turn. */
typedef struct hw_device_place {
    int local_rank, n_local_ranks; /* on this host */
} hw_device_place;

/* Local. `act`: the type of activations and matrices, HW_F32, HW_F16 or HW_BF16. `name`: "cuda" for the plug-in libheadway_cuda.so, or the path of one, which has a '/' in it. By
 * name it is looked for in the folders of HW_PLUGIN_PATH (separated by colons), then beside the program or
 * shared library that this code is in and in the library folder next to that, then wherever the loader
 * looks. The plug-in stays mapped. On HW_OK the caller owns *out (hw_device_destroy). Errors:
 * HW_ERR_UNSUPPORTED (no such plug-in, or one from another version), HW_ERR_DEVICE (no driver, an old one,
 * no device, or one that computes wrongly or hangs: HW_PROVE=off does not look), HW_ERR_NO_MEMORY. */
hw_status hw_plugin_device_create(hw_device **out, const char *name, hw_device_place place, hw_dtype act,
                                  hw_error *err);

/* The same for a device that nobody asked for. *found: whether there is such hardware here, whatever became of it. */
hw_status hw_plugin_device_try(hw_device **out, const char *name, hw_device_place place, hw_dtype act,
                               bool *found, hw_error *err);

/* Local. A symbol of the shared object libheadway_NAME.so, looked for in the same places; NULL when it is not
 * there, cannot be loaded or has no such symbol. For what a process can do without. It stays mapped. */
const void *hw_plugin_symbol(const char *name, const char *symbol);

/* Local. Whether it is worth looking for a GPU that nobody asked for: there is an NVIDIA driver
 * (libcuda.so.1), or HW_PLUGIN_PATH says where plug-ins are. Spares a process without either the mapping of
 * foreign libraries. */
bool hw_plugin_may_find_gpu(void);

/* Local. What else the plug-in of a device exports as `name`; NULL when nothing, and for devices that come
 * from no plug-in. */
void *hw_device_symbol(const hw_device *d, const char *name);

/* ---- what a plug-in exports, under this name */

#define HW_PLUGIN_SYMBOL "hw_plugin_create"

/* Grows with every change of kernels.h that a plug-in could notice; the size of the op table catches what
 * this misses. */
enum { HW_PLUGIN_VERSION = 10 };

typedef struct hw_plugin_request {
    uint64_t version, table_bytes;
    hw_device_place place;
    hw_dtype act;
    bool *found; /* set when there is hardware to make a device of */
} hw_plugin_request;

typedef hw_status hw_plugin_create_fn(hw_device **out, const hw_plugin_request *request, hw_error *err);

#ifdef __cplusplus
}
#endif
#endif
