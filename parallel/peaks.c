#include "parallel/peaks.h"

#include <limits.h>
#include <mpi.h>

#include "runtime/base/clock.h"

hw_status hw_peak_mpi_all_reduce(double *seconds, float *buffer, size_t count, int repeats, hw_error *err)
{
    int started = 0, code = MPI_Initialized(&started);
    if (code || !started || count > INT_MAX)
        return hw_fail(err, HW_ERR_UNSUPPORTED, "MPI_Allreduce of %zu numbers cannot be measured%s", count,
                       started ? "" : ": MPI is not in use");
    code = MPI_Barrier(MPI_COMM_WORLD);
    const uint64_t start = hw_clock_ns();
    for (int i = 0; i < repeats && !code; i++)
        code = MPI_Allreduce(MPI_IN_PLACE, buffer, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    *seconds = hw_seconds_since(start) / repeats;
    return code ? hw_fail(err, HW_ERR_DEVICE, "MPI_Allreduce: error %d", code) : HW_OK;
}
