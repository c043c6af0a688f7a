/* Counts the traffic between ranks, per site, layer and phase, on every rank. It sits in front of the
 * backends, so no collective goes uncounted. All functions are Local. */
#ifndef HW_PARALLEL_METER_H
#define HW_PARALLEL_METER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where in the model a collective is called. */
typedef enum hw_site {
    HW_SITE_EMBED,   /* rows of the embedding table, split by vocabulary */
    HW_SITE_ATTN,    /* after wo */
    HW_SITE_MLP,     /* after w_down */
    HW_SITE_SAMPLE,  /* candidates for the next token */
    HW_SITE_CONTROL, /* agreeing on errors, requests, reports */
    HW_SITE_LOAD,    /* set-up before the first step */
    HW_N_SITES
} hw_site;

typedef enum hw_phase { HW_PREFILL, HW_DECODE, HW_N_PHASES } hw_phase;

/* Passed to every collective call. Bytes, messages and time of a step that mixes phases are divided in proportion to
 * rows; the call itself is counted as prefill, and so is a call without rows (control, load). */
typedef struct hw_tag {
    hw_site site;
    int layer; /* 0 if the site has no layer */
    int prefill_rows, decode_rows;
} hw_tag;

/* "Bytes communicated" can mean three numbers:
 *   payload  the buffer handed to the collective (for an all-gather: all parts together); the same for any
 *            algorithm
 *   sent     what this rank sent to other ranks for it, in `messages` messages; exact for `self`, `shm` and
 *            `mpi`. In shared memory: the bytes that other ranks read of what this rank wrote, counted by the
 *            writer, once per reader
 *   ideal    the least that a rank must send on average: all-reduce 2 (n - 1) / n, all-gather (n - 1) / n of
 *            the payload; a broadcast (n - 1) / n (every rank but one receives it once)
 * A message between two ranks counts on the sender, with payload equal to sent.
 * time: from call to return on this rank, including waiting for the others. */
typedef struct hw_traffic {
    uint64_t calls, messages;
    uint64_t payload_bytes, sent_bytes;
    double ideal_bytes;
    uint64_t time_ns;
} hw_traffic;

typedef struct hw_meter hw_meter;

hw_status hw_meter_create(hw_meter **out, int n_ranks, hw_error *err); /* HW_ERR_NO_MEMORY */
void hw_meter_destroy(hw_meter *m);                                    /* NULL is fine */

/* Allocates counters for layers 0 .. n_layers - 1; higher layers are counted under the last. HW_ERR_NO_MEMORY. */
hw_status hw_meter_set_layers(hw_meter *m, int n_layers, hw_error *err);

/* Records one collective: `what` with calls = 1. Its time is passed as ticks (hw_clock_ticks), which are cheaper than
 * reading the clock, and converted to nanoseconds when it is read; what.time_ns is ignored. */
void hw_meter_record(hw_meter *m, hw_tag tag, hw_traffic what, uint64_t ticks);

/* Records one message of n_bytes to a rank. Backends call it as they send. NULL: not counted. */
void hw_meter_send(hw_meter *m, int to, size_t n_bytes);

/* Resets the counts per site. The totals sent to each rank and the ring are kept, since they are compared with
 * counters that are never reset. */
void hw_meter_reset(hw_meter *m);

hw_traffic hw_meter_layer(const hw_meter *m, hw_site site, int layer, hw_phase phase);
hw_traffic hw_meter_site(const hw_meter *m, hw_site site, hw_phase phase); /* all layers */
void hw_traffic_add(hw_traffic *sum, hw_traffic t);

/* Total that this rank has sent to rank `to`, or to all others (HW_ALL_RANKS). */
enum { HW_ALL_RANKS = -1 };
uint64_t hw_meter_sent_bytes(const hw_meter *m, int to);
uint64_t hw_meter_sent_messages(const hw_meter *m, int to);

/* The same since the last hw_meter_reset. */
uint64_t hw_meter_recent_bytes(const hw_meter *m, int to);
uint64_t hw_meter_recent_messages(const hw_meter *m, int to);

/* ---- the last collectives in order, to see where ranks diverged */

enum { HW_METER_RING = 4096 };

typedef struct hw_ring_entry {
    uint64_t number; /* of this collective, from 0 */
    uint64_t payload_bytes;
    uint16_t site, phase;
    int32_t layer;
} hw_ring_entry;

/* Number of collectives so far, and the `back`-th last of them (0: the last). False when the ring no longer has
 * it. */
uint64_t hw_meter_n_calls(const hw_meter *m);
int hw_meter_last(const hw_meter *m, uint64_t back, hw_ring_entry *out);

/* Whether `headway plan` predicts the traffic of a site, and the traffic report shows it. */
bool hw_site_is_predicted(hw_site site);

const char *hw_site_name(hw_site site);
const char *hw_phase_name(hw_phase phase);

#ifdef __cplusplus
}
#endif
#endif
