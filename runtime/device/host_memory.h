/* The memory of this host. Local. */
#ifndef HW_RUNTIME_DEVICE_HOST_MEMORY_H
#define HW_RUNTIME_DEVICE_HOST_MEMORY_H

#include <stdint.h>

/* Bytes that this process can still allocate: the minimum of MemAvailable, what is left under the control group's
 * limit, and what is left under RLIMIT_AS. UINT64_MAX if unknown. The ranks of a host share it. */
uint64_t hw_memory_available(void);

/* Peak resident size of this process so far, in bytes; 0 if unknown. */
uint64_t hw_memory_peak(void);

#endif
