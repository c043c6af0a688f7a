#include "runtime/weights/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/json.h"

#define INDEX_NAME  "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"

enum {
    MAX_INDEX_BYTES = 100000000, /* the limit of a header, which lists the same names */
    MAX_SHOWN = 160,             /* bytes of a name that a message repeats */
};

struct hw_checkpoint {
    hw_safetensors **files; /* [n_files] by name */
    size_t n_files;
    hw_tensor *tensors; /* [n_tensors] file by file */
    hw_tensor *by_name; /* [n_tensors] sorted */
    size_t n_tensors;
    uint64_t total_bytes;
    _Atomic uint64_t bytes_read; /* threads of a rank may read at once */
};

static char *join(const char *folder, const char *name)
{
    size_t n = strlen(folder);
    char *path;
    return asprintf(&path, "%s%s%s", folder, n && folder[n - 1] == '/' ? "" : "/", name) < 0 ? NULL : path;
}

static hw_status no_memory(const char *folder, hw_error *err)
{
    return hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory to list its tensors", folder);
}

static const char *file_name(const hw_safetensors *f)
{
    const char *path = hw_safetensors_path(f), *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* ---- opening the files ---- */

static hw_status open_files(hw_checkpoint *c, const char *folder, const char *const *names, size_t n_names,
                            hw_error *err)
{
    hw_status st = HW_OK;
    if (!(c->files = calloc(n_names, sizeof *c->files))) return no_memory(folder, err);
    for (size_t i = 0; i < n_names && !st; i++) {
        char *path = join(folder, names[i]);
        if (!path) return no_memory(folder, err);
        st = hw_safetensors_open(&c->files[i], path, err);
        if (!st) c->n_files++;
        free(path);
    }
    return st;
}

/* The index comes with the model and may be hostile, so only plain file names are accepted, which cannot leave the
 * folder. A plain name that is a symbolic link is followed: links are made by the owner of the folder, not by the
 * index, and Hugging Face's cache stores every file of a snapshot as a link to ../../blobs/<hash>. */
static bool is_plain_name(const char *name)
{
    return name[0] && name[0] != '.' && !strpbrk(name, "/\\") && !strstr(name, "..");
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The different file names in the index, sorted; borrowed from `map`. `names` has room for one per tensor. */
static hw_status list_files(const char **names, size_t *n_names, const json_t *map, const char *path,
                            hw_error *err)
{
    const char *tensor;
    json_t *v;
    size_t n = 0;
    json_object_foreach((json_t *)map, tensor, v)
    {
        const char *name = json_string_value(v);
        if (!name)
            return hw_fail(err, HW_ERR_MODEL, "%s: weight_map: \"%.*s\" is not a file name", path, MAX_SHOWN,
                           tensor);
        if (strlen(name) != json_string_length(v) || !is_plain_name(name))
            return hw_fail(
                err, HW_ERR_MODEL,
                "%s: weight_map: \"%.*s\" is said to be in \"%.*s\", wanted the plain name of a file in the "
                "same folder",
                path, MAX_SHOWN, tensor, MAX_SHOWN, name);
        names[n++] = name;
    }
    qsort(names, n, sizeof *names, compare_strings);
    *n_names = 0;
    for (size_t i = 0; i < n; i++)
        if (!i || strcmp(names[i], names[*n_names - 1])) names[(*n_names)++] = names[i];
    return HW_OK;
}

/* Every tensor of every file must be where the index says. Names are unique in the index and in each file, so if that
 * holds and the counts agree, no tensor is missing or duplicated. */
static hw_status check_index(const hw_checkpoint *c, const json_t *map, const char *path, hw_error *err)
{
    const char *name;
    json_t *v;
    size_t n_tensors = 0;
    for (size_t i = 0; i < c->n_files; i++)
        for (size_t j = 0; j < hw_safetensors_n_tensors(c->files[i]); j++, n_tensors++) {
            const char *file = file_name(c->files[i]);
            name = hw_safetensors_at(c->files[i], j)->name;
            const char *said = json_string_value(json_object_get(map, name));
            if (!said)
                return hw_fail(err, HW_ERR_MODEL, "%s: tensor \"%.*s\" of %s is not in the index", path,
                               MAX_SHOWN, name, file);
            if (strcmp(said, file))
                return hw_fail(err, HW_ERR_MODEL,
                               "%s: tensor \"%.*s\" is said to be in %.*s, but %s has one too", path,
                               MAX_SHOWN, name, MAX_SHOWN, said, file);
        }
    if (n_tensors == json_object_size(map)) return HW_OK;
    json_object_foreach((json_t *)map, name, v)
    {
        size_t i = 0;
        while (i < c->n_files && strcmp(file_name(c->files[i]), json_string_value(v))) i++;
        if (i == c->n_files || !hw_safetensors_find(c->files[i], name))
            return hw_fail(err, HW_ERR_MODEL, "%s: tensor \"%.*s\" is said to be in %.*s, but is not there",
                           path, MAX_SHOWN, name, MAX_SHOWN, json_string_value(v));
    }
    return HW_OK;
}

/* metadata.total_size is ignored, because tools that edit checkpoints often leave it wrong. */
static hw_status open_index(hw_checkpoint *c, const char *folder, const char *path, hw_error *err)
{
    json_t *index = NULL;
    const char **names = NULL;
    size_t n_names = 0;
    hw_status st = hw_json_load(&index, path, MAX_INDEX_BYTES, HW_ERR_MODEL, err);
    if (st) return st;
    const json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map) || !json_object_size(map))
        st = hw_fail(err, HW_ERR_MODEL, "%s: \"weight_map\" is missing or lists no tensors", path);
    else if (!(names = calloc(json_object_size(map), sizeof *names))) st = no_memory(folder, err);
    if (!st) st = list_files(names, &n_names, map, path, err);
    if (!st) st = open_files(c, folder, names, n_names, err);
    if (!st) st = check_index(c, map, path, err);
    free(names);
    json_decref(index);
    return st;
}

/* ---- a folder without either file: name what it has instead ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static bool holds_weights(const char *name)
{
    static const char *const ends[] = {".safetensors", ".bin", ".pt",      ".pth", ".ckpt",
                                       ".gguf",        ".h5",  ".msgpack", ".onnx"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_with(name, ends[i])) return true;
    return false;
}

static hw_status nothing_to_open(const char *folder, hw_error *err)
{
    char found[256] =
        ""; /* the alphabetically first, so that the message does not depend on the order on disk */
    size_t n_entries = 0;
    DIR *d = opendir(folder);
    if (!d) return hw_fail(err, HW_ERR_MODEL, "%s: cannot list the folder: %s", folder, strerror(errno));
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) n_entries++;
        if (holds_weights(e->d_name) && (!found[0] || strcmp(e->d_name, found) < 0))
            snprintf(found, sizeof found, "%s", e->d_name);
    }
    closedir(d);
    if (ends_with(found, ".safetensors"))
        return hw_fail(err, HW_ERR_MODEL,
                       "%s: there is %s, but neither " SINGLE_NAME " nor the " INDEX_NAME
                       " that goes with several files",
                       folder, found);
    if (found[0])
        return hw_fail(err, HW_ERR_MODEL,
                       "%s: the weights are in %s, but only safetensors are read: wanted " SINGLE_NAME
                       " or " INDEX_NAME,
                       folder, found);
    return hw_fail(err, HW_ERR_MODEL,
                   "%s: no weights among its %zu files: wanted " SINGLE_NAME " or " INDEX_NAME, folder,
                   n_entries);
}

/* ---- the checkpoint ---- */

static int compare_tensors(const void *a, const void *b)
{
    return strcmp(((const hw_tensor *)a)->info->name, ((const hw_tensor *)b)->info->name);
}

static int name_against(const void *name, const void *tensor)
{
    return strcmp(name, ((const hw_tensor *)tensor)->info->name);
}

static hw_status list_tensors(hw_checkpoint *c, const char *folder, hw_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_files; i++) n += hw_safetensors_n_tensors(c->files[i]);
    c->tensors = calloc(n + 1, sizeof *c->tensors);
    c->by_name = calloc(n + 1, sizeof *c->by_name);
    if (!c->tensors || !c->by_name) return no_memory(folder, err);
    for (size_t i = 0; i < c->n_files; i++)
        for (size_t j = 0; j < hw_safetensors_n_tensors(c->files[i]); j++) {
            hw_tensor t = {c->files[i], hw_safetensors_at(c->files[i], j)};
            c->tensors[c->n_tensors] = c->by_name[c->n_tensors] = t;
            c->n_tensors++;
            c->total_bytes += t.info->n_bytes; /* cannot overflow: sizes of real files */
        }
    qsort(c->by_name, c->n_tensors, sizeof *c->by_name, compare_tensors);
    return HW_OK;
}

hw_status hw_checkpoint_check_folder(const char *folder, hw_error *err)
{
    struct stat info;
    char here[PATH_MAX];
    if (stat(folder, &info)) {
        const char *why = strerror(errno);
        const bool relative = *folder != '/' && getcwd(here, sizeof here);
        return hw_fail(err, HW_ERR_MODEL,
                       "%s: %s%s%s; wanted the path of a downloaded Hugging Face model folder", folder, why,
                       relative ? " in " : "", relative ? here : "");
    }
    if (!S_ISDIR(info.st_mode))
        return hw_fail(err, HW_ERR_MODEL,
                       "%s: not a folder; wanted the Hugging Face folder that the model is in%s", folder,
                       ends_with(folder, ".gguf") ? "; GGUF is not read" : "");
    return HW_OK;
}

/* lstat, because a dangling link exists, and opening it gives a better message. */
static hw_status open_folder(hw_checkpoint *c, const char *folder, hw_error *err)
{
    struct stat info;
    hw_status st = hw_checkpoint_check_folder(folder, err);
    if (st) return st;
    char *index = join(folder, INDEX_NAME), *single = join(folder, SINGLE_NAME);
    if (!index || !single) st = no_memory(folder, err);
    else if (!lstat(index, &info)) st = open_index(c, folder, index, err);
    else if (!lstat(single, &info)) st = open_files(c, folder, (const char *const[]){SINGLE_NAME}, 1, err);
    else st = nothing_to_open(folder, err);
    free(index);
    free(single);
    return st ? st : list_tensors(c, folder, err);
}

hw_status hw_checkpoint_open(hw_checkpoint **out, const char *folder, hw_error *err)
{
    *out = NULL;
    hw_checkpoint *c = calloc(1, sizeof *c);
    if (!c) return no_memory(folder, err);
    hw_status st = open_folder(c, folder, err);
    if (st) hw_checkpoint_close(c);
    else *out = c;
    return st;
}

void hw_checkpoint_close(hw_checkpoint *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->n_files; i++) hw_safetensors_close(c->files[i]);
    free(c->files);
    free(c->tensors);
    free(c->by_name);
    free(c);
}

size_t hw_checkpoint_n_tensors(const hw_checkpoint *c) { return c->n_tensors; }

hw_tensor hw_checkpoint_at(const hw_checkpoint *c, size_t i) { return c->tensors[i]; }

hw_tensor hw_checkpoint_find(const hw_checkpoint *c, const char *name)
{
    const hw_tensor *t = bsearch(name, c->by_name, c->n_tensors, sizeof *c->by_name, name_against);
    return t ? *t : (hw_tensor){NULL, NULL};
}

hw_status hw_checkpoint_read(hw_checkpoint *c, hw_tensor t, uint64_t first, size_t n_bytes, void *dst,
                             hw_error *err)
{
    hw_status st = hw_safetensors_read(t.file, t.info, first, n_bytes, dst, err);
    if (!st) atomic_fetch_add_explicit(&c->bytes_read, n_bytes, memory_order_relaxed);
    return st;
}

uint64_t hw_checkpoint_bytes_read(const hw_checkpoint *c)
{
    return atomic_load_explicit(&c->bytes_read, memory_order_relaxed);
}

uint64_t hw_checkpoint_total_bytes(const hw_checkpoint *c) { return c->total_bytes; }

size_t hw_checkpoint_n_files(const hw_checkpoint *c) { return c->n_files; }
