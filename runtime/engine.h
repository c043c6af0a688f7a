/* The loaded model on this rank, the sequences it works on, and a step over a batch of rows.
 *
 *   engine     weights, cache and buffers of this rank; created once, by all ranks together
 *   sequence   one timeline of tokens with its blocks of the cache
 *   batch      the rows of one step: new tokens of one or several sequences, prefill and decode alike
 *
 * All ranks run the same calls on the same sequences in the same order (scheduling is replicated). Calls
 * marked Collective are made by every rank; the others are Local and give the same result everywhere. One
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
#include "runtime/work.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hw_engine hw_engine;
typedef struct hw_sequence hw_sequence;
typedef struct hw_batch hw_batch;
struct hw_model;
struct hw_shard;

typedef enum hw_kv_policy {
    HW_KV_PAGED,      /* blocks from a pool, a table per sequence; equal prefixes share full blocks */
    HW_KV_OFF,        /* no cache: every step runs the sequence's whole prefix again */
    HW_KV_CONTIGUOUS, /* one block of max_seq_len tokens per sequence, taken when it is created */
    HW_KV_DYNAMIC,    /* one piece per sequence, doubled and copied when full */
} hw_kv_policy;

const char *hw_kv_policy_name(hw_kv_policy policy); /* "paged", "off", "contiguous", "dynamic" */

/* Bytes of this rank's cache. A block takes 2 * n_layers * n_local_kv_heads * head_dim * block_tokens *
 * (bytes of a number); all the others are multiples of it. Plain. */
typedef struct hw_kv_usage {
    hw_kv_policy policy;
    uint64_t bytes_per_token;
    uint64_t capacity_bytes; /* all blocks, taken from the device when the engine was created */
    uint64_t reserved_bytes; /* blocks that sequences hold, each counted once */
    uint64_t used_bytes;     /* tokens in them, each counted once; with the cache off they are scratch */
    uint64_t wasted_bytes;   /* reserved - used */
    uint64_t shared_bytes;   /* what the sequences would hold more if each had its own copy */
    uint64_t peak_bytes;     /* the most that was ever reserved; counts both sides of a copy */
    uint64_t copied_bytes;   /* moved so far: dynamic, forking, and copies on write */
    int block_tokens, n_blocks;
    int n_free, n_cached; /* blocks: empty; held by nobody but findable, given up when no other is free */
} hw_kv_usage;

typedef enum hw_weights_from {
    HW_WEIGHTS_PATH,    /* every rank reads its part; all hosts have the files, at the same path */
    HW_WEIGHTS_SCATTER, /* rank 0 reads for all and sends each rank its part; its host alone has the files */
} hw_weights_from;

/* Plain; hw_engine_defaults fills it in. Equal on all ranks, but for the progress function. */
typedef struct hw_engine_options {
    const char *device; /* see hw_device_choose in runtime/device/devices.h */
    bool graphs;        /* decode steps as graphs, on devices that have them */
    int n_threads;  /* of each rank on the CPU; 0: its share of the host's cores (runtime/device/threads.h) */
    bool pin;       /* keep them on these cores; the thread that creates the engine is one of them */
    hw_dtype dtype; /* what the next four follow where they are NONE. NONE itself: as weights are stored */
    hw_dtype weight_dtype; /* of matrices on the device */
    hw_dtype act_dtype;    /* of activations. NONE: float32 on the host, dtype on devices in plug-ins */
    hw_dtype kv_dtype;     /* of the cache */
    hw_dtype comm_dtype; /* of activations while ranks add them. NONE: act_dtype, and no other is supported */
    hw_matmul matmul;    /* by bfloat16 weights; HW_MATMUL_AUTO: what rank 0's device does best, on all */
    hw_kv_policy kv_policy;
    int block_tokens;    /* positions per cache block, 1 to 1024; contiguous takes max_seq_len instead */
    uint64_t kv_bytes;   /* of each rank's cache; 0: what max_seqs full sequences need, or memory has left */
    bool prefix_sharing; /* paged: equal beginnings of sequences are computed once */
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

/* Collective. Reads config.json and this rank's part of the weights, or gets them from rank 0. `comm` is
 * borrowed and must outlive the engine. On HW_OK the caller owns *out (hw_engine_destroy). On failure every
 * rank gets the same status and message. Errors: HW_ERR_INVALID, HW_ERR_MODEL, HW_ERR_NO_MEMORY (also
 * foreseen, with the numbers, before weights are read), HW_ERR_DEVICE, HW_ERR_UNSUPPORTED. */
hw_status hw_engine_create(hw_engine **out, hw_comm *comm, const char *model_folder,
                           const hw_engine_options *options, hw_error *err);
void hw_engine_destroy(hw_engine *e); /* NULL is fine */

/* What the engine is. Plain. */
typedef struct hw_engine_info {
    const char *architecture, *device, *comm; /* borrowed */
    const char *path; /* of this rank's device: hw_device_path. Borrowed, as the next two */
    const char *device_warning, *device_note; /* hw_device_warning, hw_device_note; often NULL */
    uint64_t n_graph_steps;                   /* decode steps that were the launch of a graph */
    const char *
        gpu_note; /* why GPUs that are there were not taken unasked; "": they were, or there are none. Borrowed */
    const char *no_graphs; /* why none can be; NULL: they can, or the device is the host. Static */
    uint64_t
        n_device_loop_steps; /* decode steps that gave their tokens to the next one on the device (device_loop.h) */
    bool sent_is_estimate; /* bytes sent are those of a ring: the library's own choice is unknown */
    int rank, n_ranks, n_threads;
    int n_cores;    /* of the host, that are this rank's share; 0: fewer than ranks, which take turns */
    int n_cores_of; /* divided among so many ranks: */
    int n_ranks_on_them;
    bool few_cores; /* threads were asked for, and on some rank they are more than its share */
    int n_layers, n_heads, n_kv_heads, head_dim, dim, ffn_dim, vocab_size;
    int n_local_heads, n_local_kv_heads;
    int max_seq_len, block_tokens, n_kv_blocks, max_batch_rows, max_logit_rows;
    hw_kv_policy kv_policy;
    hw_dtype weight_dtype, act_dtype, kv_dtype, comm_dtype; /* as settled */
    hw_matmul matmul; /* AUTO on a device with an arithmetic of its own */
    uint64_t n_params;
    uint64_t weight_bytes, kv_bytes, buffer_bytes; /* of this rank */
    uint64_t step_weight_bytes; /* what a decode step reads of them: matrices, but not tables for one row */
    uint64_t checkpoint_bytes, bytes_read; /* in all files; asked for by this rank */
    uint64_t scattered_bytes; /* of weights that this rank sent to others (HW_WEIGHTS_SCATTER: rank 0) */
    double load_seconds;
} hw_engine_info;

hw_engine_info hw_engine_info_get(const hw_engine *e);
hw_comm *hw_engine_comm(hw_engine *e);                      /* borrowed */
hw_device *hw_engine_device(hw_engine *e);                  /* borrowed; between steps */
const struct hw_model *hw_engine_model(const hw_engine *e); /* borrowed */
const struct hw_shard *hw_engine_shard(const hw_engine *e); /* borrowed: what this rank holds */

/* Local. What this rank computed and touched since the engine was made or since the last reset. Borrowed. */
const hw_work_table *hw_engine_work(const hw_engine *e);
void hw_engine_work_reset(hw_engine *e);

/* Local. What the cache holds now. Counts of blocks are equal on all ranks; bytes are those of this rank's
 * heads. */
hw_kv_usage hw_engine_kv_usage(const hw_engine *e);

/* ---- sequences */

/* An empty sequence of at most `max_tokens` tokens (0: the engine's max_seq_len). On HW_OK the caller owns
 * *out (hw_sequence_destroy, before the engine). Errors: HW_ERR_NO_MEMORY, HW_ERR_CACHE_FULL (contiguous),
 * HW_ERR_INVALID (longer than the engine allows). */
hw_status hw_sequence_create(hw_sequence **out, hw_engine *e, int max_tokens, hw_error *err);
void hw_sequence_destroy(hw_sequence *s); /* NULL is fine; its blocks go back to the pool */
int hw_sequence_n_tokens(const hw_sequence *s);
const int32_t *hw_sequence_tokens(const hw_sequence *s); /* borrowed, until the next call on the sequence */

/* A second sequence that goes on from the same tokens, of the same greatest length: for drawing several
 * continuations of one prompt. A paged cache shares all blocks, and the first of them to write into a shared
 * block gets a copy of it; contiguous and dynamic copy the content at once. On HW_OK the caller owns *out.
 * Errors: HW_ERR_NO_MEMORY, HW_ERR_CACHE_FULL, HW_ERR_INVALID (tokens of `src` wait for a step). */
hw_status hw_sequence_fork(hw_sequence **out, const hw_sequence *src, hw_error *err);

/* Tokens whose keys and values were found in the cache, so that no step ran them. A fork begins with 0. */
int hw_sequence_n_cached(const hw_sequence *s);

/* ---- steps */

typedef enum hw_logits_wanted { HW_LOGITS_NONE, HW_LOGITS_LAST, HW_LOGITS_ALL } hw_logits_wanted;

hw_status hw_batch_create(hw_batch **out, hw_engine *e,
                          hw_error *err); /* the caller owns it (hw_batch_destroy) */
void hw_batch_destroy(hw_batch *b);
void hw_batch_clear(hw_batch *b);

/* Adds `n` new tokens of a sequence to the step, and the sequence takes them in. A sequence can be in a
 * batch once. Logits are asked for after the last of them, after each, or not at all; rows of logits come
 * in the order they were asked for. Where a paged cache holds the keys and values of these tokens already,
 * because another sequence began with the same ones, they become no rows; rows with logits, and at least
 * the last token, always run. The logits have the same bits either way. Errors: HW_ERR_INVALID (token out
 * of range, longer than the context, batch full, tokens added before still wait for a step),
 * HW_ERR_CACHE_FULL, HW_ERR_NO_MEMORY. After an error the sequence and the batch are as before. */
hw_status hw_batch_add(hw_batch *b, hw_sequence *s, const int32_t *tokens, int n, hw_logits_wanted wanted,
                       hw_error *err);
int hw_batch_n_rows(const hw_batch *b);
int hw_batch_n_logits(const hw_batch *b);

/* Collective. Runs the forward pass over the batch. Logits stay on the ranks, each holding its slice of the
 * vocabulary. An error in the middle of a step ends the job: it has not been agreed on. */
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

/* Collective. Chooses one token for every row of logits of the batch, which the last step has run; row i belongs to the i-th sequence
 * that asked for logits (each with HW_LOGITS_LAST) and is drawn with settings[i]. Every rank gets the same
 * tokens [n_logits]. What a token is depends on the seed, the length of its sequence and the logits alone:
 * not on the batch, not on the number of ranks. Tokens from `n_valid` on are never chosen (0: all are valid):
 * ids that pad the vocabulary. A repetition penalty changes the logits of the step where they lie: with one,
 * gather them before (hw_engine_logits), and sample once.
 * Errors: HW_ERR_FAILED when a logit is not a number or the largest is infinite, HW_ERR_CANCELLED when
 * hw_engine_cancel was called on some rank, HW_ERR_INVALID when the last step was not this batch's. */
hw_status hw_engine_sample(hw_engine *e, const hw_batch *b, const hw_sampling *settings, int n_valid,
                           int32_t *tokens, hw_error *err);

/* Local. From now on hw_engine_sample fails on every rank: how one rank that can write no more tells the
 * others. */
void hw_engine_cancel(hw_engine *e);

#ifdef __cplusplus
}
#endif
#endif
