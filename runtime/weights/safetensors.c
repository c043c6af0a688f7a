#include "runtime/weights/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/checked.h"
#include "runtime/base/json.h"

enum {
    LENGTH_BYTES = 8,              /* the header's length, little-endian, in front of the header */
    MAX_HEADER_BYTES = 100000000,  /* the reference implementation's limit */
    AHEAD_FROM = 1 << 20,          /* shorter reads are rows of a shard: no read-ahead */
    MAX_READ_BYTES = 1 << 30,      /* in one pread: Linux moves at most 2 GiB - 4 KiB at a time */
    MAX_SHOWN = 160,               /* bytes of a tensor's name that a message repeats */
    LABEL_BYTES = MAX_SHOWN + 16,  /* room for `tensor "name"` */
    SHAPE_TEXT_BYTES = 8 * 22 + 4, /* room for a shape in words */
};

struct hw_safetensors {
    char *path;
    int fd; /* -1: only a header in memory */
    size_t n_tensors;
    hw_tensor_info *tensors;        /* [n_tensors] by offset */
    const hw_tensor_info **by_name; /* [n_tensors] by name */
    char *names;                    /* all names, each with its zero byte */
};

/* Every dtype of the format, by the bits of one element: those below 8 are packed without gaps. */
static const struct {
    const char *name;
    unsigned bits;
    hw_dtype type;
} dtypes[] = {
    {"F32", 32, HW_F32},
    {"BF16", 16, HW_BF16},
    {"F16", 16, HW_F16},
    {"F64", 64, HW_DTYPE_NONE},
    {"I64", 64, HW_DTYPE_NONE},
    {"U64", 64, HW_DTYPE_NONE},
    {"C64", 64, HW_DTYPE_NONE},
    {"I32", 32, HW_DTYPE_NONE},
    {"U32", 32, HW_DTYPE_NONE},
    {"I16", 16, HW_DTYPE_NONE},
    {"U16", 16, HW_DTYPE_NONE},
    {"I8", 8, HW_DTYPE_NONE},
    {"U8", 8, HW_DTYPE_NONE},
    {"BOOL", 8, HW_DTYPE_NONE},
    {"F8_E4M3", 8, HW_DTYPE_NONE},
    {"F8_E5M2", 8, HW_DTYPE_NONE},
    {"F8_E8M0", 8, HW_DTYPE_NONE},
    {"F8_E4M3FNUZ", 8, HW_DTYPE_NONE},
    {"F8_E5M2FNUZ", 8, HW_DTYPE_NONE},
    {"F6_E2M3", 6, HW_DTYPE_NONE},
    {"F6_E3M2", 6, HW_DTYPE_NONE},
    {"F4", 4, HW_DTYPE_NONE},
};

static void print_shape(char text[SHAPE_TEXT_BYTES], const hw_tensor_info *t)
{
    size_t n = (size_t)snprintf(text, SHAPE_TEXT_BYTES, "[");
    for (int i = 0; i < t->n_dims; i++)
        n += (size_t)snprintf(text + n, SHAPE_TEXT_BYTES - n, "%s%" PRIu64, i ? ", " : "", t->shape[i]);
    snprintf(text + n, SHAPE_TEXT_BYTES - n, "]");
}

/* ---- one tensor's entry in the header. `at.name` is the tensor, the caller puts the file in front ---- */

/* *bits is 0 for a dtype that is not in the table. */
static hw_status read_dtype(hw_tensor_info *t, unsigned *bits, hw_json_at at)
{
    const char *name = NULL;
    hw_status st;
    *bits = 0;
    if ((st = hw_json_need(at, "dtype")) || (st = hw_json_string(at, "dtype", &name))) return st;
    size_t length = strlen(name);
    if (!length || length >= sizeof t->dtype_name)
        return hw_fail(at.err, at.failure, "%s: dtype \"%.32s\" has %zu characters, wanted 1 to %zu", at.name,
                       name, length, sizeof t->dtype_name - 1);
    memcpy(t->dtype_name, name, length + 1);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (!strcmp(name, dtypes[i].name)) {
            t->dtype = dtypes[i].type;
            *bits = dtypes[i].bits;
        }
    return HW_OK;
}

/* A list of integers from 0 up: at least `min` and at most `max` of them. */
static hw_status read_sizes(uint64_t *out, size_t min, size_t max, size_t *n, const char *key, hw_json_at at)
{
    hw_status st = hw_json_need(at, key);
    if (st) return st;
    const json_t *list = json_object_get(at.object, key);
    *n = json_array_size(list); /* 0 for what is no list */
    if (!json_is_array(list)) return hw_fail(at.err, at.failure, "%s: \"%s\" is not a list", at.name, key);
    if (*n < min || *n > max)
        return hw_fail(at.err, at.failure, "%s: \"%s\" has %zu elements, wanted %zu to %zu", at.name, key, *n,
                       min, max);
    for (size_t i = 0; i < *n; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_integer(v))
            return hw_fail(at.err, at.failure, "%s: \"%s\"[%zu] is not an integer", at.name, key, i);
        if (json_integer_value(v) < 0)
            return hw_fail(at.err, at.failure, "%s: \"%s\"[%zu] is %lld, wanted 0 or more", at.name, key, i,
                           (long long)json_integer_value(v));
        out[i] = (uint64_t)json_integer_value(v);
    }
    return HW_OK;
}

static hw_status check_size(const hw_tensor_info *t, unsigned bits, hw_json_at at)
{
    char shape[SHAPE_TEXT_BYTES];
    uint64_t n = bits;
    bool fits = true;
    print_shape(shape, t);
    for (int i = 0; i < t->n_dims; i++) fits = fits && hw_mul_u64(n, t->shape[i], &n);
    if (!fits)
        return hw_fail(at.err, at.failure, "%s: shape %s of %s is more bits than 64 bits can count", at.name,
                       shape, t->dtype_name);
    if (n % 8)
        return hw_fail(at.err, at.failure, "%s: shape %s of %s is %" PRIu64 " bits, not whole bytes", at.name,
                       shape, t->dtype_name, n);
    if (n / 8 != t->n_bytes)
        return hw_fail(at.err, at.failure,
                       "%s: shape %s of %s is %" PRIu64 " bytes, but its data_offsets hold %" PRIu64, at.name,
                       shape, t->dtype_name, n / 8, t->n_bytes);
    return HW_OK;
}

static hw_status read_entry(hw_tensor_info *t, const json_t *entry, uint64_t data_start, hw_error *err)
{
    char label[LABEL_BYTES];
    unsigned bits;
    uint64_t ends[2];
    size_t n_dims, two;
    hw_status st;
    snprintf(label, sizeof label, "tensor \"%.*s\"", MAX_SHOWN, t->name);
    hw_json_at at = {entry, label, HW_ERR_MODEL, err};
    if (!json_is_object(entry))
        return hw_fail(err, HW_ERR_MODEL, "%s: not an object with dtype, shape and data_offsets", label);
    if ((st = read_dtype(t, &bits, at))) return st;
    if ((st = read_sizes(t->shape, 0, HW_TENSOR_MAX_DIMS, &n_dims, "shape", at))) return st;
    if ((st = read_sizes(ends, 2, 2, &two, "data_offsets", at))) return st;
    t->n_dims = (int)n_dims;
    if (ends[1] < ends[0] || !hw_add_u64(data_start, ends[0], &t->offset))
        return hw_fail(err, HW_ERR_MODEL,
                       "%s: data_offsets are [%" PRIu64 ", %" PRIu64 "], which is no range", label, ends[0],
                       ends[1]);
    t->n_bytes = ends[1] - ends[0];
    return bits ? check_size(t, bits, at) : HW_OK;
}

/* ---- the header ---- */

static hw_status check_metadata(const json_t *metadata, hw_error *err)
{
    const char *key;
    json_t *v;
    if (!json_is_object(metadata)) return hw_fail(err, HW_ERR_MODEL, "__metadata__ is not an object");
    json_object_foreach((json_t *)metadata, key, v)
    {
        if (!json_is_string(v))
            return hw_fail(err, HW_ERR_MODEL, "__metadata__: \"%.*s\" is not a string", MAX_SHOWN, key);
    }
    return HW_OK;
}

/* Empty tensors share their offset with the next one and go in front of it. */
static int by_offset(const void *a, const void *b)
{
    const hw_tensor_info *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->n_bytes != y->n_bytes) return x->n_bytes < y->n_bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    const hw_tensor_info *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int name_against(const void *name, const void *element)
{
    const hw_tensor_info *const *t = element;
    return strcmp(name, (*t)->name);
}

static hw_status read_entries(hw_safetensors *f, const json_t *header, uint64_t data_start, hw_error *err)
{
    size_t n = json_object_size(header), names_bytes = 1;
    const char *key;
    json_t *entry;
    hw_status st;
    json_object_foreach((json_t *)header, key, entry) names_bytes += strlen(key) + 1;
    f->tensors = calloc(n + 1, sizeof *f->tensors);
    f->by_name = calloc(n + 1, sizeof *f->by_name);
    f->names = malloc(names_bytes);
    if (!f->tensors || !f->by_name || !f->names)
        return hw_fail(err, HW_ERR_NO_MEMORY, "no memory for a header of %zu tensors", n);
    char *name = f->names;
    json_object_foreach((json_t *)header, key, entry)
    {
        if (!strcmp(key, "__metadata__")) {
            if ((st = check_metadata(entry, err))) return st;
            continue;
        }
        hw_tensor_info *t = &f->tensors[f->n_tensors++];
        t->name = name;
        name = stpcpy(name, key) + 1;
        if ((st = read_entry(t, entry, data_start, err))) return st;
    }
    qsort(f->tensors, f->n_tensors, sizeof *f->tensors, by_offset);
    for (size_t i = 0; i < f->n_tensors; i++) f->by_name[i] = &f->tensors[i];
    qsort(f->by_name, f->n_tensors, sizeof *f->by_name, by_name);
    return HW_OK;
}

/* The tensors must tile the file from the header to its last byte: bytes of no tensor, or of two, have been used to make
 * one file mean different things to different readers. */
static hw_status check_tiling(const hw_safetensors *f, uint64_t data_start, uint64_t file_bytes,
                              hw_error *err)
{
    uint64_t end = data_start;
    for (size_t i = 0; i < f->n_tensors; i++) {
        const hw_tensor_info *t = &f->tensors[i];
        if (t->offset > end)
            return hw_fail(err, HW_ERR_MODEL,
                           "tensor \"%.*s\": the %" PRIu64 " bytes before it belong to no tensor", MAX_SHOWN,
                           t->name, t->offset - end);
        if (t->offset < end)
            return hw_fail(err, HW_ERR_MODEL, "tensor \"%.*s\" overlaps tensor \"%.*s\" by %" PRIu64 " bytes",
                           MAX_SHOWN, t->name, MAX_SHOWN, t[-1].name, end - t->offset);
        if (!hw_add_u64(end, t->n_bytes, &end))
            return hw_fail(err, HW_ERR_MODEL, "tensor \"%.*s\" ends beyond what 64 bits can count", MAX_SHOWN,
                           t->name);
    }
    if (end > file_bytes)
        return hw_fail(err, HW_ERR_MODEL,
                       "truncated: its header describes %" PRIu64 " bytes, the file has %" PRIu64
                       "; copy or download it again",
                       end, file_bytes);
    if (end < file_bytes)
        return hw_fail(err, HW_ERR_MODEL,
                       "%" PRIu64
                       " bytes after the last tensor belong to nothing: its header describes %" PRIu64
                       " bytes, the file has %" PRIu64,
                       file_bytes - end, end, file_bytes);
    return HW_OK;
}

static hw_status check_header_length(uint64_t header_bytes, uint64_t file_bytes, hw_error *err)
{
    if (header_bytes > MAX_HEADER_BYTES)
        return hw_fail(err, HW_ERR_MODEL,
                       "not a safetensors file: its first 8 bytes announce a header of %" PRIu64
                       " bytes, and at most %d are allowed",
                       header_bytes, MAX_HEADER_BYTES);
    if (LENGTH_BYTES + header_bytes > file_bytes)
        return hw_fail(err, HW_ERR_MODEL,
                       "truncated: the header ends at byte %" PRIu64 ", the file at %" PRIu64
                       "; copy or download it again",
                       LENGTH_BYTES + header_bytes, file_bytes);
    return HW_OK;
}

/* The header's JSON is freed when this returns, so names are copied. */
static hw_status read_header(hw_safetensors *f, const char *header, size_t header_bytes, uint64_t file_bytes,
                             hw_error *err)
{
    json_t *root = NULL;
    hw_status st = check_header_length(header_bytes, file_bytes, err);
    if (st) return hw_context(err, st, "%s", f->path);
    if (!header_bytes || header[0] != '{')
        return hw_fail(err, HW_ERR_MODEL, "%s: not a safetensors file: the header does not begin with '{'",
                       f->path);
    if ((st = hw_json_parse(&root, header, header_bytes, f->path, HW_ERR_MODEL, err))) return st;
    st = read_entries(f, root, LENGTH_BYTES + header_bytes, err);
    json_decref(root);
    if (!st) st = check_tiling(f, LENGTH_BYTES + header_bytes, file_bytes, err);
    return hw_context(err, st, "%s", f->path);
}

/* ---- the file ---- */

static hw_status read_bytes(const hw_safetensors *f, uint64_t offset, size_t n_bytes, void *dst,
                            hw_error *err)
{
    char *p = dst;
    while (n_bytes) {
        size_t piece = n_bytes < MAX_READ_BYTES ? n_bytes : MAX_READ_BYTES;
        ssize_t got = pread(f->fd, p, piece, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return hw_fail(err, HW_ERR_MODEL, "%s: cannot read at byte %" PRIu64 ": %s", f->path, offset,
                           strerror(errno));
        if (got == 0)
            return hw_fail(err, HW_ERR_MODEL,
                           "%s: the file shrank while it was read: it ends before byte %" PRIu64
                           ", and %zu more bytes were wanted",
                           f->path, offset, n_bytes);
        p += got;
        offset += (uint64_t)got;
        n_bytes -= (size_t)got;
    }
    return HW_OK;
}

/* Read-ahead hint: lets the system fetch the data of the most likely next read while this data is packed. */
static void read_ahead(const hw_safetensors *f, uint64_t offset, uint64_t end, size_t n_bytes)
{
    if (n_bytes < AHEAD_FROM || offset >= end) return;
    const uint64_t n = end - offset < n_bytes ? end - offset : n_bytes;
    (void)posix_fadvise(f->fd, (off_t)offset, (off_t)n, POSIX_FADV_WILLNEED);
}

/* O_NONBLOCK: opening a named pipe must not wait for a writer. It has no effect on a regular file. */
static hw_status open_file(hw_safetensors *f, uint64_t *file_bytes, hw_error *err)
{
    struct stat info;
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f->fd < 0 && errno == ENOENT && !lstat(f->path, &info))
        return hw_fail(err, HW_ERR_MODEL, "%s: a link to a file that is not there (an unfinished download?)",
                       f->path);
    if (f->fd < 0) return hw_fail(err, HW_ERR_MODEL, "%s: cannot open: %s", f->path, strerror(errno));
    if (fstat(f->fd, &info))
        return hw_fail(err, HW_ERR_MODEL, "%s: cannot read: %s", f->path, strerror(errno));
    if (!S_ISREG(info.st_mode)) return hw_fail(err, HW_ERR_MODEL, "%s: not a regular file", f->path);
    *file_bytes = (uint64_t)info.st_size;
    return HW_OK;
}

static hw_status read_length(const hw_safetensors *f, uint64_t file_bytes, uint64_t *header_bytes,
                             hw_error *err)
{
    unsigned char length[LENGTH_BYTES];
    hw_status st;
    *header_bytes = 0;
    if (file_bytes < sizeof length)
        return hw_fail(err, HW_ERR_MODEL, "%s: %" PRIu64 " bytes are too few for a safetensors file", f->path,
                       file_bytes);
    if ((st = read_bytes(f, 0, sizeof length, length, err))) return st;
    if (!memcmp(length, "version ", sizeof length))
        return hw_fail(err, HW_ERR_MODEL,
                       "%s: a Git LFS pointer, not the file itself; run `git lfs pull` in its folder",
                       f->path);
    for (size_t i = 0; i < sizeof length; i++) *header_bytes |= (uint64_t)length[i] << 8 * i;
    return hw_context(err, check_header_length(*header_bytes, file_bytes, err), "%s", f->path);
}

static hw_safetensors *new_file(const char *path)
{
    hw_safetensors *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    f->fd = -1;
    if ((f->path = strdup(path))) return f;
    free(f);
    return NULL;
}

hw_status hw_safetensors_open(hw_safetensors **out, const char *path, hw_error *err)
{
    uint64_t file_bytes = 0, header_bytes = 0;
    char *header = NULL;
    hw_status st;
    *out = NULL;
    hw_safetensors *f = new_file(path);
    if (!f) return hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory to open it", path);
    if ((st = open_file(f, &file_bytes, err))) goto fail;
    if ((st = read_length(f, file_bytes, &header_bytes, err))) goto fail;
    if (!(header = malloc(header_bytes + 1))) {
        st = hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory for a header of %" PRIu64 " bytes", path,
                     header_bytes);
        goto fail;
    }
    if ((st = read_bytes(f, LENGTH_BYTES, header_bytes, header, err))) goto fail;
    if ((st = read_header(f, header, header_bytes, file_bytes, err))) goto fail;
    free(header);
    *out = f;
    return HW_OK;
fail:
    free(header);
    hw_safetensors_close(f);
    return st;
}

hw_status hw_safetensors_parse(hw_safetensors **out, const char *header, size_t header_bytes,
                               uint64_t file_bytes, const char *name, hw_error *err)
{
    *out = NULL;
    hw_safetensors *f = new_file(name);
    if (!f) return hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory to read it", name);
    hw_status st = read_header(f, header, header_bytes, file_bytes, err);
    if (st) hw_safetensors_close(f);
    else *out = f;
    return st;
}

void hw_safetensors_close(hw_safetensors *f)
{
    if (!f) return;
    if (f->fd >= 0) close(f->fd);
    free(f->names);
    free(f->by_name);
    free(f->tensors);
    free(f->path);
    free(f);
}

size_t hw_safetensors_n_tensors(const hw_safetensors *f) { return f->n_tensors; }

const hw_tensor_info *hw_safetensors_at(const hw_safetensors *f, size_t i) { return &f->tensors[i]; }

const hw_tensor_info *hw_safetensors_find(const hw_safetensors *f, const char *name)
{
    const hw_tensor_info **found = bsearch(name, f->by_name, f->n_tensors, sizeof *f->by_name, name_against);
    return found ? *found : NULL;
}

const char *hw_safetensors_path(const hw_safetensors *f) { return f->path; }

hw_status hw_safetensors_read(const hw_safetensors *f, const hw_tensor_info *t, uint64_t first,
                              size_t n_bytes, void *dst, hw_error *err)
{
    if (f->fd < 0)
        return hw_fail(err, HW_ERR_INVALID, "%s: a header without a file cannot be read from", f->path);
    if (first > t->n_bytes || n_bytes > t->n_bytes - first)
        return hw_fail(err, HW_ERR_INVALID,
                       "%s: tensor \"%.*s\": asked for %zu bytes from byte %" PRIu64
                       " on, but it has %" PRIu64,
                       f->path, MAX_SHOWN, t->name, n_bytes, first, t->n_bytes);
    hw_status st = read_bytes(f, t->offset + first, n_bytes, dst, err);
    if (!st) read_ahead(f, t->offset + first + n_bytes, t->offset + t->n_bytes, n_bytes);
    return hw_context(err, st, "tensor \"%.*s\"", MAX_SHOWN, t->name);
}
