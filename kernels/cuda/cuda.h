/* A device on one NVIDIA GPU: its state, its ops, and how they start kernels and tell what went wrong. See
 * kernels.h for what the ops do.
 *
 * One process uses one GPU: a device makes its GPU the current one of the thread that creates it.
 * Activations and matrices are of one type, the device's, and sums are float32. All work goes into one stream, so that ops see what the ops before them wrote;
 * results that the host reads are waited for where they are handed over. */
#ifndef HW_KERNELS_CUDA_CUDA_H
#define HW_KERNELS_CUDA_CUDA_H

#include <cuda_runtime.h>

#include "kernels/cuda/blas_library.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/device.h"

/* Candidates that row_best finds in one pass, and host-given token ids that one launch takes. */
enum { HW_CUDA_MAX_KEYS = 1 << 16 };

/* Blocks of threads that can count others which are done, see attention_tiles.cu. */
enum { HW_CUDA_MAX_COUNTERS = 4096 };

/* Pinned memory through which other host memory goes to the device, in two halves: one is filled while the other is
 * copied. */
enum { HW_CUDA_STAGE_BYTES = 8 << 20, HW_CUDA_STAGE_HALVES = 2 };

/* Memory of cuBLASLt: what it wants at most on Hopper. */
enum { HW_CUDA_BLAS_BYTES = 32 << 20 };

/* An algorithm that cuBLASLt chose for one shape. */
typedef struct hw_cuda_plan {
    uint64_t n_out, n_rows, n_in, stride;
    hw_dtype type; /* of both matrices */
    bool has_bias, wide;
    uint32_t alignment;
    bool usable; /* cuBLASLt has one */
    cublasLtMatmulAlgo_t algo;
} hw_cuda_plan;

enum { HW_CUDA_MAX_PLANS = 64 };

typedef struct hw_cuda_device {
    hw_device_base base;
    int index; /* of its GPU */
    int n_multiprocessors;
    size_t most_shared_bytes; /* of a launch, when its kernel asks for it */
    size_t cache_bytes;       /* of its last cache */
    bool waits;               /* after every kernel, so that the one that failed is known */
    bool plain;               /* no tensor cores of our own */
    bool overlaps;            /* a kernel is started while the one before it ends */
    bool hangs;    /* something in the stream does not end: nothing may wait for it, free or unmap */
    int n_sharing; /* ranks on this GPU, this one included */
    cudaStream_t stream;
    hw_blas_library lt;
    cublasLtHandle_t blas;
    void *blas_workspace;
    hw_cuda_plan plans[HW_CUDA_MAX_PLANS];
    int n_plans, next_plan;
    char *stage[HW_CUDA_STAGE_HALVES];              /* [HW_CUDA_STAGE_BYTES] each, pinned */
    cudaEvent_t stage_copied[HW_CUDA_STAGE_HALVES]; /* that half may be filled again */
    int stage_half;                                 /* which is being filled, */
    size_t stage_used;                              /* and how far */
    uint64_t *keys;      /* [HW_CUDA_MAX_KEYS + 1] D: keys, and how many there are */
    uint64_t *host_keys; /* the same, pinned */
    uint64_t *found;     /* [HW_CUDA_MAX_KEYS] D: what the blocks of row_best found, each in its part */
    int32_t *ids;        /* [HW_CUDA_MAX_KEYS] D */
    unsigned *counters;  /* [HW_CUDA_MAX_COUNTERS] D: of blocks that are done; zeros between kernels */
    cudaEvent_t events[HW_N_EVENTS];
    int next_event;
    hw_cuda_failure failure;
    const char *last; /* kernel that was started */
    uint64_t n_launches, n_starts, n_allocations, n_before_capture;
} hw_cuda_device;

/* Row-major as stored, rows padded with zeros to whole 32 bytes, so that every row begins where 16-byte
 * loads can. */
struct hw_weight {
    hw_weight_dims dims;
    size_t stride; /* elements from row to row */
    char *data;    /* [n_out, stride] of dims.format.type D */
};

static inline hw_cuda_device *hw_cuda_of(hw_device *d) { return (hw_cuda_device *)(void *)d; }

/* What a block has without asking, and what of that the variables of a kernel take at most. */
enum { HW_CUDA_SHARED_BYTES = 48 << 10, HW_CUDA_STATIC_SHARED_BYTES = 4 << 10 };

/* Waits where HW_CUDA_SYNC=1 asks for that, so that an error is told under the right name. */
hw_status hw_cuda_started(hw_cuda_device *c, cudaError_t code, const char *name);

/* Starts a kernel in the device's stream, and notes a failure under the kernel's name. `kernel<<<...>>>` is
 * never written: host compilers, which build these files for the tests, cannot read it. Every kernel begins
 * with hw_begin (numbers.h), or with its two halves. */
template <typename... Parameters, typename... Arguments>
hw_status hw_cuda_launch(hw_cuda_device *c, const char *name, void (*kernel)(Parameters...), dim3 grid,
                         unsigned block, size_t shared_bytes, Arguments... arguments)
{
    cudaLaunchAttribute overlap = {};
    cudaLaunchConfig_t config = {};
    cudaError_t code = cudaSuccess;
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = grid;
    config.blockDim = dim3(block);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = c->stream;
    config.attrs = &overlap;
    config.numAttrs = c->overlaps;
    /* Always for the most: a graph may hold launches of one kernel with several sizes. */
    if (shared_bytes > HW_CUDA_SHARED_BYTES - HW_CUDA_STATIC_SHARED_BYTES)
        code = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    (int)c->most_shared_bytes);
    if (!code) code = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
    return hw_cuda_started(c, code, name);
}

/* n / d, rounded up, as an extent of a grid. */
static inline unsigned hw_cuda_blocks(size_t n, size_t d) { return (unsigned)((n + d - 1) / d); }

/* What the device has besides: see the sub-tables of kernels.h. */
extern const hw_fused_ops hw_cuda_fused;             /* matmul.cu */
extern const hw_graph_ops hw_cuda_graph;             /* graph.cu */
extern const hw_device_loop_ops hw_cuda_device_loop; /* device_loop.cu */
extern const struct hw_peak_ops hw_cuda_peaks;       /* peaks.cu */

/* A product of few rows, one of many and an attention, compared with plain loops; HW_PROVE=off leaves it out. For a new
 * device, before anything else runs there. Errors: HW_ERR_DEVICE, naming the op, the device and what was found, or that
 * it did not end; HW_ERR_NO_MEMORY. */
hw_status hw_cuda_prove(hw_cuda_device *c, hw_error *err);

/* Memory that is not cleared. */
hw_status hw_cuda_take(void **out, size_t n_bytes, hw_error *err);

hw_status hw_cuda_alloc(hw_device *d, void **out, size_t n_bytes, hw_error *err);
void hw_cuda_free(hw_device *d, void *p);
hw_status hw_cuda_host_alloc(hw_device *d, void **out, size_t n_bytes, hw_error *err);
void hw_cuda_host_free(hw_device *d, void *p);
uint64_t hw_cuda_available(const hw_device *d);

/* Room for n_bytes, at most HW_CUDA_STAGE_BYTES, of pinned memory. It belongs to the caller until it is asked for again;
 * what is copied from it has to be in the stream by then. */
cudaError_t hw_cuda_stage(hw_cuda_device *c, char **out, size_t n_bytes);

/* What is not pinned goes through the stage: a driver may read pageable memory late (GH200). */
hw_status hw_cuda_copy_in(hw_device *d, void *dst, const void *src, size_t n_bytes);
hw_status hw_cuda_copy_out(hw_device *d, void *dst, const void *src, size_t n_bytes);
hw_status hw_cuda_copy(hw_device *d, void *dst, const void *src, size_t n_bytes);
hw_status hw_cuda_synchronize(hw_device *d, hw_error *err);

/* What waiting came to, with the kernels that may be meant. */
hw_status hw_cuda_waited(hw_cuda_device *c, cudaError_t code, hw_error *err);

hw_status hw_cuda_weight_create(hw_device *d, hw_weight **out, const hw_weight_dims *dims, hw_error *err);
hw_status hw_cuda_weight_put(hw_device *d, hw_weight *w, const hw_weight_piece *piece, hw_error *err);
void hw_cuda_weight_destroy(hw_device *d, hw_weight *w);
size_t hw_cuda_weight_bytes(const hw_weight *w);
const hw_weight_dims *hw_cuda_weight_dims(const hw_weight *w);

hw_status hw_cuda_gather(hw_device *d, void *out, const hw_weight *table, const int32_t *ids, int n,
                         int first_id, bool accumulate);
hw_status hw_cuda_select_rows(hw_device *d, void *out, const void *x, const int32_t *rows, int n, int dim);
hw_status hw_cuda_activate(hw_device *d, void *out, const void *x, int n_rows, int n, hw_activation act,
                           bool gated);

/* The same of x + bias, bias [n], gated [2 n], or NULL. */
hw_status hw_cuda_activate_biased(hw_cuda_device *c, void *out, const void *x, const float *bias, int n_rows,
                                  int n, hw_activation act, bool gated);
hw_status hw_cuda_add_bias_residual(hw_device *d, void *x, const void *y, const float *bias, int n, int dim);
hw_status hw_cuda_norm(hw_device *d, void *out, const void *x, hw_norm norm, int n, int dim);
hw_status hw_cuda_rmsnorm(hw_device *d, void *out, const void *x, const float *w, int n, int dim, float eps);
hw_status hw_cuda_qk_norm(hw_device *d, void *qkv, hw_heads heads, const float *q_w, const float *k_w, int n,
                          float eps);
hw_status hw_cuda_layernorm(hw_device *d, void *out, const void *x, const float *w, const float *b, int n,
                            int dim, float eps);
hw_status hw_cuda_matmul(hw_device *d, void *out, const void *x, const hw_weight *w, const float *bias,
                         int n);
hw_status hw_cuda_logits(hw_device *d, float *out, const void *x, const hw_weight *w, int n);
hw_status hw_cuda_rope_angles(hw_device *d, float *out, const int32_t *positions, int n,
                              const float *inv_freq, int half, float scale);
hw_status hw_cuda_rope_append(hw_device *d, void *qkv, const float *angles, int half, hw_heads heads,
                              const hw_rows *rows, hw_kv_layer kv);
hw_status hw_cuda_attention(hw_device *d, void *out, const void *qkv, hw_heads heads, const hw_attn *attn,
                            const hw_rows *rows, hw_kv_layer kv, void *scratch);
size_t hw_cuda_attention_scratch(const hw_device *d, hw_heads heads, int max_rows, int max_positions);
hw_status hw_cuda_penalize(hw_device *d, float *row, int n_vocab, int first_id, const int32_t *tokens,
                           int n_tokens, float penalty);
hw_status hw_cuda_row_best(hw_device *d, uint64_t *keys, const float *row, int n_vocab, int first_id,
                           int n_valid, int k);
hw_status hw_cuda_row_mass(hw_device *d, uint64_t *mass, const float *row, int n_vocab, int first_id,
                           int n_valid, float max, float temperature);
hw_status hw_cuda_row_draw(hw_device *d, uint64_t *key, const float *row, int n_vocab, int first_id,
                           int n_valid, float floor, float temperature, uint64_t seed, uint64_t step);

hw_status hw_cuda_choose_keys(hw_device *d, const hw_fed_rows *rows, const float *logits, int n_vocab,
                              int first_id);

/* y = W x (+ bias) for many rows, by cuBLASLt. */
typedef struct hw_cuda_product {
    void *out;     /* [n_rows, n_out] */
    const void *x; /* [n_rows, n_in] */
    const hw_weight *w;
    const float *bias; /* [n_out], or NULL; only where the result is float32 */
    size_t n_rows;
    bool wide; /* out is float32 */
} hw_cuda_product;

/* *done false with HW_OK: cuBLASLt has no way to do this one. */
hw_status hw_cuda_blas_product(hw_cuda_device *c, const hw_cuda_product *p, bool *done);

#endif
