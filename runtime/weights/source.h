/* Where a model's files come from: a folder that this rank sees, or the one that rank 0 sees, sent to the others. */
#ifndef HW_RUNTIME_WEIGHTS_SOURCE_H
#define HW_RUNTIME_WEIGHTS_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "parallel/comm.h"
#include "runtime/engine.h"

/* Plain; both are borrowed. */
typedef struct hw_source {
    const char *folder;
    hw_comm *comm; /* NULL: the folder is this rank's own. Else rank 0 alone looks into it, for all */
} hw_source;

/* Local. For options as the engine takes them; one rank alone reads for itself. */
hw_source hw_source_of(const char *folder, hw_weights_from weights, hw_comm *comm);

/* Local, or Collective when the source has a communicator: then all ranks get the same status. Reads a file whole,
 * at most `max_bytes`, zero-terminated; the caller frees *text. A file that is `optional` and not there is HW_OK with
 * *text NULL. Errors: HW_ERR_MODEL, HW_ERR_NO_MEMORY, HW_ERR_DEVICE. */
hw_status hw_source_read(const hw_source *s, const char *name, size_t max_bytes, bool optional, char **text,
                         size_t *n_bytes, hw_error *err);

#endif
