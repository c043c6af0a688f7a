/* Counts what crosses between ranks, per site, layer and phase, on every rank. It sits in front of the backends: a collective
 * cannot be made without being counted. All functions are Local. */
#ifndef HW_PARALLEL_METER_H
#define HW_PARALLEL_METER_H

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

/* What every collective call says about itself. Bytes of a step that mixes phases are divided by rows; its call is counted as
 * prefill. With no rows at all (control, load) it is prefill. */
typedef struct hw_tag {
    hw_site site;
    int layer; /* 0 where there is none */
    int prefill_rows, decode_rows;
} hw_tag;

/* payload: the buffer handed to the collective (for an all-gather: all parts together).
 * sent: what this rank sent to other ranks for it, exact for `self` and `mpi`. */
typedef struct hw_traffic {
    uint64_t calls, payload_bytes, sent_bytes;
} hw_traffic;

typedef struct hw_meter hw_meter;

hw_status hw_meter_create(hw_meter **out, hw_error *err); /* HW_ERR_NO_MEMORY */
void hw_meter_destroy(hw_meter *m);                       /* NULL is fine */

/* Makes room for layers 0 .. n_layers - 1; higher ones are counted under the last. HW_ERR_NO_MEMORY. */
hw_status hw_meter_set_layers(hw_meter *m, int n_layers, hw_error *err);
void hw_meter_record(hw_meter *m, hw_tag tag, uint64_t payload_bytes, uint64_t sent_bytes);
void hw_meter_reset(hw_meter *m);

hw_traffic hw_meter_layer(const hw_meter *m, hw_site site, int layer, hw_phase phase);
hw_traffic hw_meter_site(const hw_meter *m, hw_site site, hw_phase phase); /* all layers */
const char *hw_site_name(hw_site site);
const char *hw_phase_name(hw_phase phase);

#ifdef __cplusplus
}
#endif
#endif
