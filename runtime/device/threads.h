/* How many threads a rank has, and where they run. The ranks of a host that may run on the same processors
 * divide these among themselves, whole cores in the order of NUMA nodes. A rank that was given processors of
 * its own (by mpirun's binding, taskset, a batch system) keeps to them. */
#ifndef HW_RUNTIME_DEVICE_THREADS_H
#define HW_RUNTIME_DEVICE_THREADS_H

#include <sched.h>
#include <stdbool.h>

#include "parallel/comm.h"

typedef struct hw_threads {
    int n;         /* of this rank */
    int n_cores;   /* this rank's share; 0: there are fewer cores than ranks, which take turns */
    int n_allowed; /* cores that this rank may run on, shared with `n_sharing` ranks, this one included */
    int n_sharing;
    bool few;              /* on some rank `n` is more than its share (at least 1) */
    int n_cpus;            /* processors to keep the threads on; 0: they are free */
    int cpus[CPU_SETSIZE]; /* one for each core of the share */
} hw_threads;

/* Collective. `wanted` 0: as many as the share has cores, at least one. Where ranks divide cores, threads are
 * kept on those of their rank's share when `pin` says so, unless ranks take turns, threads outnumber the
 * share, or a quota of the control group gives less than the cores show: then the kernel knows better.
 * Errors: HW_ERR_NO_MEMORY. */
hw_status hw_threads_settle(hw_threads *out, hw_comm *comm, int wanted, bool pin, hw_error *err);

/* Local and pure: cores of the i-th of n_sharing ranks, of n_cores in order. */
void hw_threads_share(int n_cores, int n_sharing, int i, int *first, int *n);

#endif
