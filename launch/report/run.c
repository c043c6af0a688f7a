#include "launch/report/run.h"

#include <stdlib.h>

#include "launch/report/output.h"
#include "runtime/device/host_memory.h"

uint64_t hw_predicted_payload(const hw_engine_info *info, hw_site site)
{
    uint64_t row = (uint64_t)info->dim * hw_dtype_size(info->comm_dtype);
    if (info->n_ranks == 1) return 0;
    switch (site) {
    case HW_SITE_EMBED: return row;
    case HW_SITE_ATTN:
    case HW_SITE_MLP: return row * (uint64_t)info->n_layers;
    default: return 0;
    }
}

static double per_second(int n, double seconds) { return seconds > 0 ? n / seconds : 0; }

static void report_work(FILE *f, const char *phase, hw_work w, double seconds)
{
    char text[4][16];
    double rate = seconds > 0 ? 1 / seconds : 0;
    fprintf(f, "work of rank 0, %-7s %sFLOP, %s touched: %.1f FLOP per byte, %sFLOP/s, %s/s\n", phase,
            hw_format_count(text[0], (double)w.flops), hw_format_bytes(text[1], (double)hw_work_bytes(w)),
            hw_work_intensity(w), hw_format_count(text[2], (double)w.flops * rate),
            hw_format_bytes(text[3], (double)hw_work_bytes(w) * rate));
}

/* What the cache held at the end. With the cache off its blocks are scratch, and no byte of them was read by
 * a later step. */
static void print_cache(FILE *f, const hw_generate_result *r)
{
    const hw_kv_usage u = r->kv;
    char text[3][16];
    fprintf(f, "KV cache %-13s %s of %s reserved", hw_kv_policy_name(u.policy),
            hw_format_bytes(text[0], (double)u.reserved_bytes),
            hw_format_bytes(text[1], (double)u.capacity_bytes));
    if (u.policy == HW_KV_OFF) {
        fprintf(f, " as scratch, rewritten by every step\n");
        return;
    }
    fprintf(f, ": %s used (%llu B per token), %s wasted", hw_format_bytes(text[0], (double)u.used_bytes),
            (unsigned long long)u.bytes_per_token, hw_format_bytes(text[1], (double)u.wasted_bytes));
    if (r->n_cached) fprintf(f, "; %d prompt tokens found", r->n_cached);
    if (u.copied_bytes) fprintf(f, "; %s copied", hw_format_bytes(text[2], (double)u.copied_bytes));
    fprintf(f, "\n");
}

void hw_report_table(FILE *f, hw_engine *e, const hw_generate_result *r)
{
    const hw_engine_info info = hw_engine_info_get(e);
    const hw_meter *meter = hw_comm_meter(hw_engine_comm(e));
    const int n_run = r->n_steps + r->n_discarded_steps; /* which is what was counted */
    uint64_t payload = 0, sent = 0, predicted = 0;
    char text[2][16];
    for (int site = 0; site < HW_N_SITES; site++) {
        if (!hw_site_is_predicted((hw_site)site)) continue;
        hw_traffic t = hw_meter_site(meter, (hw_site)site, HW_DECODE);
        payload += t.payload_bytes;
        sent += t.sent_bytes;
        if (site != HW_SITE_SAMPLE) predicted += hw_predicted_payload(&info, (hw_site)site);
    }
    fprintf(f, "\n%-22s %10s %12s %12s\n", "", "tokens", "tokens/s", "ms per token");
    fprintf(f, "%-22s %10d %12.1f %12.2f\n", "prefill", r->n_prompt,
            per_second(r->n_prompt, r->prefill_seconds), 1e3 * r->prefill_seconds / r->n_prompt);
    if (r->n_steps)
        fprintf(f, "%-22s %10d %12.1f %12.2f\n", "decode", r->n_steps,
                per_second(r->n_steps, r->decode_seconds), 1e3 * r->decode_seconds / r->n_steps);
    if (r->n_steps && info.n_ranks > 1) {
        hw_traffic sample = hw_meter_site(meter, HW_SITE_SAMPLE, HW_DECODE);
        uint64_t reduced = payload - sample.payload_bytes;
        fprintf(f,
                "payload per token      %.0f B between %d ranks: activations %.0f B (theory: %llu B), "
                "sampling %.0f B\n",
                (double)payload / n_run, info.n_ranks, (double)reduced / n_run, (unsigned long long)predicted,
                (double)sample.payload_bytes / n_run);
        fprintf(f, "sent by rank 0         %s in all decode steps%s\n",
                hw_format_bytes(text[0], (double)sent),
                info.sent_is_estimate ? " (estimate: as a ring would)" : "");
    }
    /* The meter stands before every message; no site carries keys or values, so what it holds is all that
     * crossed. */
    fprintf(f, "K and V that crossed   0 B (%s of cache stay on each rank)\n",
            hw_format_bytes(text[0], (double)info.kv_bytes));
    report_work(f, "prefill", hw_work_phase(hw_engine_work(e), HW_PREFILL), r->prefill_seconds);
    if (r->n_steps) report_work(f, "decode", hw_work_phase(hw_engine_work(e), HW_DECODE), r->decode_seconds);
    print_cache(f, r);
    fprintf(f, "device                 %s; collectives %s\n", info.device, info.comm);
    if (info.n_graph_steps)
        fprintf(f, "graphs                 %llu of %d decode steps\n", (unsigned long long)info.n_graph_steps,
                n_run);
    if (info.no_graphs) fprintf(f, "graphs                 none: %s\n", info.no_graphs);
    if (info.n_device_loop_steps)
        fprintf(f, "fed back on the device %llu tokens; %d step%s discarded\n",
                (unsigned long long)info.n_device_loop_steps, r->n_discarded_steps,
                r->n_discarded_steps == 1 ? "" : "s");
    fprintf(f, "rank 0                 weights %s, peak resident %s\n",
            hw_format_bytes(text[0], (double)info.weight_bytes),
            hw_format_bytes(text[1], (double)hw_memory_peak()));
}

json_t *hw_report_traffic_json(hw_engine *e)
{
    const hw_meter *meter = hw_comm_meter(hw_engine_comm(e));
    json_t *sites = json_object();
    for (int site = 0; site < HW_N_SITES; site++) {
        json_t *phases = json_object();
        for (int phase = 0; phase < HW_N_PHASES; phase++) {
            hw_traffic t = hw_meter_site(meter, (hw_site)site, (hw_phase)phase);
            json_object_set_new(phases, hw_phase_name((hw_phase)phase),
                                json_pack("{s:I, s:I, s:I}", "calls", (json_int_t)t.calls, "payload_bytes",
                                          (json_int_t)t.payload_bytes, "sent_bytes",
                                          (json_int_t)t.sent_bytes));
        }
        json_object_set_new(sites, hw_site_name((hw_site)site), phases);
    }
    return sites;
}

json_t *hw_report_work_json(const hw_engine *e)
{
    const hw_work_table *table = hw_engine_work(e);
    json_t *sites = json_object(), *report = json_object();
    for (int site = 0; site < HW_N_WORK_SITES; site++) {
        json_t *phases = json_object();
        for (int phase = 0; phase < HW_N_PHASES; phase++) {
            const hw_work w = table->site[site][phase];
            json_object_set_new(phases, hw_phase_name((hw_phase)phase),
                                json_pack("{s:I, s:I, s:I, s:I, s:I}", "flops", (json_int_t)w.flops,
                                          "replicated_flops", (json_int_t)w.replicated_flops, "weight_bytes",
                                          (json_int_t)w.weight_bytes, "kv_bytes", (json_int_t)w.kv_bytes,
                                          "activation_bytes", (json_int_t)w.activation_bytes));
        }
        json_object_set_new(sites, hw_work_site_name((hw_work_site)site), phases);
    }
    json_object_set_new(report, "rank", json_integer(hw_engine_info_get(e).rank));
    json_object_set_new(report, "sites", sites);
    for (int phase = 0; phase < HW_N_PHASES; phase++) {
        const hw_work w = hw_work_phase(table, (hw_phase)phase);
        json_object_set_new(report, hw_phase_name((hw_phase)phase),
                            json_pack("{s:I, s:I, s:f}", "flops", (json_int_t)w.flops, "bytes",
                                      (json_int_t)hw_work_bytes(w), "flops_per_byte", hw_work_intensity(w)));
    }
    return report;
}

json_t *hw_report_kv_json(const hw_generate_result *r)
{
    const hw_kv_usage u = r->kv;
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:i, s:i, s:i}", "policy",
                     hw_kv_policy_name(u.policy), "bytes_per_token", (json_int_t)u.bytes_per_token,
                     "capacity_bytes", (json_int_t)u.capacity_bytes, "reserved_bytes",
                     (json_int_t)u.reserved_bytes, "used_bytes", (json_int_t)u.used_bytes, "wasted_bytes",
                     (json_int_t)u.wasted_bytes, "shared_bytes", (json_int_t)u.shared_bytes, "peak_bytes",
                     (json_int_t)u.peak_bytes, "copied_bytes", (json_int_t)u.copied_bytes, "block_tokens",
                     u.block_tokens, "blocks", u.n_blocks, "free_blocks", u.n_free, "cached_blocks",
                     u.n_cached, "found_tokens", r->n_cached);
}

json_t *hw_report_timing_json(const hw_generate_result *r)
{
    return json_pack("{s:f, s:f, s:f, s:f}", "prefill_seconds", r->prefill_seconds, "decode_seconds",
                     r->decode_seconds, "prefill_tokens_per_second",
                     per_second(r->n_prompt, r->prefill_seconds), "decode_tokens_per_second",
                     per_second(r->n_steps, r->decode_seconds));
}

hw_status hw_report_load_json(hw_engine *e, json_t **out, hw_error *err)
{
    const hw_engine_info info = hw_engine_info_get(e);
    const uint64_t mine[2] = {info.bytes_read, info.weight_bytes};
    uint64_t(*all)[2] = calloc((size_t)info.n_ranks, sizeof *all);
    json_t *read = json_array(), *weights = json_array();
    hw_status st = hw_comm_agree(hw_engine_comm(e), all && read && weights ? HW_OK : HW_ERR_NO_MEMORY, err);
    if (!st)
        st = hw_comm_all_gather(hw_engine_comm(e), (hw_tag){.site = HW_SITE_LOAD}, mine, sizeof mine, all,
                                err);
    for (int r = 0; r < info.n_ranks && !st; r++) {
        json_array_append_new(read, json_integer((json_int_t)all[r][0]));
        json_array_append_new(weights, json_integer((json_int_t)all[r][1]));
    }
    free(all);
    *out = json_pack("{s:I, s:o, s:I, s:o, s:f}", "checkpoint_bytes", (json_int_t)info.checkpoint_bytes,
                     "bytes_read", read, "bytes_sent", (json_int_t)info.scattered_bytes, "weight_bytes",
                     weights, "seconds", info.load_seconds);
    if (!st && !*out) st = HW_ERR_NO_MEMORY;
    return st == HW_ERR_NO_MEMORY ? hw_fail(err, st, "no memory for a report over %d ranks", info.n_ranks)
                                  : st;
}
