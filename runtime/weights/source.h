/* The source of a model's files: a folder on this rank, or a folder on rank 0, which sends the files to the others. */
#ifndef HW_RUNTIME_WEIGHTS_SOURCE_H
#define HW_RUNTIME_WEIGHTS_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "parallel/comm.h"
#include "runtime/engine.h"

/* Plain; both are borrowed. */
typedef struct hw_source {
    const char *folder;
    hw_comm *comm; /* NULL: this rank reads the folder. Else rank 0 alone reads it, for all */
} hw_source;

/* Local. The source for these engine options; a single rank reads for itself. */
hw_source hw_source_of(const char *folder, hw_weights_from weights, hw_comm *comm);

/* Local, or Collective if the source has a communicator: then all ranks get the same status. Reads a whole file of at
 * most `max_bytes`, zero-terminated; the caller frees *text. For an `optional` file that does not exist the result is
 * HW_OK with *text NULL. Errors: HW_ERR_MODEL, HW_ERR_NO_MEMORY, HW_ERR_DEVICE. */
hw_status hw_source_read(const hw_source *s, const char *name, size_t max_bytes, bool optional, char **text,
                         size_t *n_bytes, hw_error *err);

#endif
