/* What this host is called. */
#ifndef HW_RUNTIME_BASE_HOST_H
#define HW_RUNTIME_BASE_HOST_H

#include <stddef.h>
#include <unistd.h>

/* Local. Writes the host's name, as the kernel has it, into name[size]: ended by a zero, and cut where it does not
 * fit; HOST_NAME_MAX + 1 bytes always do. The bytes behind the zero are not all written. */
static inline void hw_host_name(char *name, size_t size)
{
    name[0] = '\0';
    gethostname(name, size);
    name[size - 1] = '\0';
}

#endif
