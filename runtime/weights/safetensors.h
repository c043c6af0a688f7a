/* One safetensors file, read strictly: https://github.com/huggingface/safetensors (README "Format" and
 * tensor.rs).
 *
 * The header must be JSON without duplicate keys; tensors must cover the data from its first byte to the last
 * byte of the file without holes or overlap; every shape's product must equal its byte count. A file that
 * breaks one of these is refused with the tensor's name. The byte count of an unknown dtype cannot be checked
 * against its shape; such a tensor is listed, and the caller refuses it if it is needed. Data is read with pread,
 * because a memory-mapped file that shrinks would kill the process. An open file may be read from several threads
 * at once. All functions are Local. */
#ifndef HW_RUNTIME_WEIGHTS_SAFETENSORS_H
#define HW_RUNTIME_WEIGHTS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { HW_TENSOR_MAX_DIMS = 8 };

typedef struct hw_tensor_info {
    const char *name; /* borrowed from the file object */
    hw_dtype dtype;   /* HW_F32, HW_F16, HW_BF16, or HW_DTYPE_NONE for any other, named in dtype_name */
    char dtype_name[16];
    int n_dims;
    uint64_t shape[HW_TENSOR_MAX_DIMS];
    uint64_t offset; /* from the start of the file */
    uint64_t n_bytes;
} hw_tensor_info;

typedef struct hw_safetensors hw_safetensors;

/* On HW_OK the caller owns *out (hw_safetensors_close). Errors: HW_ERR_MODEL, HW_ERR_NO_MEMORY. */
hw_status hw_safetensors_open(hw_safetensors **out, const char *path, hw_error *err);

/* Parses only a header, from memory: `header` has the bytes after the 8-byte length, `file_bytes` is the size of the
 * whole file. Reading tensors of it is an error. For tests and fuzzing. */
hw_status hw_safetensors_parse(hw_safetensors **out, const char *header, size_t header_bytes,
                               uint64_t file_bytes, const char *name, hw_error *err);

void hw_safetensors_close(hw_safetensors *f); /* NULL is fine */

size_t hw_safetensors_n_tensors(const hw_safetensors *f);
const hw_tensor_info *hw_safetensors_at(const hw_safetensors *f, size_t i); /* in file order */
const hw_tensor_info *hw_safetensors_find(const hw_safetensors *f,
                                          const char *name); /* NULL when there is none */
const char *hw_safetensors_path(const hw_safetensors *f);

/* Reads bytes [first, first + n_bytes) of a tensor's data into `dst`. Errors: HW_ERR_MODEL (the file shrank,
 * disk error), HW_ERR_INVALID (a range outside the tensor, or a header without a file). */
hw_status hw_safetensors_read(const hw_safetensors *f, const hw_tensor_info *t, uint64_t first,
                              size_t n_bytes, void *dst, hw_error *err);

#ifdef __cplusplus
}
#endif
#endif
