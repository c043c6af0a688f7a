/* The processors of this host as the kernel shows them in /sys. Not hwloc: it looks for displays and
 * accelerators first, which takes longer than everything else at the start of one rank together. All
 * functions are Local. */
#ifndef HW_RUNTIME_DEVICE_CORES_H
#define HW_RUNTIME_DEVICE_CORES_H

#include <sched.h>

/* Where this process may run: where any of its threads may, since an engine keeps some on cores of their own.
 * Empty when that cannot be known. */
cpu_set_t hw_cores_allowed(void);

/* The cores among them, cores of one NUMA node side by side: of each its first allowed processor (its
 * hardware threads are one core). Writes at most CPU_SETSIZE numbers to `cpus`, returns how many. */
int hw_cores_list(int *cpus, const cpu_set_t *allowed);

/* How many processors' time this process's control group (v2 or v1) may use, rounded up; INT_MAX: no limit.
 */
int hw_cores_quota(void);

#endif
