/* A checkpoint: the tensors of a Hugging Face folder, in `model.safetensors` or in the files that
 * `model.safetensors.index.json` lists. The single file is read only if there is no index. Finds tensors by name and
 * counts the bytes requested. All functions are Local. */
#ifndef HW_RUNTIME_WEIGHTS_CHECKPOINT_H
#define HW_RUNTIME_WEIGHTS_CHECKPOINT_H

#include "runtime/weights/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hw_checkpoint hw_checkpoint;

/* A tensor and its file. Borrowed from the checkpoint. */
typedef struct hw_tensor {
    const hw_safetensors *file;
    const hw_tensor_info *info;
} hw_tensor;

/* Checks that the folder exists, so that the message does not blame a file in it. Errors: HW_ERR_MODEL. */
hw_status hw_checkpoint_check_folder(const char *folder, hw_error *err);

/* Opens every file and reads its header. An index must name plain files in the folder (symbolic links are allowed,
 * since Hugging Face's cache uses them), and each tensor must be in the file that the index names, and in no other;
 * a tensor that the index does not list is refused too. On HW_OK the caller owns *out
 * (hw_checkpoint_close). Errors: HW_ERR_MODEL, HW_ERR_NO_MEMORY. */
hw_status hw_checkpoint_open(hw_checkpoint **out, const char *folder, hw_error *err);
void hw_checkpoint_close(hw_checkpoint *c); /* NULL is fine */

size_t hw_checkpoint_n_tensors(const hw_checkpoint *c);
hw_tensor hw_checkpoint_at(const hw_checkpoint *c, size_t i);           /* file by file, in file order */
hw_tensor hw_checkpoint_find(const hw_checkpoint *c, const char *name); /* .info is NULL when there is none */

/* Reads bytes [first, first + n_bytes) of a tensor's data and adds them to the count. Errors as
 * hw_safetensors_read. May be called from several threads at once. */
hw_status hw_checkpoint_read(hw_checkpoint *c, hw_tensor t, uint64_t first, size_t n_bytes, void *dst,
                             hw_error *err);

uint64_t hw_checkpoint_bytes_read(const hw_checkpoint *c);  /* bytes of tensor data requested so far */
uint64_t hw_checkpoint_total_bytes(const hw_checkpoint *c); /* bytes of tensor data in all files */
size_t hw_checkpoint_n_files(const hw_checkpoint *c);

#ifdef __cplusplus
}
#endif
#endif
