/* Which device each rank computes on, and what adds up there: where devices, which have never heard of ranks,
 * and communicators, which have never heard of devices, meet. */
#ifndef HW_RUNTIME_DEVICE_DEVICES_H
#define HW_RUNTIME_DEVICE_DEVICES_H

#include "kernels/kernels.h"
#include "parallel/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective. `name`: "cpu", "cuda", "reference", the path of a plug-in, or "auto": CUDA where every rank has
 * a GPU of its own, with a plug-in and a driver for it, else the CPU on all ranks. A communicator of one
 * process makes the device that a rank alone would have. `dtype`: of the weights; some devices keep
 * activations in it. On HW_OK the caller owns *out (hw_device_destroy), and `note` says, the same on all ranks, why GPUs that
 * are there were not taken by "auto", or is "";
 * errors are the same on all ranks: HW_ERR_UNSUPPORTED (no such device, no such plug-in), HW_ERR_DEVICE
 * (no driver, an old one, no GPU), HW_ERR_NO_MEMORY. */
hw_status hw_device_choose(hw_device **out, hw_comm *comm, const char *name, int n_threads, hw_dtype dtype,
                           hw_error *note, hw_error *err);

/* Collective. Lets collectives run on the device, where communicator and device both can: see
 * hw_comm_attach. One sum is made and compared with what it should be, unless HW_PROVE is "off": HW_ERR_DEVICE when it is
 * wrong, HW_ERR_RANK when it does not end. */
hw_status hw_device_attach(hw_device *d, hw_comm *comm, hw_error *err);

#ifdef __cplusplus
}
#endif
#endif
