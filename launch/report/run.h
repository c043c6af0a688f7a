/* Reports speed and traffic of a run. Functions are Local unless marked. */
#ifndef HW_LAUNCH_REPORT_RUN_H
#define HW_LAUNCH_REPORT_RUN_H

#include <jansson.h>
#include <stdio.h>

#include "runtime/generate.h"

/* The predicted payload of one decode row at a site: dim float32 per all-reduce, for one embedding, n_layers attentions
 * and as many MLPs; 0 with one rank. */
uint64_t hw_predicted_payload(const hw_engine_info *info, hw_site site);

/* The short table after a generation. */
void hw_report_table(FILE *f, hw_engine *e, const hw_generate_result *r);

/* {"rank":..,"site":{"prefill":{calls, payload_bytes, sent_bytes}, "decode":..}} of this rank; NULL is "no
 * memory". */
json_t *hw_report_traffic_json(hw_engine *e);

/* Work of this rank (runtime/work.h): {"rank":.., "sites":{"qkv":{"prefill":{flops, replicated_flops,
 * weight_bytes, kv_bytes, activation_bytes}, "decode":..}}, "prefill":{flops, bytes, flops_per_byte},
 * "decode":..}; NULL is "no memory". */
json_t *hw_report_work_json(const hw_engine *e);
/* The cache after the last token. */
json_t *hw_report_kv_json(const hw_generate_result *r);
json_t *hw_report_timing_json(const hw_generate_result *r);

/* Collective. Loading, over all ranks: {checkpoint_bytes, bytes_read: [per rank], weight_bytes: [per rank], seconds}. On
 * HW_OK the caller owns *out. */
hw_status hw_report_load_json(hw_engine *e, json_t **out, hw_error *err);

#endif
