#include "tests/support/npy.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/checked.h"
#include "runtime/base/json.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied from the file as they are");

/* Golden logits are some hundred KiB, those of a long prompt with a large vocabulary some hundred MiB. */
static const size_t max_file_bytes = (size_t)1 << 30;

/* Magic string, version 1.0; then two bytes with the length of the header that follows. */
static const char magic[8] = "\x93NUMPY\x01\x00";
enum { PREFIX_BYTES = 10, HEADER_GRANULE = 64 };

/* Reads a decimal number as numpy writes it: digits only, no leading zero. Moves *text behind it. */
static bool read_size(const char **text, size_t *out)
{
    const char *s = *text;
    size_t n = 0;
    if (*s < '0' || *s > '9' || (*s == '0' && s[1] >= '0' && s[1] <= '9')) return false;
    for (; *s >= '0' && *s <= '9'; s++)
        if (__builtin_mul_overflow(n, (size_t)10, &n) || __builtin_add_overflow(n, (size_t)(*s - '0'), &n))
            return false;
    *text = s;
    *out = n;
    return true;
}

/* Moves *text behind `word` when it begins with it. */
static bool skip(const char **text, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(*text, word, n)) return false;
    *text += n;
    return true;
}

/* The header text, zero-terminated, with the padding taken off. */
static bool read_dictionary(const char *s, size_t *n_rows, size_t *n_cols)
{
    return skip(&s, "{'descr': '<f4', 'fortran_order': False, 'shape': (") && read_size(&s, n_rows) &&
           skip(&s, ", ") && read_size(&s, n_cols) && skip(&s, "), }") && *s == '\0';
}

/* Takes `file` apart. It is zero-terminated, and its header is cut off from the data by writing a zero into
 * it. */
static hw_status parse(hw_npy *m, char *file, size_t n_bytes, const char *path, hw_error *err)
{
    if (n_bytes < PREFIX_BYTES || memcmp(file, magic, sizeof magic))
        return hw_fail(err, HW_ERR_FAILED, "%s: does not begin as a .npy file of version 1.0 does", path);
    size_t header_bytes = (size_t)(unsigned char)file[8] | (size_t)(unsigned char)file[9] << 8;
    size_t data_at = PREFIX_BYTES + header_bytes;
    if (data_at > n_bytes || data_at % HEADER_GRANULE)
        return hw_fail(err, HW_ERR_FAILED,
                       "%s: the header ends at byte %zu; want a multiple of %d within the file's %zu bytes",
                       path, data_at, HEADER_GRANULE, n_bytes);
    char *text = file + PREFIX_BYTES, *end = file + data_at - 1;
    if (*end != '\n') return hw_fail(err, HW_ERR_FAILED, "%s: the header does not end in a newline", path);
    while (end > text && end[-1] == ' ') end--;
    *end = '\0';
    if (strlen(text) != (size_t)(end - text) || !read_dictionary(text, &m->n_rows, &m->n_cols))
        return hw_fail(
            err, HW_ERR_FAILED,
            "%s: the header is %s; want {'descr': '<f4', 'fortran_order': False, 'shape': (R, C), }", path,
            text);
    size_t want = HW_SIZE(m->n_rows, m->n_cols, sizeof(float)), have = n_bytes - data_at;
    if (want != have)
        return hw_fail(err, HW_ERR_FAILED, "%s: %zu bytes of data; shape (%zu, %zu) wants %zu", path, have,
                       m->n_rows, m->n_cols, want);
    if (!(m->data = malloc(have ? have : 1)))
        return hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory for %zu bytes", path, have);
    memcpy(m->data, file + data_at, have);
    return HW_OK;
}

hw_status hw_npy_read(hw_npy *out, const char *path, hw_error *err)
{
    char *file;
    size_t n_bytes;
    *out = (hw_npy){0};
    hw_status st = hw_file_read(&file, &n_bytes, path, max_file_bytes, HW_ERR_FAILED, err);
    if (st) return st;
    st = parse(out, file, n_bytes, path, err);
    if (st) hw_npy_free(out);
    free(file);
    return st;
}

void hw_npy_free(hw_npy *m)
{
    free(m->data);
    *m = (hw_npy){0};
}
