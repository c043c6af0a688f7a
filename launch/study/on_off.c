/* The same generation from one prompt token with the cache on and off, repeated in turn: rows, payload and FLOPs, which
 * are exact, and times, compared with the prediction of a roofline of this machine. */
#include <stdlib.h>

#include "launch/report/statistics.h"
#include "launch/study/study.h"

enum { WARM_UP_TOKENS = 4 };

/* ---- running */

static hw_status make_room(hw_on_off *r, const hw_study *s, hw_error *err)
{
    r->on_seconds = calloc((size_t)s->repeats, sizeof(double));
    r->off_seconds = calloc((size_t)s->repeats, sizeof(double));
    r->on_step = calloc((size_t)s->n_new, sizeof(double));
    r->off_step = calloc((size_t)s->n_new, sizeof(double));
    if (r->on_seconds && r->off_seconds && r->on_step && r->off_step) return HW_OK;
    return hw_fail(err, HW_ERR_NO_MEMORY, "study: no memory for %d repeats", s->repeats);
}

/* The times of every step in every repeat: [n_new, repeats], on then off. */
typedef struct samples {
    double *on, *off;
} samples;

static void keep(const hw_study *s, int repeat, const hw_trial *t, double *seconds, double *steps)
{
    seconds[repeat] = hw_trial_seconds(t);
    for (int i = 0; i < t->n_steps; i++) steps[i * s->repeats + repeat] = t->steps[i].seconds;
}

static hw_status check_counts(const hw_study *s, const hw_trial *t, const hw_trial *first, bool off,
                              hw_error *err)
{
    hw_generation_shape shape = {.n_prompt = 1, .n_steps = s->n_new - 1, .cache_off = off};
    uint64_t wanted = hw_plan_generation_flops(&s->model, shape), found = hw_trial_flops(t);
    if (found != wanted)
        return hw_fail(err, HW_ERR_FAILED,
                       "%llu FLOPs were counted with the cache %s, but the formula gives %llu",
                       (unsigned long long)found, off ? "off" : "on", (unsigned long long)wanted);
    if (!hw_trial_same_tokens(t, first))
        return hw_fail(err, HW_ERR_FAILED, "the same prompt gave different tokens %s",
                       off ? "with the cache off" : "when it was run again");
    return HW_OK;
}

/* The two sides take turns, so that other load on the machine affects both. */
static hw_status repeat(hw_study *s, hw_engine *on, hw_engine *off, samples *all, hw_error *err)
{
    hw_on_off *r = &s->on_off;
    int32_t first;
    hw_study_tokens(s, &first, 1, 1);
    const hw_trial_sequence whole = {.prompt = &first, .n_prompt = 1, .n_new = s->n_new};
    hw_trial_sequence warm = whole;
    if (warm.n_new > WARM_UP_TOKENS) warm.n_new = WARM_UP_TOKENS;
    hw_trial t = {.n_seqs = 0};
    hw_status st = HW_OK;
    for (int i = -1; i < s->repeats && !st; i++)
        for (int side = 0; side < 2 && !st; side++) {
            st = hw_trial_run(&t, side ? off : on, i < 0 ? &warm : &whole, 1, err);
            if (!st && i >= 0) {
                keep(s, i, &t, side ? r->off_seconds : r->on_seconds, side ? all->off : all->on);
                st = check_counts(s, &t, i || side ? &r->on : &t, side, err);
            }
            if (i == 0 && !st) *(side ? &r->off : &r->on) = t;
            else hw_trial_free(&t);
        }
    return hw_comm_agree(s->comm, st, err);
}

/* Roofline: a step with the cache reads the weights and all earlier keys and values; without, it is limited by products
 * or by reading the weights, whichever takes longer. Norms, the speed of attention, collectives and barriers are left
 * out. */
static void predict(hw_study *s)
{
    hw_on_off *r = &s->on_off;
    double weights = (double)r->on.step_weight_bytes, b = s->machine.weight_read, p = s->machine.product_rate;
    for (int t = 0; t < r->off.n_steps; t++) {
        double products = (double)hw_trial_step_flops(&r->off.steps[t]) / p;
        r->on_predicted += (weights + (t + 1) * hw_study_kv_row(s)) / b;
        r->off_predicted += products > weights / b ? products : weights / b;
    }
}

static hw_status run(hw_study *s, void **data, hw_error *err)
{
    hw_on_off *r = &s->on_off;
    hw_engine *on = NULL, *off = NULL;
    hw_engine_options options = s->engine;
    size_t n = (size_t)s->repeats * (size_t)s->n_new;
    samples all = {.on = calloc(n, sizeof(double)), .off = calloc(n, sizeof(double))};
    (void)data;
    hw_status st = make_room(r, s, err);
    if (!st && (!all.on || !all.off)) st = hw_fail(err, HW_ERR_NO_MEMORY, "study: no memory");
    st = hw_comm_agree(s->comm, st, err);
    if (!st) st = hw_study_engine(&on, s, NULL, NULL, options, s->n_new + 1, 1, 1, err);
    options.kv_policy = HW_KV_OFF;
    if (!st) st = hw_study_engine(&off, s, NULL, NULL, options, s->n_new + 1, 1, s->n_new, err);
    hw_paths_text paths;
    if (!st) st = hw_devices_tell(&paths, on, s->engine.matmul, false, s->verbose, err);
    if (!st) {
        hw_engine_info info = hw_engine_info_get(on);
        s->dtype = info.weight_dtype;
        snprintf(s->device, sizeof s->device, "%s", info.device);
        st = hw_machine_measure(&s->machine, s->comm, hw_engine_device(on), info.weight_dtype,
                                info.step_weight_bytes, err);
    }
    if (!st) st = repeat(s, on, off, &all, err);
    for (int i = 0; i < s->n_new && !st; i++) {
        r->on_step[i] = hw_summarise(all.on + i * s->repeats, s->repeats).median;
        r->off_step[i] = hw_summarise(all.off + i * s->repeats, s->repeats).median;
    }
    if (!st) predict(s);
    hw_engine_destroy(on);
    hw_engine_destroy(off);
    free(all.on);
    free(all.off);
    return st;
}

/* ---- writing */

static void ratio_row(hw_table *t, const char *what, uint64_t on, uint64_t off)
{
    hw_table_text(t, "%s", what);
    hw_table_count(t, on);
    hw_table_count(t, off);
    hw_table_text(t, "%.3f", on ? (double)off / (double)on : 0);
}

static void time_row(hw_table *t, const char *what, double on, double off)
{
    hw_table_text(t, "%s", what);
    hw_table_real(t, on);
    hw_table_real(t, off);
    hw_table_real(t, off / on);
}

/* The median of the ratios within each repeat, whose two runs follow each other directly. */
static double measured_ratio(const hw_study *s)
{
    const hw_on_off *r = &s->on_off;
    double *ratios = malloc((size_t)s->repeats * sizeof *ratios);
    if (!ratios) return 0;
    for (int i = 0; i < s->repeats; i++) ratios[i] = r->off_seconds[i] / r->on_seconds[i];
    double median = hw_summarise(ratios, s->repeats).median;
    free(ratios);
    return median;
}

static hw_status write_counts(hw_study *s, hw_error *err)
{
    static const hw_column columns[] = {{"figure", "figure"},
                                        {"cache_on", "cache on"},
                                        {"cache_off", "cache off"},
                                        {"off_over_on", "off over on"}};
    const hw_on_off *r = &s->on_off;
    hw_summary on = hw_summarise(r->on_seconds, s->repeats), off = hw_summarise(r->off_seconds, s->repeats);
    hw_table t = hw_table_begin(columns, 4);
    ratio_row(&t, "rows through the layers", hw_trial_rows(&r->on), hw_trial_rows(&r->off));
    ratio_row(&t, "payload of embed + attn + mlp (B)", hw_trial_layer_payload(&r->on),
              hw_trial_layer_payload(&r->off));
    ratio_row(&t, "payload with sampling (B)", hw_trial_payload(&r->on), hw_trial_payload(&r->off));
    ratio_row(&t, "FLOPs", hw_trial_flops(&r->on), hw_trial_flops(&r->off));
    time_row(&t, "seconds: mean", on.mean, off.mean);
    hw_table_text(&t, "seconds: standard deviation");
    hw_table_real(&t, on.deviation);
    hw_table_real(&t, off.deviation);
    hw_table_text(&t, "%s", "");
    time_row(&t, "seconds: median", on.median, off.median);
    time_row(&t, "seconds: fastest", on.min, off.min);
    hw_table_text(&t, "ratio within a repeat: median");
    for (int i = 0; i < 2; i++) hw_table_text(&t, "%s", "");
    hw_table_real(&t, measured_ratio(s));
    time_row(&t, "seconds: roofline prediction", r->on_predicted, r->off_predicted);
    return hw_study_table(s, &t, "on_off", true, err);
}

static hw_status write_repeats(hw_study *s, hw_error *err)
{
    static const hw_column columns[] = {{"repeat", "repeat"},
                                        {"on_seconds", "cache on (s)"},
                                        {"off_seconds", "cache off (s)"},
                                        {"off_over_on", "off over on"}};
    const hw_on_off *r = &s->on_off;
    hw_table t = hw_table_begin(columns, 4);
    for (int i = 0; i < s->repeats; i++) {
        hw_table_count(&t, (uint64_t)i + 1);
        hw_table_real(&t, r->on_seconds[i]);
        hw_table_real(&t, r->off_seconds[i]);
        hw_table_real(&t, r->off_seconds[i] / r->on_seconds[i]);
    }
    return hw_study_table(s, &t, "on_off_repeats", false, err);
}

static hw_status write_machine(hw_study *s, hw_error *err)
{
    static const hw_column columns[] = {{"figure", "figure"}, {"value", "value"}, {"unit", "unit"}};
    const struct {
        const char *what, *unit;
        double value;
    } lines[] = {
        {"memory read over 256 MiB per rank", "GB/s", s->machine.memory_read * 1e-9},
        {"memory read over as many bytes as the weights (B)", "GB/s", s->machine.weight_read * 1e-9},
        {"weights of a rank that a step reads", "MB", (double)s->machine.weight_bytes * 1e-6},
        {"product of a 2048 x 2048 matrix with 256 rows (P)", "GFLOP/s", s->machine.product_rate * 1e-9}};
    hw_table t = hw_table_begin(columns, 3);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        hw_table_text(&t, "%s", lines[i].what);
        hw_table_real(&t, lines[i].value);
        hw_table_text(&t, "%s", lines[i].unit);
    }
    return hw_study_table(s, &t, "machine", true, err);
}

static hw_status draw(hw_study *s, hw_error *err)
{
    static const char *const groups[] = {"rows", "payload", "FLOPs", "time, roofline", "time, measured"};
    const hw_on_off *r = &s->on_off;
    const double on_payload = (double)hw_trial_layer_payload(&r->on);
    const double values[5] = {(double)hw_trial_rows(&r->off) / (double)hw_trial_rows(&r->on),
                              on_payload > 0 ? (double)hw_trial_layer_payload(&r->off) / on_payload : 0,
                              (double)hw_trial_flops(&r->off) / (double)hw_trial_flops(&r->on),
                              r->off_predicted / r->on_predicted, measured_ratio(s)};
    hw_study_plot p;
    hw_status st =
        hw_study_plot_begin(s, &p, "on_off", "What the cache saves", "", "cache off over cache on", err);
    if (!st) st = hw_plot_bars(&p.plot, "ratio", values, 5, err);
    return st ? st : hw_study_plot_bars(s, &p, groups, 5, err);
}

static hw_status write(hw_study *s, const void *data, hw_error *err)
{
    const hw_on_off *r = &s->on_off;
    (void)data;
    hw_study_text(s,
                  "One prompt token, %d new tokens, greedy, %d repeats in turn (on, off, on, off, ...). Both "
                  "sides are the same program with the "
                  "same kernels and gave the same tokens; without the cache every step runs the whole prefix "
                  "again, but does no avoidable work: "
                  "it computes causal pairs only, and logits of the last row only.\n\n",
                  s->n_new, s->repeats);
    hw_status st = write_counts(s, err);
    if (st) return st;
    hw_study_text(
        s,
        "Rows are N with the cache and N (N + 1) / 2 without, so rows and payload of the layers have "
        "the ratio (N + 1) / 2 = %.1f exactly. "
        "Payload is %s. FLOPs are counted from the shapes passed to the ops.\n\n",
        (s->n_new + 1) / 2.0, hw_study_payload_source(s));
    if ((st = draw(s, err))) return st;
    hw_study_text(
        s,
        "**Measured against predicted.** The measured ratio is %.1f, the roofline's %.1f. It takes "
        "`T_on = sum over t of (W + t KV) / B` "
        "and `T_off = sum over t of max(F(t) / P, W / B)` with the rates that these ranks reached in "
        "the same run, and leaves out everything else: norms, softmax, collectives, waiting for "
        "other ranks. A small "
        "model, whose weights fit into a processor's cache, spends most of a cached step on those.\n\n",
        measured_ratio(s), r->off_predicted / r->on_predicted);
    if ((st = write_machine(s, err)) || (st = write_repeats(s, err))) return st;
    hw_study_text(s,
                  "The ratio of times differs from the ratio of FLOPs. With the cache a step reads all "
                  "weights for one row and is memory-bound; without, it computes many rows from "
                  "one read and is compute-bound. Where arithmetic is fast compared with memory (B small, P "
                  "large) the ratio of times is smaller than that of FLOPs; where the "
                  "weights fit into a processor's cache (B large) it can be larger. Faster products make "
                  "the ratio smaller, slower ones larger: it says as much about "
                  "kernels and machine as about the KV cache. A blog experiment of June 2024 (GPT-2, 1000 "
                  "new tokens, the transformers library on an Apple M1: 32.1 s with "
                  "the cache, 3516.7 s without) found 109.5x, for another program on another machine at "
                  "another length.\n\n");
    return HW_OK;
}

const hw_experiment hw_experiment_on_off = {"Cache on and off", run, write, NULL};
