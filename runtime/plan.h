/* What a model would take and send, by arithmetic on its sizes, before anything is loaded and for any number
 * of ranks. All functions are Local and pure. */
#ifndef HW_RUNTIME_PLAN_H
#define HW_RUNTIME_PLAN_H

#include <stdbool.h>

#include "parallel/meter.h"
#include "runtime/engine.h"
#include "runtime/model.h"
#include "runtime/sizes.h"
#include "runtime/weights/weights.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- traffic of a step */

/* The rows of one step as the engine runs them (hw_batch), and how many of them have logits of which a token
 * is sampled. */
typedef struct hw_step_rows {
    int prefill_rows, decode_rows;
    int n_sampled; /* 0: the step is not followed by hw_engine_sample (all chunks of a prompt but the last) */
} hw_step_rows;

/* What the meter of one rank will count, by site (embed, attn, mlp, sample; control and load stay 0) and
 * phase, a step that mixes phases divided as the meter does it. calls and payload are the same for any
 * backend and any rank; sent and messages are those of `shm` or `mpi`, as shard->n_sharing says; time stays 0.
 * Everything is 0 with one rank. */
typedef struct hw_step_traffic {
    hw_traffic site[HW_N_SITES][HW_N_PHASES];
    bool sample_is_bound; /* the figures of `sample` are an upper bound: some row is drawn with top-p */
} hw_step_traffic;

/* Adds the traffic of one step to *total, which starts as {0}. Rank and number of ranks are those of `shard`;
 * `act` is the type of what crosses (the device's activations, HW_F32 on the CPU). `sampling` says how each
 * of the n_sampled tokens is chosen; NULL is greedy. embed, attn and mlp are exact to the byte and so is
 * sample, but for top-p without top-k: there the exchange of candidates is widened until it holds enough
 * mass, and the bound assumes that every widening is needed. */
void hw_plan_step_traffic(hw_step_traffic *total, const hw_model *m, const hw_shard *shard, hw_dtype act,
                          hw_step_rows rows, const hw_sampling *sampling);

/* One sequence from its prompt to its last token, as hw_generate runs it: the prompt `chunk` tokens at a time
 * (0: at once), then `n_steps` decode steps. Without a cache every step runs the sequence's whole prefix. Of
 * a cache that holds an equal beginning already nothing is known here. */
typedef struct hw_generation_shape {
    int n_prompt, chunk, n_steps;
    bool cache_off;
} hw_generation_shape;

/* Adds the traffic of all its steps to *total. */
void hw_plan_generation_traffic(hw_step_traffic *total, const hw_model *m, const hw_shard *shard,
                                hw_dtype act, hw_generation_shape shape, const hw_sampling *sampling);

/* FLOPs of all its steps over all ranks, replicated KV heads counted once, by formula: what the counters of
 * runtime/work.h add up to. Every layer runs on all rows of a step, the head on the last row of every step
 * that is sampled. */
uint64_t hw_plan_generation_flops(const hw_model *m, hw_generation_shape shape);

/* Both phases of a site together. */
hw_traffic hw_step_traffic_site(const hw_step_traffic *t, hw_site site);

/* ---- a whole plan for one number of ranks */

/* What the machine gives each rank. */
typedef struct hw_plan_limits {
    uint64_t memory;  /* bytes */
    double bandwidth; /* of reading weights, bytes per second */
    double latency;   /* of one all-reduce of a decode step, seconds */
    int n_sharing;    /* ranks that add in shared memory (hw_traffic_model_sharing); 1: backend mpi */
} hw_plan_limits;

typedef struct hw_plan {
    int n_ranks, n_sharing;
    int n_blocks;               /* of the cache, on every rank */
    hw_rank_memory least, most; /* each figure over all ranks by itself */
    int min_heads, max_heads, min_kv_heads, max_kv_heads;
    int replicated_kv_heads; /* heads that ranks keep beyond the model's, all ranks together */
    double imbalance;        /* weights of the rank with the most over the mean: 1 is even */

    /* Steps of prefill_rows rows of one prompt, and of one token of max_seqs sequences, greedy or
     * temperature. Of the rank that sends most; payload is that of every rank. */
    int prefill_rows;
    hw_step_traffic prefill, decode;
    uint64_t prefill_sent_by_all, decode_sent_by_all; /* bytes that cross, all ranks together */

    /* What rank 0 sends before the first step with HW_WEIGHTS_SCATTER: the others' parts, stored as config.json says. */
    uint64_t scatter_bytes;

    uint64_t memory;       /* of a rank, as given */
    uint64_t cache_tokens; /* positions whose K and V fit beside weights and buffers on every rank */
    bool fits;             /* weights, the cache that was asked for and buffers, on every rank */

    /* Splitting a layer saves reading W (1 - 1/n) of its matrices and costs two all-reduces. Where W (1 -
     * 1/n) / bandwidth is not more than 2 latency, a decode step of one row cannot get faster by it. */
    uint64_t layer_bytes;    /* W: matrices of a layer, whole */
    double break_even_bytes; /* W that it takes; infinite with one rank */
    bool can_pay;
} hw_plan;

/* `o`: settled options with known types (runtime/sizes.h). `d`: a device as the ranks would have it; nothing
 * is allocated on it.
 * Errors: HW_ERR_INVALID when there are more ranks than heads, or no room for a block in o->kv_bytes. What
 * does not fit is no error: see `fits`. */
hw_status hw_plan_create(hw_plan *out, const hw_model *m, const hw_engine_options *o, const hw_device *d,
                         int n_ranks, hw_plan_limits limits, hw_error *err);

/* One rank of the plan. */
hw_rank_memory hw_plan_rank_memory(const hw_plan *plan, const hw_engine_options *o, const hw_model *m,
                                   const hw_shard *shard, const hw_device *d);

/* Bytes of the matrices of one layer of the whole model. */
uint64_t hw_plan_layer_bytes(const hw_model *m, hw_format format);

#ifdef __cplusplus
}
#endif
#endif
