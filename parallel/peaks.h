/* Times the collectives of the underlying libraries, to compare ours with them. */
#ifndef HW_PARALLEL_PEAKS_H
#define HW_PARALLEL_PEAKS_H

#include "parallel/comm.h"

/* Collective. Seconds of one MPI_Allreduce, in place over `count` float32 of host memory that start as zeros:
 * the mean of `repeats` calls, each of which needs the result of the previous one. With several ranks, a
 * communicator must have initialised MPI. Not metered. Errors: HW_ERR_UNSUPPORTED without MPI, HW_ERR_DEVICE. */
hw_status hw_peak_mpi_all_reduce(double *seconds, float *buffer, size_t count, int repeats, hw_error *err);

/* Collective, on a communicator with a device. The same for the device's library: a sum in place over `count`
 * elements D of zeros, as in a decode step, in a graph of `repeats`. Not metered. Errors: HW_ERR_DEVICE,
 * HW_ERR_RANK. */
hw_status hw_peak_device_all_reduce(double *seconds, hw_comm *c, void *buffer, size_t count, hw_dtype type,
                                    int repeats, hw_error *err);

#endif
