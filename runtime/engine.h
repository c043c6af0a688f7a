/* The loaded model on this rank, its sequences, and a step over a batch of rows.
 *
 *   engine     weights, cache and buffers of this rank; created once, by all ranks together
 *   sequence   one timeline of tokens with its blocks of the cache
 *   batch      the rows of one step: new tokens of one or several sequences, prefill and decode alike
 *
 * All ranks make the same calls on the same sequences in the same order (scheduling is replicated). Calls
 * marked Collective are made by every rank; the others are Local and give the same result on every rank. One
 * engine, one thread. */
#ifndef HW_RUNTIME_ENGINE_H
#define HW_RUNTIME_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "parallel/comm.h"
#include "runtime/base/dtype.h"
#include "runtime/base/status.h"
#include "runtime/kv/usage.h"
#include "runtime/work.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hw_engine hw_engine;
typedef struct hw_sequence hw_sequence;
typedef struct hw_batch hw_batch;
struct hw_model;
struct hw_shard;

typedef enum hw_weights_from {
    HW_WEIGHTS_PATH,    /* every rank reads its shard; all hosts have the files, at the same path */
    HW_WEIGHTS_SCATTER, /* rank 0 reads for all and sends each rank its shard; only its host needs the files */
} hw_weights_from;

/* Plain; hw_engine_defaults fills it in. Equal on all ranks, except for the progress function. */
typedef struct hw_engine_options {
    const char *device; /* see hw_device_choose in runtime/device/devices.h */
    bool graphs;        /* decode steps as graphs, on devices that support them */
    int n_threads;  /* of each rank on the CPU; 0: its share of the host's cores (runtime/device/threads.h) */
    bool pin;       /* pin them to cores; the thread that creates the engine is one of them */
    hw_dtype dtype; /* default of the next four where they are NONE. NONE itself: as weights are stored */
    hw_dtype weight_dtype; /* of matrices on the device */
    hw_dtype act_dtype;    /* of activations. NONE: float32 on the host, dtype on devices in plug-ins */
    hw_dtype kv_dtype;     /* of the cache */
    hw_dtype comm_dtype;   /* of activations in all-reduces. NONE: act_dtype, the only type supported */
    hw_matmul matmul;      /* of bfloat16 weights; HW_MATMUL_AUTO: rank 0's device chooses, for all ranks */
    hw_kv_policy kv_policy;
    int block_tokens;    /* positions per cache block, 1 to 1024; contiguous uses max_seq_len instead */
    uint64_t kv_bytes;   /* of each rank's cache; 0: enough for max_seqs full sequences, or the memory left */
    bool prefix_sharing; /* paged: equal prefixes of sequences are computed once */
    int max_seq_len;     /* longest sequence; 0: what the model allows, at most 4096 */
    int max_seqs;        /* sequences at once */
    int max_batch_rows;  /* rows of one step (with the cache off at least max_seq_len) */
    int max_logit_rows;  /* rows of one step that can have logits; as many as max_seqs if this is less */
    hw_weights_from weights;
    bool dummy; /* random weights from config.json alone */
    uint64_t dummy_seed;
    void (*progress)(void *user, uint64_t done_bytes,
                     uint64_t total_bytes); /* while loading, on every rank; may be NULL */
    void *progress_user;
} hw_engine_options;

hw_engine_options hw_engine_defaults(void);

/* Collective. Reads config.json and this rank's shard of the weights, or receives them from rank 0. `comm` is
 * borrowed and must outlive the engine. On HW_OK the caller owns *out (hw_engine_destroy). On failure every
 * rank gets the same status and message. Errors: HW_ERR_INVALID, HW_ERR_MODEL, HW_ERR_NO_MEMORY (checked, with
 * the numbers, before weights are read), HW_ERR_DEVICE, HW_ERR_UNSUPPORTED. */
hw_status hw_engine_create(hw_engine **out, hw_comm *comm, const char *model_folder,
                           const hw_engine_options *options, hw_error *err);
void hw_engine_destroy(hw_engine *e); /* NULL is fine */

/* A description of the engine. Plain. */
typedef struct hw_engine_info {
    const char *architecture, *device, *comm; /* borrowed */
    const char *path; /* of this rank's device: hw_device_path. Borrowed, as the next two */
    const char *device_warning, *device_note; /* hw_device_warning, hw_device_note; often NULL */
    uint64_t n_graph_steps;                   /* decode steps that were graph launches */
    const char *
        gpu_note; /* why "auto" did not take a GPU although there is a driver; "": it did, or there is none. Borrowed */
    const char
        *no_graphs; /* why graphs are not possible; NULL: they are, or the device is the host. Static */
    uint64_t
        n_device_loop_steps; /* decode steps that passed their tokens to the next one on the device (device_loop.h) */
    bool sent_is_estimate; /* bytes sent are those of a ring: the library's algorithm is unknown */
    int rank, n_ranks, n_threads;
    int n_cores;    /* this rank's share of the host's cores; 0: fewer cores than ranks, which take turns */
    int n_cores_of; /* cores divided among n_ranks_on_them ranks */
    int n_ranks_on_them;
    bool few_cores; /* n_threads was set, and on some rank it is more than the share */
    int n_layers, n_heads, n_kv_heads, head_dim, dim, ffn_dim, vocab_size;
    int n_local_heads, n_local_kv_heads;
    int max_seq_len, block_tokens, n_kv_blocks, max_batch_rows, max_logit_rows;
    hw_kv_policy kv_policy;
    hw_dtype weight_dtype, act_dtype, kv_dtype, comm_dtype; /* final values */
    hw_matmul matmul;                                       /* AUTO on a device with its own arithmetic */
    uint64_t n_params;
    uint64_t weight_bytes, kv_bytes, buffer_bytes; /* of this rank */
    uint64_t
        step_weight_bytes; /* read by a decode step: matrices, but not tables of which it reads one row */
    uint64_t checkpoint_bytes, bytes_read; /* in all files; requested by this rank */
    uint64_t scattered_bytes; /* of weights that this rank sent to others (HW_WEIGHTS_SCATTER: rank 0) */
    double load_seconds;
} hw_engine_info;

hw_engine_info hw_engine_info_get(const hw_engine *e);
hw_comm *hw_engine_comm(hw_engine *e);                      /* borrowed */
hw_device *hw_engine_device(hw_engine *e);                  /* borrowed; between steps */
const struct hw_model *hw_engine_model(const hw_engine *e); /* borrowed */
const struct hw_shard *hw_engine_shard(const hw_engine *e); /* borrowed: what this rank holds */

/* Local. FLOPs and bytes of this rank since the engine was created or since the last reset. Borrowed. */
const hw_work_table *hw_engine_work(const hw_engine *e);
void hw_engine_work_reset(hw_engine *e);

/* Local. The current use of the cache. Block counts are equal on all ranks; bytes are for this rank's heads. */
hw_kv_usage hw_engine_kv_usage(const hw_engine *e);

/* ---- sequences */

/* An empty sequence of at most `max_tokens` tokens (0: the engine's max_seq_len). On HW_OK the caller owns
 * *out (hw_sequence_destroy, before the engine). Errors: HW_ERR_NO_MEMORY, HW_ERR_CACHE_FULL (contiguous),
 * HW_ERR_INVALID (longer than the engine allows). */
hw_status hw_sequence_create(hw_sequence **out, hw_engine *e, int max_tokens, hw_error *err);
void hw_sequence_destroy(hw_sequence *s); /* NULL is fine; its blocks go back to the pool */
int hw_sequence_n_tokens(const hw_sequence *s);
const int32_t *hw_sequence_tokens(const hw_sequence *s); /* borrowed, until the next call on the sequence */

/* A second sequence with the same tokens and the same maximum length: for several continuations of one prompt. A
 * paged cache shares all blocks, copy-on-write; contiguous and dynamic copy the content immediately. On HW_OK the
 * caller owns *out. Errors: HW_ERR_NO_MEMORY, HW_ERR_CACHE_FULL, HW_ERR_INVALID (tokens of `src` wait for a step). */
hw_status hw_sequence_fork(hw_sequence **out, const hw_sequence *src, hw_error *err);

/* Number of tokens whose keys and values were found in the cache, so that no step ran them. 0 for a new fork. */
int hw_sequence_n_cached(const hw_sequence *s);

/* ---- steps */

typedef enum hw_logits_wanted { HW_LOGITS_NONE, HW_LOGITS_LAST, HW_LOGITS_ALL } hw_logits_wanted;

hw_status hw_batch_create(hw_batch **out, hw_engine *e,
                          hw_error *err); /* the caller owns it (hw_batch_destroy) */
void hw_batch_destroy(hw_batch *b);
void hw_batch_clear(hw_batch *b);

/* Appends `n` new tokens to a sequence and adds them to the step. A sequence can be in a batch once. `wanted`
 * requests logits after the last token, after each, or after none; rows of logits are in the order in which they
 * were requested. Tokens whose keys and values a paged cache already holds, because another sequence has the same
 * prefix, become no rows; rows with logits, and at least the last token, always run. The logits have the same bits
 * either way. Errors: HW_ERR_INVALID (token out of range, longer than the context, batch full, earlier tokens still
 * wait for a step), HW_ERR_CACHE_FULL, HW_ERR_NO_MEMORY. After an error sequence and batch are unchanged. */
hw_status hw_batch_add(hw_batch *b, hw_sequence *s, const int32_t *tokens, int n, hw_logits_wanted wanted,
                       hw_error *err);
int hw_batch_n_rows(const hw_batch *b);
int hw_batch_n_logits(const hw_batch *b);

/* Collective. Runs the forward pass over the batch. Each rank keeps the logits of its slice of the vocabulary. An
 * error in the middle of a step cannot be agreed on, and ends the job. */
hw_status hw_engine_step(hw_engine *e, hw_batch *b, hw_error *err);

/* Collective. The whole logits of the batch on every rank: out [n_logits, vocab_size]. For comparing and scoring;
 * generation does not need it. Errors: HW_ERR_INVALID when the last step was not this batch's. */
hw_status hw_engine_logits(hw_engine *e, const hw_batch *b, float *out, hw_error *err);

/* How the next token is chosen. Plain; all zero is greedy. Filters apply in the order of transformers:
 * repetition penalty, temperature, top-k, top-p, min-p. */
typedef struct hw_sampling {
    float temperature;        /* 0: greedy; otherwise 1e-6 to 1e6 */
    int top_k;                /* 0: off */
    float top_p;              /* 0 or 1: off */
    float min_p;              /* 0: off */
    float repetition_penalty; /* 0 or 1: off */
    uint64_t seed;
} hw_sampling;

/* Local. Errors: HW_ERR_INVALID naming the setting. */
hw_status hw_sampling_check(const hw_sampling *s, hw_error *err);

/* Collective. Chooses one token for every row of logits of the batch, which must be the batch of the last step; row i
 * belongs to the i-th sequence that requested logits (each with HW_LOGITS_LAST) and is sampled with settings[i]. Every
 * rank gets the same tokens [n_logits]. A token depends only on the seed, the length of its sequence and the logits,
 * not on the batch or the number of ranks. Ids from `n_valid` on, which pad the vocabulary, are never chosen (0: all are
 * valid). A repetition penalty modifies the logits of the step in place: call hw_engine_logits before, and sample once.
 * Errors: HW_ERR_FAILED when a logit is not a number or the largest is infinite, HW_ERR_CANCELLED when
 * hw_engine_cancel was called on some rank, HW_ERR_INVALID when the last step was not this batch's. */
hw_status hw_engine_sample(hw_engine *e, const hw_batch *b, const hw_sampling *settings, int n_valid,
                           int32_t *tokens, hw_error *err);

/* Local. From now on hw_engine_sample fails on every rank. With it a rank that can no longer write its output stops
 * the others. */
void hw_engine_cancel(hw_engine *e);

#ifdef __cplusplus
}
#endif
#endif
