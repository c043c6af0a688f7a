/* The processors of this host as the kernel shows them in /sys. hwloc is not used because it first looks for displays
 * and accelerators, which takes longer than the rest of the start-up of one rank. All functions are Local. */
#ifndef HW_RUNTIME_DEVICE_CORES_H
#define HW_RUNTIME_DEVICE_CORES_H

#include <sched.h>

/* The processors on which any thread of this process may run, since an engine pins some threads to a subset. Empty if
 * unknown. */
cpu_set_t hw_cores_allowed(void);

/* The cores among `allowed`, ordered by NUMA node: the first allowed processor of each (hardware threads count as one
 * core). Writes at most CPU_SETSIZE numbers to `cpus`, and returns how many. */
int hw_cores_list(int *cpus, const cpu_set_t *allowed);

/* The number of cores that this process may use, at least 1; hardware threads count as one core. */
int hw_cores_count(void);

/* The CPU quota of this process's control group (v2 or v1), in processors, rounded up; INT_MAX: no limit. */
int hw_cores_quota(void);

#endif
