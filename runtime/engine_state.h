/* The insides of engine, sequence and batch, for the files that make up a step: engine.c, batch.c,
 * forward.c, sampler.c. */
#ifndef HW_RUNTIME_ENGINE_STATE_H
#define HW_RUNTIME_ENGINE_STATE_H

#include "runtime/device/threads.h"
#include "runtime/engine.h"
#include "runtime/kv/cache.h"
#include "runtime/model.h"
#include "runtime/weights/weights.h"

/* Steps of a device loop (device_loop.h) that can be under way at once: while one runs, the choice of the one before it is
 * read. */
enum { HW_DEVICE_LOOP_AHEAD = 2 };

/* Memory of a step, on the device, made once for the largest one. R = max_batch_rows, L = max_logit_rows. */
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
    uint64_t *keys;                     /* [L] replicated: what a step of the device loop chose */
    hw_draw *draws;                     /* [L] and how; both only with a device loop */
    void *stage; /* [R, dim] host memory through which all-reduces go; NULL where they need not */
    uint64_t
        *ring; /* [HW_DEVICE_LOOP_AHEAD, L] host memory: keys on their way back; NULL without a device loop */
    int32_t *
        next_tables; /* [HW_DEVICE_LOOP_AHEAD, max_seqs, shape.seq_blocks] host memory: tables on their way */
    size_t n_bytes;  /* on the device */
} hw_buffers;

struct hw_engine {
    hw_comm *world;  /* all ranks: set-up, agreement, the watch; borrowed */
    hw_comm *tensor; /* those that split a layer: `world` itself, since nothing else splits a model */
    hw_device *device;
    hw_error gpu_note; /* why it is not a GPU that is there; "" */
    hw_engine_options options;
    hw_threads threads;
    hw_model model;
    hw_shard shard;
    hw_weights *weights;
    hw_kv_cache *kv;
    float *inv_freq; /* [rotary_dim / 2] on the device; NULL without RoPE */
    hw_buffers buffers;
    hw_kv_shape shape; /* how the cache is cut; n_blocks is settled by all ranks together */
    uint64_t n_steps;  /* so far: the batch of the last one has its logits in the buffers */
    struct hw_sampler *sampler;
    struct hw_decode_graphs *graphs;
    bool has_device_loop; /* decode steps can follow one another on the device, on all ranks */
    uint64_t n_device_loop_steps;
    bool cancelled;
    hw_work_table work;
    bool scattered; /* rank 0 sends everybody its weights */
    uint64_t checkpoint_bytes;
    double load_seconds;
};

struct hw_sequence {
    hw_engine *engine;
    int32_t *tokens; /* [max_tokens] */
    int n_tokens, max_tokens;
    int n_computed; /* tokens whose keys and values are in the cache; the others wait for a step */
    int n_cached;   /* of them: found, not computed */
    hw_kv_table table;
};

/* Host copies of what hw_rows and the forward pass need. */
struct hw_batch {
    hw_engine *engine;
    int n_rows, n_seqs, n_logits;
    int n_prefill_rows, n_decode_rows;
    int max_position;
    int32_t *tokens, *positions, *seqs; /* [R] */
    int32_t *logit_rows;                /* [L] */
    hw_sequence **logit_seqs;           /* [L] whose row it is */
    hw_sequence **sequences;            /* [max_seqs] */
    int32_t *block_tables;              /* [max_seqs, shape.seq_blocks] */
    int first_changed, end_changed;     /* sequences whose tables hw_batch_advance changed */
    uint64_t step;                      /* the number, from 1, of the step that ran it; 0: none has */
};

/* Collective. The forward pass, see forward.c. */
hw_status hw_forward(hw_engine *e, const hw_batch *b, hw_error *err);

/* Collective. The forward pass of step number `step` of the device loop, from 0: begins it, and does not wait. After
 * the first one the device has tokens and positions, and gets only block tables that changed. */
hw_status hw_forward_fed(hw_engine *e, const hw_batch *b, uint64_t step, hw_error *err);

/* Local. Waits for the device. An op can return a status but no message: `st` is the first that an op of
 * this rank gave, or HW_OK, and where the device knows of something that went wrong, its message and
 * status come back, with the rank in front. Otherwise `st` does. */
hw_status hw_engine_wait(hw_engine *e, hw_status st, hw_error *err);

/* Local. The same for work up to a mark; what comes behind it goes on. */
hw_status hw_engine_wait_mark(hw_engine *e, hw_event *m, hw_error *err);

/* Local. Copies from the device, and waits.   dst [n_bytes]   src [n_bytes] D */
hw_status hw_engine_read(hw_engine *e, void *dst, const void *src, size_t n_bytes, hw_error *err);

/* Best candidates of each rank that top-p gathers at first; four times as many when they do not hold
 * enough mass. */
enum { HW_FIRST_CANDIDATES = 64 };

/* Local. The batch has been run: its sequences' keys and values are in the cache, and their full blocks
 * can be found. */
void hw_batch_done(hw_batch *b);

/* In place of a token that the host does not know yet. */
enum { HW_TOKEN_UNKNOWN = -1 };

/* Local. Makes rows of decode, one for each sequence, those of the next step: room for a token of every
 * sequence, known or not. Errors: HW_ERR_INVALID (longer than the context), HW_ERR_CACHE_FULL; after either
 * all is as before. */
hw_status hw_batch_advance(hw_batch *b, hw_error *err);

/* Local. Takes tokens that wait for a step out of the sequences again. */
void hw_batch_retreat(hw_batch *b);

/* Local. The oldest step of these rows that was under way has ended, and chose `tokens` [n_rows]. */
void hw_batch_continue(hw_batch *b, const int32_t *tokens);

/* Local. Outranks every logit and yields to HW_KEY_NAN: a rank that was cancelled says so with it. */
#define HW_KEY_CANCEL (UINT64_MAX - 1)

/* Local. HW_OK where the logits in the buffers are those of this batch. Errors: HW_ERR_INVALID. */
hw_status hw_batch_check_logits(const hw_batch *b, hw_error *err);

/* Local. Whether one exchange of keys is all that these settings take, and nothing changes the logits. */
bool hw_sampling_is_plain(const hw_sampling *s);

/* Local. HW_OK where the key of all ranks is a token's. Errors: HW_ERR_FAILED and HW_ERR_CANCELLED, as of
 * hw_engine_sample. */
hw_status hw_sampler_check_key(uint64_t key, hw_error *err);

/* Collective. Chooses a token for `n` rows of a batch's logits: row rows[i] of them, drawn with settings[i]. keys [n]:
 * what hw_sampler_check_key judges, equal on all ranks. A row of which no token can be chosen is its own failure; the
 * others have theirs. */
hw_status hw_sampler_choose(hw_engine *e, const hw_batch *b, const int *rows, const hw_sampling *settings,
                            int n, int n_valid, uint64_t *keys, hw_error *err);

/* Local. Buffers of the sampler: keys and candidates of up to max_logit_rows rows. */
hw_status hw_sampler_create(struct hw_sampler **out, int max_rows, int n_ranks, int vocab_size,
                            hw_error *err);
void hw_sampler_destroy(struct hw_sampler *s);

/* Local. What crosses in this step is tagged with its rows. */
static inline hw_tag hw_batch_tag(const hw_batch *b, hw_site site, int layer)
{
    return (hw_tag){
        .site = site, .layer = layer, .prefill_rows = b->n_prefill_rows, .decode_rows = b->n_decode_rows};
}

#endif
