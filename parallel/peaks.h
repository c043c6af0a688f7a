/* What the collectives of the library below us take, for comparing with ours. */
#ifndef HW_PARALLEL_PEAKS_H
#define HW_PARALLEL_PEAKS_H

#include "parallel/comm.h"

/* Collective. Seconds of one MPI_Allreduce, in place over `count` float32 of host memory that start as zeros,
 * the mean of `repeats` calls of which each needs the result of the one before. Where ranks are many, MPI has
 * been started by a communicator of theirs. Not metered. Errors: HW_ERR_UNSUPPORTED without MPI,
 * HW_ERR_DEVICE. */
hw_status hw_peak_mpi_all_reduce(double *seconds, float *buffer, size_t count, int repeats, hw_error *err);

/* Collective, on a communicator with a device. The same of the device's library: a sum in place over `count`
 * elements D of zeros, as a decode step has it, in a graph of `repeats`. Not metered. Errors: HW_ERR_DEVICE,
 * HW_ERR_RANK. */
hw_status hw_peak_device_all_reduce(double *seconds, hw_comm *c, void *buffer, size_t count, hw_dtype type,
                                    int repeats, hw_error *err);

#endif
