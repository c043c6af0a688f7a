/* The number and placement of a rank's threads. Ranks of a host that may run on the same processors divide them into
 * whole cores in the order of NUMA nodes. A rank that is bound to its own processors (by mpirun, taskset, a batch
 * system) uses these. */
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
    int n_cpus;            /* processors to pin the threads to; 0: not pinned */
    int cpus[CPU_SETSIZE]; /* one for each core of the share */
} hw_threads;

/* Collective. `wanted` 0: one thread per core of the share, at least one. Where ranks divide cores and `pin` is set,
 * threads are pinned to their rank's share, unless there are fewer cores than ranks, threads outnumber the share, or a
 * control group's quota is less than the cores: then the kernel schedules better. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_threads_settle(hw_threads *out, hw_comm *comm, int wanted, bool pin, hw_error *err);

/* Local and pure. The share of the i-th of n_sharing ranks in n_cores cores in order. */
void hw_threads_share(int n_cores, int n_sharing, int i, int *first, int *n);

#endif
