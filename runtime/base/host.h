/* The name of this host, and its folder for temporary files. */
#ifndef HW_RUNTIME_BASE_HOST_H
#define HW_RUNTIME_BASE_HOST_H

#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/status.h"

/* Local. Writes the kernel's host name into name[size], zero-terminated, and cut off if it does not fit;
 * HOST_NAME_MAX + 1 bytes always suffice. Bytes after the zero may stay unwritten. */
static inline void hw_host_name(char *name, size_t size)
{
    name[0] = '\0';
    gethostname(name, size);
    name[size - 1] = '\0';
}

/* Local. Sets the rank of an error, and puts "rank 1 on HOST: " in front of its message. Does nothing when `st` is
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
