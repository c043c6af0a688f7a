/* FLOPs and bytes touched by a rank, counted from the shapes passed to the ops. All functions are Local.
 *
 *   flops   2 for each multiply-add of matrix products, scores (q k^T) and values (weights times V); nothing
 *           else is counted. Attention counts causal pairs: a row at position p attends to p + 1 keys, or to the
 *           last of them if it has a window.
 *   bytes   what an op must read and write, each byte once per call of the op: a matrix is read once for
 *           all rows of a step, the keys and values of a sequence once for all its rows. This is the minimum
 *           memory traffic if processor caches keep nothing between ops, so an upper bound if they do. Scores
 *           are not stored: 0 bytes.
 *
 * A step that mixes phases is divided between them in proportion to rows, as in the communication meter, and
 * rounded down for decode. */
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
    HW_WORK_HEAD,  /* logits of the rows that need them */
    HW_WORK_OTHER, /* norms, biases after the all-reduces, residuals, angles */
    HW_N_WORK_SITES
} hw_work_site;

/* Plain. Summed over all ranks, flops - replicated_flops equals the flops of a run on one rank. */
typedef struct hw_work {
    uint64_t flops;
    uint64_t replicated_flops; /* part of flops: K and V of heads that a lower rank computes too */
    uint64_t weight_bytes;     /* matrices, biases and norms, as the device keeps them, without its padding */
    uint64_t kv_bytes;         /* cache, read and written */
    uint64_t activation_bytes; /* read and written, logits included */
} hw_work;

/* `ticks` (hw_clock_ticks) are the time from call to return of a site's ops: their run time on a device in host
 * memory, and on others only the time to launch them. Attention is one op; its time is under scores. */
typedef struct hw_work_table {
    hw_work site[HW_N_WORK_SITES][HW_N_PHASES];
    uint64_t ticks[HW_N_WORK_SITES];
} hw_work_table;

const char *hw_work_site_name(hw_work_site site);

/* The sum over all sites of a phase. */
hw_work hw_work_phase(const hw_work_table *t, hw_phase phase);
void hw_work_add(hw_work *sum, hw_work w);
uint64_t hw_work_bytes(hw_work w); /* weights, cache and activations */

/* FLOP per byte; 0 when no bytes were touched. */
double hw_work_intensity(hw_work w);

/* For the forward pass: adds the work of one op call in a step with these rows of each phase. */
void hw_work_record(hw_work_table *t, hw_work_site site, int prefill_rows, int decode_rows, hw_work w);

#ifdef __cplusplus
}
#endif
#endif
