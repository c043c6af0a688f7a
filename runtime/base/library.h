/* Shared libraries of others that are opened when they are needed. What is linked with one does not start where the
 * loader does not find it, and NVIDIA's often lie where it does not look: in a toolkit or among Python packages. */
#ifndef HW_RUNTIME_BASE_LIBRARY_H
#define HW_RUNTIME_BASE_LIBRARY_H

#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hw_library {
    void *handle;    /* for dlsym; it stays mapped */
    char path[1024]; /* of the file; cut where it is longer */
} hw_library;

/* Local. Opens `file`, "libnccl.so.2": the one that the environment's `variable` names, or else the first that can be
 * loaded beside the program or plug-in that this code is in; below CUDA_HOME or CUDA_PATH; in the Python environment
 * that is active (VIRTUAL_ENV, CONDA_PREFIX); where the loader looks; below /usr/local/cuda; among the user's and the
 * system's Python packages. Errors: HW_ERR_UNSUPPORTED, with the places or with what the loader says of a file that is
 * there. */
hw_status hw_library_open(hw_library *out, const char *file, const char *variable, hw_error *err);

#ifdef __cplusplus
}
#endif
#endif
