#include "runtime/weights/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/json.h"
#include "runtime/weights/checkpoint.h"

hw_source hw_source_of(const char *folder, hw_weights_from weights, hw_comm *comm)
{
    const bool sent = weights == HW_WEIGHTS_SCATTER && hw_comm_n_ranks(comm) > 1;
    return (hw_source){.folder = folder, .comm = sent ? comm : NULL};
}

static hw_status read_own(const hw_source *s, const char *name, size_t max_bytes, bool optional, char **text,
                          size_t *n_bytes, hw_error *err)
{
    char *path;
    hw_status st = hw_checkpoint_check_folder(s->folder, err);
    if (st) return st;
    if (asprintf(&path, "%s/%s", s->folder, name) < 0)
        return hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory for a path", s->folder);
    if (!optional || !access(path, F_OK))
        st = hw_file_read(text, n_bytes, path, max_bytes, HW_ERR_MODEL, err);
    free(path);
    return st;
}

hw_status hw_source_read(const hw_source *s, const char *name, size_t max_bytes, bool optional, char **text,
                         size_t *n_bytes, hw_error *err)
{
    const hw_tag tag = {.site = HW_SITE_LOAD};
    uint64_t is_there;
    *text = NULL;
    *n_bytes = 0;
    if (!s->comm) return read_own(s, name, max_bytes, optional, text, n_bytes, err);
    hw_status st = hw_comm_rank(s->comm) ? HW_OK : read_own(s, name, max_bytes, optional, text, n_bytes, err);
    st = hw_comm_agree(s->comm, st, err);
    is_there = *text != NULL;
    if (!st) st = hw_comm_broadcast(s->comm, tag, &is_there, sizeof is_there, 0, err);
    if (!st && is_there) st = hw_comm_share(s->comm, tag, text, n_bytes, err);
    if (!st) return HW_OK;
    free(*text);
    *text = NULL;
    return st;
}
