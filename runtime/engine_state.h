/* The internals of engine, sequence and batch, for the files that make up a step: engine.c, batch.c, forward.c,
 * sampler.c. */
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

struct hw_sequence {
    hw_engine *engine;
    int32_t *tokens; /* [max_tokens] */
    int n_tokens, max_tokens;
    int n_computed; /* tokens whose keys and values are in the cache; the others wait for a step */
    int n_cached;   /* of these, found in the cache and not computed */
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
    hw_sequence **logit_seqs;           /* [L] the sequence of each row of logits */
    hw_sequence **sequences;            /* [max_seqs] */
    int32_t *block_tables;              /* [max_seqs, shape.seq_blocks] */
    int first_changed, end_changed;     /* sequences whose tables hw_batch_advance changed */
    uint64_t step;                      /* number, from 1, of the step that ran it; 0: not run */
};

/* Collective. The forward pass, see forward.c. */
hw_status hw_forward(hw_engine *e, const hw_batch *b, hw_error *err);

/* Collective. Starts the forward pass of step number `step`, from 0, of the device loop, and does not wait for it. After
 * the first step the device has tokens and positions, and only block tables that changed are sent. */
hw_status hw_forward_fed(hw_engine *e, const hw_batch *b, uint64_t step, hw_error *err);

/* Local. Waits for the device. Ops return a status without a message: `st` is the first status that an op of this
 * rank returned. If the device reports an error, returns its status and message, with the rank in front; otherwise
 * returns `st`. */
hw_status hw_engine_wait(hw_engine *e, hw_status st, hw_error *err);

/* Local. The same for work up to an event; later work continues. */
hw_status hw_engine_wait_mark(hw_engine *e, hw_event *m, hw_error *err);

/* Local. Copies from the device, and waits.   dst [n_bytes]   src [n_bytes] D */
hw_status hw_engine_read(hw_engine *e, void *dst, const void *src, size_t n_bytes, hw_error *err);

/* Number of best candidates that top-p first gathers from each rank; four times as many if they do not hold enough
 * probability mass. */
enum { HW_FIRST_CANDIDATES = 64 };

/* Local. Call after the batch has run: marks its keys and values as computed, and publishes the full blocks of its
 * sequences. */
void hw_batch_done(hw_batch *b);

/* Stands for a token that the host does not know yet. */
enum { HW_TOKEN_UNKNOWN = -1 };

/* Local. Turns decode rows, one per sequence, into the rows of the next step, with room for a token, known or not, in
 * every sequence. Errors: HW_ERR_INVALID (longer than the context), HW_ERR_CACHE_FULL; then nothing has changed. */
hw_status hw_batch_advance(hw_batch *b, hw_error *err);

/* Local. Removes tokens that wait for a step from the sequences. */
void hw_batch_retreat(hw_batch *b);

/* Local. Records that the oldest step in flight of these rows has ended and chose `tokens` [n_rows]. */
void hw_batch_continue(hw_batch *b, const int32_t *tokens);

/* The key of a cancelled rank: larger than that of every logit, smaller than HW_KEY_NAN. */
#define HW_KEY_CANCEL (UINT64_MAX - 1)

/* Local. HW_OK if the logits in the buffers belong to this batch. Errors: HW_ERR_INVALID. */
hw_status hw_batch_check_logits(const hw_batch *b, hw_error *err);

/* Local. Whether these settings need only one exchange of keys, and do not modify the logits. */
bool hw_sampling_is_plain(const hw_sampling *s);

/* Local. HW_OK if the reduced key is that of a token. Errors: HW_ERR_FAILED and HW_ERR_CANCELLED, as in
 * hw_engine_sample. */
hw_status hw_sampler_check_key(uint64_t key, hw_error *err);

/* Collective. Chooses a token for `n` rows of a batch's logits: row rows[i] is sampled with settings[i]. keys [n] are
 * equal on all ranks; pass each to hw_sampler_check_key. A row for which no token can be chosen does not affect the
 * others. */
hw_status hw_sampler_choose(hw_engine *e, const hw_batch *b, const int *rows, const hw_sampling *settings,
                            int n, int n_valid, uint64_t *keys, hw_error *err);

/* Local. Buffers of the sampler: keys and candidates of up to max_logit_rows rows. */
hw_status hw_sampler_create(struct hw_sampler **out, int max_rows, int n_ranks, int vocab_size,
                            hw_error *err);
void hw_sampler_destroy(struct hw_sampler *s);

/* Local. The meter's tag for a collective of this step. */
static inline hw_tag hw_batch_tag(const hw_batch *b, hw_site site, int layer)
{
    return (hw_tag){
        .site = site, .layer = layer, .prefill_rows = b->n_prefill_rows, .decode_rows = b->n_decode_rows};
}

#endif
