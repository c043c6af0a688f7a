#include "launch/report/traffic.h"

#include <stdlib.h>
#include <string.h>

#include "launch/report/output.h"
#include "runtime/plan.h"

static size_t per_rank(const hw_traffic_run *t)
{
    return (size_t)t->info.n_layers * HW_N_SITES * HW_N_PHASES;
}

static hw_traffic *cell(const hw_traffic_run *t, int rank, int layer, int site, int phase)
{
    return &t->all[(size_t)rank * per_rank(t) +
                   (((size_t)layer * HW_N_SITES + (size_t)site) * HW_N_PHASES + (size_t)phase)];
}

/* ---- gathering */

static hw_status make_room(hw_traffic_run *t, hw_error *err)
{
    size_t n = (size_t)t->info.n_ranks;
    t->all = calloc((n + 1) * per_rank(t), sizeof *t->all); /* one more: this rank's own, to send */
    t->bytes = calloc(n * n + n, sizeof *t->bytes);
    t->messages = calloc(n * n + n, sizeof *t->messages);
    t->host_of = calloc(n, sizeof *t->host_of);
    if (t->all && t->bytes && t->messages && t->host_of) return HW_OK;
    return hw_fail(err, HW_ERR_NO_MEMORY, "traffic: no memory for %zu ranks and %d layers", n,
                   t->info.n_layers);
}

hw_status hw_traffic_gather(hw_traffic_run *out, hw_engine *e, const hw_generate_result *r, hw_error *err)
{
    hw_comm *comm = hw_engine_comm(e);
    const hw_meter *meter = hw_comm_meter(comm);
    const hw_tag tag = {.site = HW_SITE_CONTROL};
    hw_traffic_run t = {.info = hw_engine_info_get(e),
                        .n_prompt = r->n_prompt,
                        .n_steps = r->n_steps + r->n_discarded_steps,
                        .prefill_seconds = r->prefill_seconds,
                        .decode_seconds = r->decode_seconds};
    int n = t.info.n_ranks;
    *out = (hw_traffic_run){.n_prompt = 0};
    hw_status st = make_room(&t, err);
    for (int to = 0; to < n && !st; to++) {
        t.bytes[n * n + to] = hw_meter_recent_bytes(meter, to);
        t.messages[n * n + to] = hw_meter_recent_messages(meter, to);
        t.host_of[to] = hw_comm_host_of(comm, to);
        t.n_hosts += t.host_of[to] == to;
    }
    for (int layer = 0; layer < t.info.n_layers && !st; layer++)
        for (int site = 0; site < HW_N_SITES; site++)
            for (int phase = 0; phase < HW_N_PHASES; phase++)
                *cell(&t, n, layer, site, phase) =
                    hw_meter_layer(meter, (hw_site)site, layer, (hw_phase)phase);
    st = hw_comm_agree(comm, st, err);
    size_t row = (size_t)n * sizeof *t.bytes;
    if (!st)
        st = hw_comm_all_gather(comm, tag, cell(&t, n, 0, 0, 0), per_rank(&t) * sizeof *t.all, t.all, err);
    if (!st) st = hw_comm_all_gather(comm, tag, t.bytes + n * n, row, t.bytes, err);
    if (!st) st = hw_comm_all_gather(comm, tag, t.messages + n * n, row, t.messages, err);
    if (st) hw_traffic_run_free(&t);
    else *out = t;
    return st;
}

void hw_traffic_run_free(hw_traffic_run *t)
{
    free(t->all);
    free(t->bytes);
    free(t->messages);
    free(t->host_of);
    *t = (hw_traffic_run){.n_prompt = 0};
}

hw_traffic hw_traffic_of(const hw_traffic_run *t, int rank, hw_site site, hw_phase phase)
{
    hw_traffic sum = {0};
    if (rank != HW_ALL_RANKS) {
        for (int layer = 0; layer < t->info.n_layers; layer++)
            hw_traffic_add(&sum, *cell(t, rank, layer, site, phase));
        return sum;
    }
    hw_traffic first = hw_traffic_of(t, 0, site, phase);
    uint64_t longest = 0;
    for (int r = 0; r < t->info.n_ranks; r++) {
        hw_traffic one = hw_traffic_of(t, r, site, phase);
        if (one.time_ns > longest) longest = one.time_ns;
        hw_traffic_add(&sum, one);
    }
    sum.calls = first.calls;
    sum.payload_bytes = first.payload_bytes;
    sum.time_ns = longest;
    return sum;
}

uint64_t hw_traffic_rows(const hw_traffic_run *t, hw_phase phase)
{
    return hw_traffic_of(t, 0, HW_SITE_EMBED, phase).payload_bytes /
           ((uint64_t)t->info.dim * hw_dtype_size(t->info.comm_dtype));
}

/* ---- against theory */

/* Estimated bytes and messages are not compared. */
static hw_status check_site(hw_traffic counted, hw_traffic planned, hw_site site, hw_phase phase, bool bound,
                            bool estimate, hw_error *err)
{
    const struct {
        const char *what;
        uint64_t counted, planned;
    } pairs[] = {{"calls", counted.calls, planned.calls},
                 {"bytes of payload", counted.payload_bytes, planned.payload_bytes},
                 {"bytes sent", counted.sent_bytes, planned.sent_bytes},
                 {"messages", counted.messages, planned.messages}};
    for (size_t i = 0; i < (estimate ? 2 : sizeof pairs / sizeof *pairs); i++)
        if (bound ? pairs[i].counted > pairs[i].planned : pairs[i].counted != pairs[i].planned)
            return hw_fail(err, HW_ERR_FAILED,
                           "traffic differs from the plan: %s, %s: %llu %s, planned %s%llu",
                           hw_site_name(site), hw_phase_name(phase), (unsigned long long)pairs[i].counted,
                           pairs[i].what, bound ? "at most " : "", (unsigned long long)pairs[i].planned);
    return HW_OK;
}

hw_status hw_traffic_check(hw_engine *e, const hw_generate_result *r, const hw_sampling *sampling,
                           int prefill_chunk, hw_error *err)
{
    const hw_engine_info info = hw_engine_info_get(e);
    const hw_meter *meter = hw_comm_meter(hw_engine_comm(e));
    hw_generation_shape shape = {
        .n_prompt = r->n_prompt,
        .chunk = prefill_chunk && prefill_chunk < info.max_batch_rows ? prefill_chunk : info.max_batch_rows,
        .n_steps = r->n_steps + r->n_discarded_steps,
        .cache_off = info.kv_policy == HW_KV_OFF};
    hw_step_traffic plan = {0};
    hw_status st = HW_OK;
    hw_plan_generation_traffic(&plan, hw_engine_model(e), hw_engine_shard(e), info.comm_dtype, shape,
                               sampling);
    for (int site = 0; site < HW_N_SITES; site++)
        for (int phase = 0; phase < HW_N_PHASES && !st && hw_site_is_predicted((hw_site)site); phase++)
            st = check_site(hw_meter_site(meter, (hw_site)site, (hw_phase)phase), plan.site[site][phase],
                            (hw_site)site, (hw_phase)phase, site == HW_SITE_SAMPLE && plan.sample_is_bound,
                            info.sent_is_estimate, err);
    return st;
}

/* ---- printing */

static hw_status print_row(const char *name, hw_traffic t, double per, hw_error *err)
{
    char cells[4][16];
    return hw_print(err, "  %-9s %9llu %11s %13.1f %9llu %11s %11s %10.2f\n", name,
                    (unsigned long long)t.calls, hw_format_bytes(cells[0], (double)t.payload_bytes),
                    per > 0 ? (double)t.payload_bytes / per : 0.0, (unsigned long long)t.messages,
                    hw_format_bytes(cells[1], (double)t.sent_bytes), hw_format_bytes(cells[2], t.ideal_bytes),
                    (double)t.time_ns * 1e-6);
}

static hw_status print_phase(const hw_traffic_run *t, hw_phase phase, bool layers, hw_error *err)
{
    uint64_t rows = hw_traffic_rows(t, phase);
    double per = phase == HW_PREFILL ? (double)t->n_prompt : (double)t->n_steps;
    hw_traffic total = {0};
    hw_status st =
        hw_print(err, "\n%s: %.0f %s, %llu rows through the layers, %.3f s\n", hw_phase_name(phase), per,
                 phase == HW_PREFILL ? "prompt tokens" : "new tokens", (unsigned long long)rows,
                 phase == HW_PREFILL ? t->prefill_seconds : t->decode_seconds);
    if (!st)
        st = hw_print(err, "  %-9s %9s %11s %13s %9s %11s %11s %10s\n", "site", "calls", "payload",
                      "B per token", "messages", "sent", "ideal", "ms");
    for (int site = 0; site < HW_N_SITES && !st; site++) {
        if (!hw_site_is_predicted((hw_site)site)) continue;
        hw_traffic sum = hw_traffic_of(t, HW_ALL_RANKS, (hw_site)site, phase);
        hw_traffic_add(&total, sum);
        st = print_row(hw_site_name((hw_site)site), sum, per, err);
        for (int layer = 0;
             layer < t->info.n_layers && layers && !st && (site == HW_SITE_ATTN || site == HW_SITE_MLP);
             layer++) {
            char name[24];
            hw_traffic one = *cell(t, 0, layer, site, phase);
            for (int r = 1; r < t->info.n_ranks; r++) {
                hw_traffic other = *cell(t, r, layer, site, phase);
                one.messages += other.messages, one.sent_bytes += other.sent_bytes,
                    one.ideal_bytes += other.ideal_bytes;
                if (other.time_ns > one.time_ns) one.time_ns = other.time_ns;
            }
            snprintf(name, sizeof name, " layer %d", layer);
            st = print_row(name, one, per, err);
        }
    }
    return st ? st : print_row("total", total, per, err);
}

static void sum_hosts(const hw_traffic_run *t, uint64_t bytes[2], uint64_t messages[2])
{
    int n = t->info.n_ranks;
    for (int i = 0; i < n * n; i++) {
        int between = t->host_of[i / n] != t->host_of[i % n];
        bytes[between] += t->bytes[i];
        messages[between] += t->messages[i];
    }
}

static double kv_bytes_per_token(const hw_engine_info *i)
{
    return 2.0 * i->n_layers * i->n_kv_heads * i->head_dim * (double)hw_dtype_size(i->kv_dtype);
}

hw_status hw_traffic_print(const hw_traffic_run *t, bool layers, hw_error *err)
{
    const hw_engine_info *i = &t->info;
    uint64_t bytes[2] = {0}, messages[2] = {0};
    char cells[2][16];
    hw_traffic outside = {0};
    for (int phase = 0; phase < HW_N_PHASES; phase++)
        for (int site = HW_SITE_CONTROL; site <= HW_SITE_LOAD; site++)
            hw_traffic_add(&outside, hw_traffic_of(t, HW_ALL_RANKS, (hw_site)site, (hw_phase)phase));
    sum_hosts(t, bytes, messages);
    hw_status st = hw_print(
        err,
        "%s: %d layers, width %d, %d heads, %d KV heads; %d ranks on %d host%s, backend %s, KV cache %s\n",
        i->architecture, i->n_layers, i->dim, i->n_heads, i->n_kv_heads, i->n_ranks, t->n_hosts,
        t->n_hosts > 1 ? "s" : "", i->comm, hw_kv_policy_name(i->kv_policy));
    if (!st)
        st = hw_print(err, "calls and payload: of one rank, equal on all. messages, sent, ideal: of all "
                           "ranks. ms: the slowest rank, waiting "
                           "included.\n");
    if (!st && i->sent_is_estimate)
        st = hw_print(
            err,
            "sent of embed, attn and mlp: an estimate, that of a ring; %s chooses its own algorithms "
            "and messages, and runs asynchronously (ms: until the call was enqueued).\n",
            i->comm);
    if (!st) st = print_phase(t, HW_PREFILL, layers, err);
    if (!st) st = print_phase(t, HW_DECODE, layers, err);
    if (!st)
        st = hw_print(err, "\nset-up and control      %s in %llu messages, outside of every step\n",
                      hw_format_bytes(cells[0], (double)outside.sent_bytes),
                      (unsigned long long)outside.messages);
    if (!st && i->scattered_bytes)
        st =
            hw_print(err, "weights                 %llu B from rank 0 to the others, before the first step\n",
                     (unsigned long long)i->scattered_bytes);
    if (!st)
        st = hw_print(
            err, "within hosts            %s in %llu messages\nbetween hosts           %s in %llu messages\n",
            hw_format_bytes(cells[0], (double)bytes[0]), (unsigned long long)messages[0],
            hw_format_bytes(cells[1], (double)bytes[1]), (unsigned long long)messages[1]);
    if (!st)
        st = hw_print(err,
                      "K and V                 0 B crossed; a new token's %.0f B of them stay on the ranks "
                      "that made them\n",
                      kv_bytes_per_token(i));
    return st ? st
              : hw_print(err, "theory                  calls%s of every site are as planned\n",
                         i->sent_is_estimate ? " and payload" : ", payload, sent bytes and messages");
}

hw_status hw_traffic_print_pairs(const hw_pair *pairs, int n_ranks, hw_error *err)
{
    uint64_t metered = 0, counted = 0, messages = 0, internal = 0;
    hw_status st = HW_OK;
    for (int i = 0; i < n_ranks * n_ranks && !st; i++) {
        const hw_pair *p = &pairs[i];
        metered += p->metered_bytes;
        counted += p->counted_bytes;
        messages += p->counted_messages;
        internal += p->internal_bytes;
        if (p->metered_bytes == p->counted_bytes && p->metered_messages == p->counted_messages) continue;
        st = hw_print(err,
                      "  rank %d to %d: metered %llu B in %llu messages, Open MPI counted %llu B in %llu\n",
                      i / n_ranks, i % n_ranks, (unsigned long long)p->metered_bytes,
                      (unsigned long long)p->metered_messages, (unsigned long long)p->counted_bytes,
                      (unsigned long long)p->counted_messages);
    }
    if (st) return st;
    return hw_print(err,
                    "verified                Open MPI counted %llu B in %llu messages between %d pairs of "
                    "ranks, the meter %llu B: difference "
                    "%lld B\nMPI's own collectives   %llu B at the start and end of the program\n",
                    (unsigned long long)counted, (unsigned long long)messages, n_ranks * (n_ranks - 1),
                    (unsigned long long)metered, (long long)(counted - metered),
                    (unsigned long long)internal);
}

hw_status hw_traffic_write_csv(const hw_traffic_run *runs, int n, hw_error *err)
{
    hw_status st = hw_print(
        err, "kv_cache,rank,site,layer,phase,calls,messages,payload_bytes,sent_bytes,ideal_bytes,time_ns\n");
    for (int i = 0; i < n; i++)
        for (int r = 0; r < runs[i].info.n_ranks; r++)
            for (int layer = 0; layer < runs[i].info.n_layers; layer++)
                for (int site = 0; site < HW_N_SITES; site++)
                    for (int phase = 0; phase < HW_N_PHASES && !st; phase++) {
                        hw_traffic t = *cell(&runs[i], r, layer, site, phase);
                        if (!t.calls && !t.payload_bytes) continue;
                        st = hw_print(err, "%s,%d,%s,%d,%s,%llu,%llu,%llu,%llu,%.1f,%llu\n",
                                      hw_kv_policy_name(runs[i].info.kv_policy), r,
                                      hw_site_name((hw_site)site), layer, hw_phase_name((hw_phase)phase),
                                      (unsigned long long)t.calls, (unsigned long long)t.messages,
                                      (unsigned long long)t.payload_bytes, (unsigned long long)t.sent_bytes,
                                      t.ideal_bytes, (unsigned long long)t.time_ns);
                    }
    return st;
}

static json_t *traffic_json(hw_traffic t)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:f, s:f}", "calls", (json_int_t)t.calls, "messages",
                     (json_int_t)t.messages, "payload_bytes", (json_int_t)t.payload_bytes, "sent_bytes",
                     (json_int_t)t.sent_bytes, "ideal_bytes", t.ideal_bytes, "seconds",
                     (double)t.time_ns * 1e-9);
}

json_t *hw_traffic_json(const hw_traffic_run *t)
{
    uint64_t bytes[2] = {0}, messages[2] = {0};
    json_t *phases = json_object();
    sum_hosts(t, bytes, messages);
    for (int phase = 0; phase < HW_N_PHASES; phase++) {
        json_t *sites = json_object();
        for (int site = 0; site < HW_N_SITES; site++)
            json_object_set_new(sites, hw_site_name((hw_site)site),
                                traffic_json(hw_traffic_of(t, HW_ALL_RANKS, (hw_site)site, (hw_phase)phase)));
        json_object_set_new(phases, hw_phase_name((hw_phase)phase),
                            json_pack("{s:I, s:I, s:f, s:o}", "tokens",
                                      (json_int_t)(phase == HW_PREFILL ? t->n_prompt : t->n_steps), "rows",
                                      (json_int_t)hw_traffic_rows(t, (hw_phase)phase), "seconds",
                                      phase == HW_PREFILL ? t->prefill_seconds : t->decode_seconds, "sites",
                                      sites));
    }
    return json_pack("{s:s, s:i, s:i, s:s, s:b, s:s, s:o, s:{s:I, s:I}, s:{s:I, s:I}, s:I, s:{s:i, s:f}}",
                     "architecture", t->info.architecture, "ranks", t->info.n_ranks, "hosts", t->n_hosts,
                     "backend", t->info.comm, "sent_is_estimate", t->info.sent_is_estimate, "kv_cache",
                     hw_kv_policy_name(t->info.kv_policy), "phases", phases, "within_hosts", "bytes",
                     (json_int_t)bytes[0], "messages", (json_int_t)messages[0], "between_hosts", "bytes",
                     (json_int_t)bytes[1], "messages", (json_int_t)messages[1], "scattered_weight_bytes",
                     (json_int_t)t->info.scattered_bytes, "k_and_v", "bytes_crossed", 0,
                     "new_bytes_per_token", kv_bytes_per_token(&t->info));
}

json_t *hw_traffic_pairs_json(const hw_pair *pairs, int n_ranks)
{
    json_t *list = json_array();
    int64_t difference = 0;
    for (int i = 0; i < n_ranks * n_ranks; i++) {
        const hw_pair *p = &pairs[i];
        if (i / n_ranks == i % n_ranks) continue;
        difference += llabs((long long)(p->counted_bytes - p->metered_bytes));
        json_array_append_new(
            list,
            json_pack("{s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "from", i / n_ranks, "to", i % n_ranks,
                      "metered_bytes", (json_int_t)p->metered_bytes, "metered_messages",
                      (json_int_t)p->metered_messages, "counted_bytes", (json_int_t)p->counted_bytes,
                      "counted_messages", (json_int_t)p->counted_messages, "internal_bytes",
                      (json_int_t)p->internal_bytes, "internal_messages", (json_int_t)p->internal_messages));
    }
    return json_pack("{s:I, s:o}", "difference_bytes", (json_int_t)difference, "pairs", list);
}
