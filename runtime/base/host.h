/* What this host is called, and where it keeps what is temporary. */
#ifndef HW_RUNTIME_BASE_HOST_H
#define HW_RUNTIME_BASE_HOST_H

#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/status.h"

/* Local. Writes the host's name, as the kernel has it, into name[size]: ended by a zero, and cut where it does not
 * fit; HOST_NAME_MAX + 1 bytes always do. The bytes behind the zero are not all written. */
static inline void hw_host_name(char *name, size_t size)
{
    name[0] = '\0';
    gethostname(name, size);
    name[size - 1] = '\0';
}

/* Local. Says whose an error is, and in front of its message, "rank 1 on HOST: ...". Does nothing when `st` is
 * HW_OK. Returns `st`. */
static inline hw_status hw_rank_context(hw_error *err, hw_status st, int rank)
{
    char host[HOST_NAME_MAX + 1];
    hw_host_name(host, sizeof host);
    if (st && err) err->rank = rank;
    return hw_context(err, st, "rank %d on %s", rank, host);
}

/* Local. $TMPDIR, else /tmp. */
static inline const char *hw_temporary_folder(void)
{
    const char *folder = getenv("TMPDIR");
    return folder && *folder ? folder : "/tmp";
}

#endif
