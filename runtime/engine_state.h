/* The internals of an engine, for the files that make up a step. All functions are Local. */
#ifndef HW_RUNTIME_ENGINE_STATE_H
#define HW_RUNTIME_ENGINE_STATE_H

#include "runtime/device/threads.h"
#include "runtime/engine.h"
#include "runtime/kv/cache.h"
#include "runtime/model.h"
#include "runtime/weights/weights.h"

/* Steps of a device loop (device_loop.h) in flight at once: while one runs, the tokens of the previous one are read. */
enum { HW_DEVICE_LOOP_AHEAD = 2 };

/* Buffers of a step on the device, allocated once for the largest step. R = max_batch_rows, L = max_logit_rows. */
typedef struct hw_buffers {
    void *x;       /* [R, dim]                                    replicated: the residual stream */
    void *normed;  /* [R, dim]                                    replicated */
    void *qkv;     /* [R, (n_local_heads + 2 n_local_kv_heads) * head_dim]  split by heads */
    void *attn;    /* [R, n_local_heads * head_dim]               split by heads */
    void *y;       /* [R, dim]                                    partial until the all-reduce */
    void *up;      /* [R, 2 * local_ffn_dim] gate and up          split by columns */
    void *act;     /* [R, local_ffn_dim]                          split by columns */
    float *angles; /* [R, 2, rotary_dim / 2] cos and sin of the rows' positions */
    float *logits; /* [L, n_local_vocab]                          split by vocabulary */
    void *scratch; /* of the attention op */
    int32_t *tokens, *positions, *seqs; /* [R] */
    int32_t *logit_rows;                /* [L] */
    int32_t *block_tables;              /* [max_seqs, shape.seq_blocks] */
    uint64_t *keys;                     /* [L] replicated: keys chosen by a step of the device loop */
    hw_draw *draws;                     /* [L] sampling settings; both only with a device loop */
    void *stage;    /* [R, dim] host memory for all-reduces; NULL if they do not need it */
    uint64_t *ring; /* [HW_DEVICE_LOOP_AHEAD, L] host memory: keys copied back; NULL without a device loop */
    int32_t
        *next_tables; /* [HW_DEVICE_LOOP_AHEAD, max_seqs, shape.seq_blocks] host memory: tables being sent */
    size_t n_bytes;   /* on the device */
} hw_buffers;

struct hw_engine {
    hw_comm *world;  /* all ranks: set-up, agreement, the watch; borrowed */
    hw_comm *tensor; /* the ranks that split a layer: today the same as `world` */
    hw_device *device;
    hw_error gpu_note; /* hw_engine_info.gpu_note */
    hw_engine_options options;
    hw_threads threads;
    hw_model model;
    hw_shard shard;
    hw_weights *weights;
    hw_kv_cache *kv;
    float *inv_freq; /* [rotary_dim / 2] on the device; NULL without RoPE */
    hw_buffers buffers;
    hw_kv_shape shape; /* of the cache; all ranks agree on n_blocks */
    uint64_t n_steps;  /* so far; the buffers hold the logits of the last one */
    struct hw_sampler *sampler;
    struct hw_decode_graphs *graphs;
    bool has_device_loop; /* device loops are possible on all ranks */
    uint64_t n_device_loop_steps;
    bool cancelled;
    hw_work_table work;
    bool scattered; /* rank 0 sends the other ranks their weights */
    uint64_t checkpoint_bytes;
    double load_seconds;
};

/* Local. Waits for the device. Ops return a status without a message: `st` is the first status that an op of this
 * rank returned. If the device reports an error, returns its status and message, with the rank in front; otherwise
 * returns `st`. */
hw_status hw_engine_wait(hw_engine *e, hw_status st, hw_error *err);

/* Local. The same for work up to an event; later work continues. */
hw_status hw_engine_wait_event(hw_engine *e, hw_event *m, hw_error *err);

/* Local. Copies from the device, and waits.   dst [n_bytes]   src [n_bytes] D */
hw_status hw_engine_read(hw_engine *e, void *dst, const void *src, size_t n_bytes, hw_error *err);

#endif
