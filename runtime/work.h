/* How much a rank computes and touches, counted from the shapes that the ops are called with. All functions
 * are Local.
 *
 *   flops   2 for each multiply-add of matrix products, scores (q k^T) and values (weights times V); nothing
 *           else is counted. Attention counts causal pairs: a row at position p meets p + 1 keys, or the last of them
 *           where it has a window.
 *   bytes   what an op has to read and write, each byte once per call of the op: a matrix is read once for
 *           all rows of a step, the keys and values of a sequence once for all its rows; nothing is kept from
 *           one call to the next. The least that memory would have to move if caches kept nothing between
 *           ops, so an upper bound where they do. Scores are not stored: 0 bytes.
 *
 * A step that mixes phases is divided between them by rows, as the communication meter does it, and rounded
 * down for decode. */
#ifndef HW_RUNTIME_WORK_H
#define HW_RUNTIME_WORK_H

#include <stddef.h>
#include <stdint.h>

#include "parallel/meter.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum hw_work_site {
    HW_WORK_EMBED, /* rows of the embedding and position tables */
    HW_WORK_QKV,   /* the product with wq, wk, wv; norms of q and k; rotation; writing K and V to the cache */
    HW_WORK_SCORES, /* q k^T: reads K */
    HW_WORK_VALUES, /* weights times V: reads V */
    HW_WORK_WO,
    HW_WORK_MLP,   /* gate, up, activation, down */
    HW_WORK_HEAD,  /* logits of the rows that asked for them */
    HW_WORK_OTHER, /* norms, biases after the all-reduces, residuals, angles */
    HW_N_WORK_SITES
} hw_work_site;

/* Plain. Over all ranks, flops less replicated_flops add up to the flops of one rank. */
typedef struct hw_work {
    uint64_t flops;
    uint64_t replicated_flops; /* part of flops: K and V of heads that a lower rank computes too */
    uint64_t weight_bytes;     /* matrices, biases and norms, as the device keeps them, without its padding */
    uint64_t kv_bytes;         /* cache, read and written */
    uint64_t activation_bytes; /* read and written, logits included */
} hw_work;

/* `ticks` (hw_clock_ticks) are the time from the calls of a site's ops to their returns: all that they take on a
 * device in host memory, and on others only what it takes to start them. Attention is one op, its time is under
 * scores. */
typedef struct hw_work_table {
    hw_work site[HW_N_WORK_SITES][HW_N_PHASES];
    uint64_t ticks[HW_N_WORK_SITES];
} hw_work_table;

const char *hw_work_site_name(hw_work_site site);

/* All sites of a phase together. */
hw_work hw_work_phase(const hw_work_table *t, hw_phase phase);
void hw_work_add(hw_work *sum, hw_work w);
uint64_t hw_work_bytes(hw_work w); /* weights, cache and activations */

/* FLOP per byte; 0 when no bytes were touched. */
double hw_work_intensity(hw_work w);

/* For the forward pass: adds the work of one op call in a step of so many rows of each phase. */
void hw_work_record(hw_work_table *t, hw_work_site site, int prefill_rows, int decode_rows, hw_work w);

#ifdef __cplusplus
}
#endif
#endif
