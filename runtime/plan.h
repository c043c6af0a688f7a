/* Predicts memory and traffic of a model from its sizes, without loading anything, for any number of ranks. All
 * functions are Local and pure. */
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

/* The rows of one step as the engine runs them (hw_batch), and for how many of them a token is sampled. */
typedef struct hw_step_rows {
    int prefill_rows, decode_rows;
    int n_sampled; /* 0: the step is not followed by hw_engine_sample (all chunks of a prompt but the last) */
} hw_step_rows;

/* What the meter of one rank will count, by site (embed, attn, mlp, sample; control and load stay 0) and
 * phase; a step that mixes phases is divided as in the meter. calls and payload are the same for every
 * backend and rank; sent and messages are those of `shm` or `mpi`, according to shard->n_sharing; time stays 0.
 * Everything is 0 with one rank. */
typedef struct hw_step_traffic {
    hw_traffic site[HW_N_SITES][HW_N_PHASES];
    bool sample_is_bound; /* the figures of `sample` are an upper bound: some row uses top-p */
} hw_step_traffic;

/* Adds the traffic of one step to *total, which starts as {0}. Rank and number of ranks are those of `shard`;
 * `act` is the type of the messages (the device's activations, HW_F32 on the CPU). `sampling` says how each
 * of the n_sampled tokens is chosen; NULL is greedy. embed, attn and mlp are exact to the byte, and so is
 * sample, except for top-p without top-k: there the exchange of candidates is widened until it holds enough
 * probability mass, and the bound assumes that every widening is needed. */
void hw_plan_step_traffic(hw_step_traffic *total, const hw_model *m, const hw_shard *shard, hw_dtype act,
                          hw_step_rows rows, const hw_sampling *sampling);

/* One sequence from its prompt to its last token, as hw_generate runs it: the prompt `chunk` tokens at a time
 * (0: at once), then `n_steps` decode steps. Without a cache every step runs the sequence's whole prefix. Assumes
 * that the cache holds no shared prefix. */
typedef struct hw_generation_shape {
    int n_prompt, chunk, n_steps;
    bool cache_off;
} hw_generation_shape;

/* Adds the traffic of all its steps to *total. */
void hw_plan_generation_traffic(hw_step_traffic *total, const hw_model *m, const hw_shard *shard,
                                hw_dtype act, hw_generation_shape shape, const hw_sampling *sampling);

/* FLOPs of all its steps over all ranks, replicated KV heads counted once: a formula that must equal the counters of
 * runtime/work.h. Every layer runs on all rows of a step, the head on the last row of every sampled step. */
uint64_t hw_plan_generation_flops(const hw_model *m, hw_generation_shape shape);

/* The sum of both phases of a site. */
hw_traffic hw_step_traffic_site(const hw_step_traffic *t, hw_site site);

/* ---- a whole plan for one number of ranks */

/* The resources of each rank. */
typedef struct hw_plan_limits {
    uint64_t memory;  /* bytes */
    double bandwidth; /* of reading weights, bytes per second */
    double latency;   /* of one all-reduce of a decode step, seconds */
    int n_sharing;    /* ranks that add in shared memory (hw_traffic_model_sharing); 1: backend mpi */
} hw_plan_limits;

typedef struct hw_plan {
    int n_ranks, n_sharing;
    int n_blocks;               /* of the cache, on every rank */
    hw_rank_memory least, most; /* minimum and maximum over all ranks, per figure */
    int min_heads, max_heads, min_kv_heads, max_kv_heads;
    int replicated_kv_heads; /* copies of KV heads beyond the model's own, over all ranks */
    double imbalance;        /* largest weights of a rank over the mean: 1 is even */

    /* A step of prefill_rows rows of one prompt, and a step of one token for each of max_seqs sequences, greedy or
     * temperature. Of the rank that sends most; payload is the same on every rank. */
    int prefill_rows;
    hw_step_traffic prefill, decode;
    uint64_t prefill_sent_by_all, decode_sent_by_all; /* bytes sent by all ranks */

    /* Sent by rank 0 before the first step with HW_WEIGHTS_SCATTER: the other ranks' shards, in the type that config.json
     * says. */
    uint64_t scatter_bytes;

    uint64_t memory;       /* of a rank, as given */
    uint64_t cache_tokens; /* positions whose K and V fit beside weights and buffers on every rank */
    bool fits;             /* weights, requested cache and buffers fit on every rank */

    /* Splitting a layer saves reading W (1 - 1/n) of its matrices and costs two all-reduces. If W (1 - 1/n) /
     * bandwidth is at most 2 latency, splitting cannot make a decode step of one row faster. */
    uint64_t layer_bytes;    /* W: all matrices of a layer */
    double break_even_bytes; /* the break-even W; infinite with one rank */
    bool can_pay;
} hw_plan;

/* `o`: settled options with known types (runtime/sizes.h). `d`: a device like those of the ranks; nothing is
 * allocated on it. Errors: HW_ERR_INVALID when there are more ranks than heads, or no room for a block in
 * o->kv_bytes. A plan that does not fit is no error: see `fits`. */
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
