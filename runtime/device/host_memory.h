/* How much host memory there is for one rank. Local. */
#ifndef HW_RUNTIME_DEVICE_HOST_MEMORY_H
#define HW_RUNTIME_DEVICE_HOST_MEMORY_H

#include <stdint.h>

/* Bytes that this process can still take: the least of what the kernel calls available, what is left under
 * the control group's limit and under RLIMIT_AS. UINT64_MAX when nothing is known. Ranks of one host share
 * it: divide. */
uint64_t hw_memory_available(void);

/* Peak resident size of this process so far, in bytes; 0 when not known. */
uint64_t hw_memory_peak(void);

#endif
