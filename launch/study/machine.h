/* The peak rates of the ranks of this run, measured in the same minutes as the experiments: the two numbers of a
 * roofline. */
#ifndef HW_LAUNCH_STUDY_MACHINE_H
#define HW_LAUNCH_STUDY_MACHINE_H

#include "kernels/kernels.h"
#include "parallel/comm.h"

/* Sums over all ranks, all of them busy at the same time. Plain. */
typedef struct hw_machine {
    double memory_read;    /* bytes per second, over a working set far larger than caches */
    double weight_read;    /* the same over as many bytes as this rank's weights, which may fit a cache */
    uint64_t memory_bytes; /* the two working sets, per rank */
    uint64_t weight_bytes;
    double product_rate; /* FLOP per second of a product of a large matrix with many rows */
} hw_machine;

/* Collective. On the threads of `d` if it is the CPU device, else on as many threads of the host. `weight_bytes`: of
 * this rank; `dtype`: of the weights. Errors: HW_ERR_NO_MEMORY, HW_ERR_DEVICE. */
hw_status hw_machine_measure(hw_machine *out, hw_comm *comm, hw_device *d, hw_dtype dtype,
                             uint64_t weight_bytes, hw_error *err);

#endif
