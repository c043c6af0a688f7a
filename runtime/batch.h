/* The internals of sequences and batches (engine.h), for the files that make up a step. All functions are Local. */
#ifndef HW_RUNTIME_BATCH_H
#define HW_RUNTIME_BATCH_H

#include "runtime/engine.h"
#include "runtime/kv/cache.h"

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
    uint64_t step;                      /* number, from 1, of the step that ran it; 0: not run */
};

/* Call after the batch has run: marks its keys and values as computed, and publishes the full blocks of its
 * sequences. */
void hw_batch_done(hw_batch *b);

/* HW_OK if the logits in the buffers belong to this batch. Errors: HW_ERR_INVALID. */
hw_status hw_batch_check_logits(const hw_batch *b, hw_error *err);

/* The meter's tag for a collective of this step. */
static inline hw_tag hw_batch_tag(const hw_batch *b, hw_site site, int layer)
{
    return (hw_tag){
        .site = site, .layer = layer, .prefill_rows = b->n_prefill_rows, .decode_rows = b->n_decode_rows};
}

#endif
