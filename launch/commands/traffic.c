/* headway traffic: generates text, and reports the traffic between ranks by site and phase, compared with theory and, with
 * --verify, with Open MPI's own count. */
#include <stdlib.h>
#include <string.h>

#include "launch/commands/commands.h"
#include "launch/report/output.h"
#include "launch/report/plot.h"
#include "launch/report/traffic.h"
#include "launch/session.h"

enum { DEFAULT_TOKENS = 32 };

typedef struct settings {
    hw_model_settings model;
    hw_prompt_settings prompt;
    hw_request_settings request;
    hw_engine_settings engine;
    hw_report_settings report;
    bool verify, compare_kv, layers, csv;
    const char *plot;
} settings;

#define AT(field) offsetof(settings, field)
static const hw_setting own_rows[] = {
    {NULL, "verify", 0, NULL, HW_FLAG, "false", HW_SAME, AT(verify),
     "Compare with Open MPI's own count of every message between every pair of ranks; a difference is an "
     "error. Uses --comm mpi, and with several hosts needs a TMPDIR that they share"},
    {NULL, "compare-kv", 0, NULL, HW_FLAG, "false", HW_SAME, AT(compare_kv),
     "Run the same with the cache off, and compare"},
    {NULL, "layers", 0, NULL, HW_FLAG, "false", 0, AT(layers), "Also print each layer"},
    {NULL, "csv", 0, NULL, HW_FLAG, "false", 0, AT(csv),
     "All counts, per rank, site, layer and phase, as CSV"},
    {NULL, "plot", 0, "FILE.svg", HW_TEXT, NULL, 0, AT(plot),
     "Draw the payload per token by site (needs gnuplot)"},
};
#undef AT

static const char *settle_own(void *values)
{
    const settings *a = values;
    if (a->csv && a->report.json) return "--csv and --json: give one of them";
    if (a->compare_kv && a->engine.options.kv_policy == HW_KV_OFF)
        return "--compare-kv always runs --kv-cache off; leave the cache on";
    return NULL;
}

static const hw_setting_group own_group = HW_OWN_GROUP(NULL, 0, own_rows, settle_own);

static const char doc[] =
    "Generates text (by default 32 tokens), and reports the traffic between the ranks.\v"
    "  mpirun -np 4 headway traffic -m models/tales -p \"Once upon a time\" --verify\n"
    "  mpirun -np 2 headway traffic -m models/tales -p \"Once\" -n 100 --compare-kv";

/* Collective. One generation on a new engine. */
static hw_status run_once(hw_session *s, settings *a, hw_kv_policy policy, hw_traffic_run *out, hw_error *err)
{
    hw_generate_result result = {.n_prompt = 0};
    hw_generate_options o = {.max_new_tokens = a->request.max_tokens ? a->request.max_tokens : DEFAULT_TOKENS,
                             .ignore_eos = true, /* count exactly the requested number of tokens */
                             .prefill_chunk = a->engine.prefill_chunk};
    a->engine.options.kv_policy = policy;
    if (!a->engine.options.max_seq_len) a->engine.options.max_seq_len = hw_session_length(s, &o);
    hw_status st = hw_session_sampling(s, &a->request, &o.sampling, err);
    if (!st) st = hw_session_open_engine(s, &a->engine, err);
    if (st) return st;
    hw_meter_reset(hw_comm_meter(s->comm));
    st = hw_generate(s->engine, NULL, s->prompt.ids, (int)s->prompt.n, &o, &result, err);
    hw_session_end_if_alone(s, st, err);
    if (!st)
        st = hw_comm_agree(s->comm, hw_traffic_check(s->engine, &result, &o.sampling, o.prefill_chunk, err),
                           err);
    if (!st) st = hw_traffic_gather(out, s->engine, &result, err);
    hw_tokens_free(&result.tokens);
    hw_engine_destroy(s->engine);
    s->engine = NULL;
    return st;
}

/* ---- cache on and off */

static uint64_t layer_payload(const hw_traffic_run *t)
{
    uint64_t n = 0;
    for (int site = 0; site <= HW_SITE_MLP; site++)
        for (int phase = 0; phase < HW_N_PHASES; phase++)
            n += hw_traffic_of(t, 0, (hw_site)site, (hw_phase)phase).payload_bytes;
    return n;
}

static uint64_t all_payload(const hw_traffic_run *t)
{
    uint64_t n = layer_payload(t);
    for (int phase = 0; phase < HW_N_PHASES; phase++)
        n += hw_traffic_of(t, 0, HW_SITE_SAMPLE, (hw_phase)phase).payload_bytes;
    return n;
}

static uint64_t all_rows(const hw_traffic_run *t)
{
    return hw_traffic_rows(t, HW_PREFILL) + hw_traffic_rows(t, HW_DECODE);
}
static double all_seconds(const hw_traffic_run *t) { return t->prefill_seconds + t->decode_seconds; }

static hw_status print_comparison(const hw_traffic_run runs[2], hw_error *err)
{
    const hw_traffic_run *on = &runs[0], *off = &runs[1];
    const struct {
        const char *what;
        double on, off;
    } lines[] = {{"rows through the layers", (double)all_rows(on), (double)all_rows(off)},
                 {"payload of embed + attn + mlp, B", (double)layer_payload(on), (double)layer_payload(off)},
                 {"payload with sampling, B", (double)all_payload(on), (double)all_payload(off)},
                 {"seconds", all_seconds(on), all_seconds(off)}};
    hw_status st = hw_print(err, "\n%-34s %16s %16s %12s\n", "cache", hw_kv_policy_name(on->info.kv_policy),
                            "off", "off over on");
    for (size_t i = 0; i < sizeof lines / sizeof *lines && !st; i++)
        st = hw_print(err, i < 3 ? "%-34s %16.0f %16.0f %12.3f\n" : "%-34s %16.3f %16.3f %12.3f\n",
                      lines[i].what, lines[i].on, lines[i].off,
                      lines[i].on > 0 ? lines[i].off / lines[i].on : 0);
    return st;
}

/* ---- picture */

static hw_status draw(const hw_traffic_run *runs, int n, const char *path, hw_error *err)
{
    hw_plot p;
    hw_site sites[HW_N_SITES];
    const char *names[HW_N_SITES];
    double bars[HW_N_SITES];
    int n_sites = 0;
    char label[64];
    for (int site = 0; site < HW_N_SITES; site++)
        if (hw_site_is_predicted((hw_site)site)) sites[n_sites++] = (hw_site)site;
    hw_status st = hw_plot_begin(&p, path, "Payload between ranks, by site", "", "bytes per token", err);
    for (int i = 0; i < n && !st; i++)
        for (int phase = 0; phase < HW_N_PHASES && !st; phase++) {
            double per = phase == HW_PREFILL ? runs[i].n_prompt : runs[i].n_steps;
            if (per <= 0) continue;
            snprintf(label, sizeof label, "%s, cache %s", hw_phase_name((hw_phase)phase),
                     hw_kv_policy_name(runs[i].info.kv_policy));
            for (int k = 0; k < n_sites; k++)
                bars[k] = (double)hw_traffic_of(&runs[i], 0, sites[k], (hw_phase)phase).payload_bytes / per;
            st = hw_plot_bars(&p, label, bars, n_sites, err);
        }
    for (int k = 0; k < n_sites; k++) names[k] = hw_site_name(sites[k]);
    return st ? st : hw_plot_end_bars(&p, names, n_sites, err);
}

/* ---- the command */

static hw_status tell(const hw_session *s, const settings *a, const hw_traffic_run *runs, int n,
                      const hw_pair *pairs, hw_error *err)
{
    int n_ranks = runs[0].info.n_ranks;
    hw_status st = HW_OK;
    if (a->plot) st = draw(runs, n, a->plot, err);
    if (st) return st;
    if (a->csv) return hw_traffic_write_csv(runs, n, err);
    if (a->report.json) {
        json_t *list = json_array();
        for (int i = 0; i < n; i++) json_array_append_new(list, hw_traffic_json(&runs[i]));
        return hw_print_json(json_pack("{s:s, s:s, s:s, s:o, s:o}", "model", s->model->folder, "path",
                                       s->paths.text, "matmul", hw_matmul_name(runs[0].info.matmul), "runs",
                                       list, "verify",
                                       pairs ? hw_traffic_pairs_json(pairs, n_ranks) : json_null()),
                             err);
    }
    for (int i = 0; i < n && !st; i++) {
        if (i) st = hw_print(err, "\n");
        if (!st) st = hw_traffic_print(&runs[i], a->layers, err);
    }
    if (!st && pairs) st = hw_traffic_print_pairs(pairs, n_ranks, err);
    if (!st && n == 2) st = print_comparison(runs, err);
    return st;
}

static hw_status judge(const hw_pair *pairs, int n_ranks, hw_error *err)
{
    for (int i = 0; pairs && i < n_ranks * n_ranks; i++)
        if (pairs[i].metered_bytes != pairs[i].counted_bytes ||
            pairs[i].metered_messages != pairs[i].counted_messages)
            return hw_fail(err, HW_ERR_FAILED,
                           "Open MPI counted %llu B in %llu messages from rank %d to rank %d, the meter %llu "
                           "B in %llu: something was sent that "
                           "was not accounted for",
                           (unsigned long long)pairs[i].counted_bytes,
                           (unsigned long long)pairs[i].counted_messages, i / n_ranks, i % n_ranks,
                           (unsigned long long)pairs[i].metered_bytes,
                           (unsigned long long)pairs[i].metered_messages);
    return HW_OK;
}

hw_status hw_cmd_traffic(int argc, char **argv, hw_error *err)
{
    settings a = {0};
    hw_session s = {0};
    hw_options o = {.doc = doc,
                    .takes = HW_IF_CHUNKED,
                    .groups = {HW_TAKES(a, model),
                               HW_TAKES(a, prompt),
                               HW_TAKES(a, request),
                               HW_TAKES(a, engine),
                               HW_TAKES(a, report),
                               {&own_group, &a}}};
    hw_monitoring *monitoring = NULL;
    hw_traffic_run runs[2] = {{.n_prompt = 0}, {.n_prompt = 0}};
    const hw_pair *pairs = NULL;
    int n = 0;
    hw_options_parse(&o, argc, argv);
    hw_status st = a.verify ? hw_monitoring_start(&monitoring, err) : HW_OK;
    if (st) return st; /* the same on every rank: nothing was started */
    s.counts_messages = a.verify;
    st = hw_session_start(&s, &o, err);
    if (!st) st = hw_session_open_prompt(&s, err);
    if (!st) st = run_once(&s, &a, a.engine.options.kv_policy, &runs[n++], err);
    if (!st && a.compare_kv) st = run_once(&s, &a, HW_KV_OFF, &runs[n++], err);
    if (!st && monitoring) st = hw_monitoring_collect(monitoring, s.comm, err);
    hw_session_leave_ranks(&s);
    if (!st && monitoring) st = hw_monitoring_compare(monitoring, &pairs, err);
    /* From here on rank 0 is alone: MPI has ended. */
    if (!st && s.rank == 0) {
        st = tell(&s, &a, runs, n, pairs, err);
        if (!st) st = judge(pairs, runs[0].info.n_ranks, err);
    }
    for (int i = 0; i < 2; i++) hw_traffic_run_free(&runs[i]);
    hw_monitoring_destroy(monitoring);
    hw_session_close(&s);
    return st;
}
