/* headway traffic: generates, and reports what crossed between ranks: by site and phase, against theory, and with --verify against Open MPI's
 * own counter. */
#include <stdlib.h>
#include <string.h>

#include "launch/commands.h"
#include "launch/output.h"
#include "launch/plot.h"
#include "launch/session.h"
#include "launch/traffic.h"

enum { OPT_VERIFY = 512, OPT_COMPARE, OPT_LAYERS, OPT_CSV, OPT_PLOT, DEFAULT_TOKENS = 32 };

static error_t parse_own(int key, char *arg, struct argp_state *state)
{
    hw_args *a = state->input;
    switch (key) {
    case OPT_VERIFY: a->verify = true; break;
    case OPT_COMPARE: a->compare_kv = true; break;
    case OPT_LAYERS: a->layers = true; break;
    case OPT_CSV: a->csv = true; break;
    case OPT_PLOT: a->plot = arg; break;
    case ARGP_KEY_END:
        if (a->csv && a->json) argp_error(state, "--csv and --json: give one of them");
        if (a->compare_kv && a->engine.kv_policy == HW_KV_OFF && !a->config)
            argp_error(state, "--compare-kv compares with --kv-cache off by itself");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option own_options[] = {
    {"verify", OPT_VERIFY, 0, 0,
     "Compare with Open MPI's own count of every message between every pair of ranks; a difference is an "
     "error. Takes --comm mpi, and on several hosts a TMPDIR that they share",
     0},
    {"compare-kv", OPT_COMPARE, 0, 0, "Run the same with the cache off, and compare", 0},
    {"layers", OPT_LAYERS, 0, 0, "Also each layer by itself", 0},
    {"csv", OPT_CSV, 0, 0, "Everything that was counted, per rank, site, layer and phase, as CSV", 0},
    {"plot", OPT_PLOT, "FILE.svg", 0, "Payload per token by site, as a picture (needs gnuplot)", 0},
    {0}};
static const struct argp own = {
    .options = own_options,
    .parser = parse_own,
    .args_doc = "[-]",
    .doc =
        "Generates text (32 tokens unless -n says otherwise), and reports what crossed between the ranks.\v"
        "  mpirun -np 4 headway traffic -m models/tales -p \"Once upon a time\" --verify\n"
        "  mpirun -np 2 headway traffic -m models/tales -p \"Once\" -n 100 --compare-kv"};

/* Collective. One generation on an engine of its own. */
static hw_status run_once(hw_session *s, hw_args *a, hw_kv_policy policy, hw_traffic_run *out, hw_error *err)
{
    hw_generate_result result = {.n_prompt = 0};
    hw_generate_options o = {.max_new_tokens = a->max_tokens ? a->max_tokens : DEFAULT_TOKENS,
                             .ignore_eos = true, /* a count for as many tokens as were asked for */
                             .prefill_chunk = a->prefill_chunk};
    a->engine.kv_policy = policy;
    if (!a->engine.max_seq_len) a->engine.max_seq_len = hw_session_length(s, &o);
    hw_status st = hw_session_sampling(s, a, &o.sampling, err);
    if (!st) st = hw_session_open_engine(s, a, err);
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
    char label[64];
    hw_status st = hw_plot_begin(&p, path, "Payload between ranks, by site", "", "bytes per token", err);
    for (int i = 0; i < n && !st; i++)
        for (int phase = 0; phase < HW_N_PHASES && !st; phase++) {
            double per = phase == HW_PREFILL ? runs[i].n_prompt : runs[i].n_steps;
            if (per <= 0) continue;
            snprintf(label, sizeof label, "%s, cache %s", hw_phase_name((hw_phase)phase),
                     hw_kv_policy_name(runs[i].info.kv_policy));
            double bars[HW_SITE_SAMPLE + 1];
            for (int site = 0; site <= HW_SITE_SAMPLE; site++)
                bars[site] =
                    (double)hw_traffic_of(&runs[i], 0, (hw_site)site, (hw_phase)phase).payload_bytes / per;
            st = hw_plot_bars(&p, label, bars, HW_SITE_SAMPLE + 1, err);
        }
    const char *names[HW_SITE_SAMPLE + 1];
    for (int site = 0; site <= HW_SITE_SAMPLE; site++) names[site] = hw_site_name((hw_site)site);
    return st ? st : hw_plot_end_bars(&p, names, HW_SITE_SAMPLE + 1, err);
}

/* ---- the command */

static hw_status tell(const hw_session *s, const hw_args *a, const hw_traffic_run *runs, int n,
                      const hw_pair *pairs, hw_error *err)
{
    int n_ranks = runs[0].info.n_ranks;
    hw_status st = HW_OK;
    if (a->plot) st = draw(runs, n, a->plot, err);
    if (st) return st;
    if (a->csv) return hw_traffic_write_csv(runs, n, err);
    if (a->json) {
        json_t *list = json_array();
        for (int i = 0; i < n; i++) json_array_append_new(list, hw_traffic_json(&runs[i]));
        return hw_print_json(json_pack("{s:s, s:s, s:s, s:o, s:o}", "model", a->model, "path", s->paths.text,
                                       "matmul", hw_matmul_name(runs[0].info.matmul), "runs", list, "verify",
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
                           "B in %llu: something crossed that "
                           "was not accounted for",
                           (unsigned long long)pairs[i].counted_bytes,
                           (unsigned long long)pairs[i].counted_messages, i / n_ranks, i % n_ranks,
                           (unsigned long long)pairs[i].metered_bytes,
                           (unsigned long long)pairs[i].metered_messages);
    return HW_OK;
}

hw_status hw_cmd_traffic(int argc, char **argv, hw_error *err)
{
    static const struct argp *const groups[] = {&hw_args_model,
                                                &hw_args_prompt,
                                                &hw_args_prefill,
                                                &hw_args_sampling,
                                                &hw_args_engine,
                                                &hw_args_report,
                                                NULL};
    hw_args a = hw_args_defaults();
    hw_session s = {0};
    hw_monitoring *monitoring = NULL;
    hw_traffic_run runs[2] = {{.n_prompt = 0}, {.n_prompt = 0}};
    const hw_pair *pairs = NULL;
    int n = 0;
    hw_args_parse(&a, &own, groups, argc, argv);
    hw_status st = a.verify ? hw_monitoring_start(&monitoring, err) : HW_OK;
    if (st) return st; /* on every rank alike: nothing was begun */
    st = hw_session_start(&s, &a, err);
    if (!st && a.compare_kv && a.engine.kv_policy == HW_KV_OFF)
        st = hw_fail(err, HW_ERR_INVALID, "--compare-kv compares with cache.policy: off by itself");
    if (!st) st = hw_session_open_prompt(&s, &a, err);
    if (!st) st = run_once(&s, &a, a.engine.kv_policy, &runs[n++], err);
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
