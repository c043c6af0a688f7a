/* Chooses the device of each rank and its collectives. Devices do not know ranks, and communicators do not know
 * devices; this module connects them. */
#ifndef HW_RUNTIME_DEVICE_DEVICES_H
#define HW_RUNTIME_DEVICE_DEVICES_H

#include "kernels/kernels.h"
#include "parallel/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective. `name`: "cpu", "cuda", "reference", the path of a plug-in, or "auto": CUDA if every rank has a GPU to
 * itself, with a plug-in and a driver for it, else the CPU on all ranks. `dtype`: of the weights; some devices keep
 * activations in it too. On HW_OK the caller owns *out (hw_device_destroy), and `note` says why "auto" did not take a
 * GPU although there is a driver, or is ""; it is the same on all ranks. Errors are the same on all ranks: HW_ERR_UNSUPPORTED (no
 * such device, no such plug-in), HW_ERR_DEVICE (no driver, an old one, no GPU), HW_ERR_NO_MEMORY. */
hw_status hw_device_choose(hw_device **out, hw_comm *comm, const char *name, int n_threads, hw_dtype dtype,
                           hw_error *note, hw_error *err);

/* Collective. Lets collectives run on the device if communicator and device both support it: see hw_comm_attach. Unless
 * HW_PROVE is "off", tests one sum: HW_ERR_DEVICE if the result is wrong, HW_ERR_RANK if it does not complete. */
hw_status hw_device_attach(hw_device *d, hw_comm *comm, hw_error *err);

#ifdef __cplusplus
}
#endif
#endif
