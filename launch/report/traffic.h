/* The traffic between ranks in one generation, gathered from all ranks, and its reports. */
#ifndef HW_LAUNCH_REPORT_TRAFFIC_H
#define HW_LAUNCH_REPORT_TRAFFIC_H

#include <jansson.h>
#include <stdio.h>

#include "parallel/monitoring.h"
#include "runtime/generate.h"

/* One generation's traffic. Plain; hw_traffic_run_free. */
typedef struct hw_traffic_run {
    hw_engine_info info;
    int n_prompt, n_steps; /* prompt tokens, decode steps (with those discarded) */
    double prefill_seconds, decode_seconds;
    hw_traffic *all;            /* [n_ranks, n_layers, HW_N_SITES, HW_N_PHASES] */
    uint64_t *bytes, *messages; /* [n_ranks, n_ranks] from, to: since the meter was reset */
    int *host_of;               /* [n_ranks] */
    int n_hosts;
} hw_traffic_run;

/* Collective. Every rank gets the traffic of all ranks, without this exchange itself. Errors: HW_ERR_NO_MEMORY,
 * HW_ERR_DEVICE. */
hw_status hw_traffic_gather(hw_traffic_run *out, hw_engine *e, const hw_generate_result *r, hw_error *err);
void hw_traffic_run_free(hw_traffic_run *t);

/* All layers of a site and phase: of one rank, or the sum over ranks (HW_ALL_RANKS; calls and payload are
 * then one rank's, which are equal on all, and time is the longest). */
hw_traffic hw_traffic_of(const hw_traffic_run *t, int rank, hw_site site, hw_phase phase);

/* Rows run through the layers in a phase, computed as the payload of site embed over the bytes of a row. */
uint64_t hw_traffic_rows(const hw_traffic_run *t, hw_phase phase);

/* Local. Compares this rank's meter with the planned traffic of the generation: calls, payload, sent bytes and messages
 * of embed, attn, mlp and sample. HW_OK if equal (with top-p: at most), else HW_ERR_FAILED naming site, phase and both
 * numbers. */
hw_status hw_traffic_check(hw_engine *e, const hw_generate_result *r, const hw_sampling *sampling,
                           int prefill_chunk, hw_error *err);

/* Rank 0 only, Local. */
hw_status hw_traffic_print(const hw_traffic_run *t, bool layers, hw_error *err);
hw_status hw_traffic_print_pairs(const hw_pair *pairs, int n_ranks, hw_error *err);
hw_status hw_traffic_write_csv(const hw_traffic_run *runs, int n, hw_error *err);
json_t *hw_traffic_json(const hw_traffic_run *t);
json_t *hw_traffic_pairs_json(const hw_pair *pairs, int n_ranks);

#endif
