/* Prefill compared with decode: rate, FLOPs, bytes touched and arithmetic intensity of each; throughput in input and
 * output tokens; time per token compared with what readers expect. */
#include <stdlib.h>

#include "launch/report/statistics.h"
#include "launch/study/study.h"

enum { MOST_PROMPT = 256, MOST_NEW = 64, MAX_BATCHES = 3, REPEATS = 3 };
#define READER_MS 50.0 /* per token: 20 tokens per second, faster than people read */

static const int batch_sizes[MAX_BATCHES] = {1, 4, 8};

/* The results for one batch size. Seconds are medians over the repeats. */
typedef struct result {
    hw_trial trial;
    double prefill_seconds, decode_seconds;
    double decode_ms; /* of a decode step */
} result;

typedef struct phases {
    int n_prompt, n_new;
    result of[MAX_BATCHES];
} phases;

static hw_status measure(hw_study *s, phases *p, int n_seqs, result *out, hw_error *err)
{
    hw_engine *e = NULL;
    hw_engine_options options = s->engine;
    double prefill[REPEATS], decode[REPEATS];
    int32_t *prompts = calloc((size_t)n_seqs * (size_t)p->n_prompt, sizeof *prompts);
    hw_trial_sequence seqs[8];
    hw_status st = prompts ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "study: no memory for prompts");
    st = hw_comm_agree(s->comm, st, err);
    options.prefix_sharing = false; /* every repeat must compute the prompt */
    if (!st)
        st = hw_study_engine(&e, s, NULL, NULL, options, p->n_prompt + p->n_new, n_seqs, n_seqs * p->n_prompt,
                             err);
    for (int i = 0; i < n_seqs && !st; i++) {
        hw_study_tokens(s, prompts + i * p->n_prompt, p->n_prompt, 1 + i * p->n_prompt);
        seqs[i] = (hw_trial_sequence){
            .prompt = prompts + i * p->n_prompt, .n_prompt = p->n_prompt, .n_new = p->n_new};
    }
    for (int r = 0; r < REPEATS && !st; r++) {
        hw_trial_free(&out->trial);
        st = hw_trial_run(&out->trial, e, seqs, n_seqs, err);
        if (st) break;
        prefill[r] = out->trial.steps[0].seconds;
        decode[r] = hw_trial_seconds(&out->trial) - prefill[r];
    }
    if (!st) {
        out->prefill_seconds = hw_summarise(prefill, REPEATS).median;
        out->decode_seconds = hw_summarise(decode, REPEATS).median;
        out->decode_ms = p->n_new > 1 ? out->decode_seconds * 1e3 / (p->n_new - 1) : 0;
    }
    hw_engine_destroy(e);
    free(prompts);
    return st;
}

static hw_status run(hw_study *s, void **data, hw_error *err)
{
    phases *p = calloc(1, sizeof *p);
    hw_status st =
        hw_comm_agree(s->comm, p ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "study: no memory"), err);
    if (!p) return HW_ERR_NO_MEMORY;
    *data = p;
    p->n_prompt = s->model.max_seq_len / 2 < MOST_PROMPT ? s->model.max_seq_len / 2 : MOST_PROMPT;
    if (p->n_prompt > s->n_new) p->n_prompt = s->n_new; /* -n limits all experiments */
    p->n_new = p->n_prompt < MOST_NEW ? p->n_prompt : MOST_NEW;
    for (int i = 0; i < MAX_BATCHES && !st; i++) st = measure(s, p, batch_sizes[i], &p->of[i], err);
    return st;
}

static void release(void *data)
{
    phases *p = data;
    for (int i = 0; p && i < MAX_BATCHES; i++) hw_trial_free(&p->of[i].trial);
    free(p);
}

/* ---- writing */

static hw_work work_of(const hw_trial *t, hw_phase phase)
{
    hw_work sum = {0};
    for (int site = 0; site < HW_N_WORK_SITES; site++) hw_work_add(&sum, t->work[site][phase]);
    return sum;
}

static hw_status write_phases(hw_study *s, const phases *p, hw_error *err)
{
    static const hw_column columns[] = {{"sequences", "sequences"},
                                        {"phase", "phase"},
                                        {"tokens", "tokens"},
                                        {"seconds", "s"},
                                        {"tokens_per_second", "tokens/s"},
                                        {"flops", "FLOPs"},
                                        {"bytes", "bytes touched"},
                                        {"flops_per_byte", "FLOP per byte"},
                                        {"gflop_per_second", "GFLOP/s"},
                                        {"gbyte_per_second", "GB/s"}};
    hw_table t = hw_table_begin(columns, 10);
    for (int i = 0; i < MAX_BATCHES; i++)
        for (int phase = 0; phase < HW_N_PHASES; phase++) {
            const result *r = &p->of[i];
            hw_work w = work_of(&r->trial, (hw_phase)phase);
            int tokens = batch_sizes[i] * (phase == HW_PREFILL ? p->n_prompt : p->n_new - 1);
            double seconds = phase == HW_PREFILL ? r->prefill_seconds : r->decode_seconds;
            hw_table_count(&t, (uint64_t)batch_sizes[i]);
            hw_table_text(&t, "%s", hw_phase_name((hw_phase)phase));
            hw_table_count(&t, (uint64_t)tokens);
            hw_table_real(&t, seconds);
            hw_table_real(&t, tokens / seconds);
            hw_table_count(&t, w.flops);
            hw_table_count(&t, hw_work_bytes(w));
            hw_table_real(&t, hw_work_intensity(w));
            hw_table_real(&t, (double)w.flops / seconds * 1e-9);
            hw_table_real(&t, (double)hw_work_bytes(w) / seconds * 1e-9);
        }
    return hw_study_table(s, &t, "phases", true, err);
}

static hw_status draw_intensity(hw_study *s, const phases *p, hw_error *err)
{
    static const char *const groups[] = {"1", "4", "8"};
    double values[HW_N_PHASES][MAX_BATCHES];
    hw_study_plot plot;
    for (int i = 0; i < MAX_BATCHES; i++)
        for (int phase = 0; phase < HW_N_PHASES; phase++)
            values[phase][i] = hw_work_intensity(work_of(&p->of[i].trial, (hw_phase)phase));
    hw_status st = hw_study_plot_begin(s, &plot, "intensity", "Arithmetic intensity",
                                       "sequences in one batch", "FLOP per byte touched", err);
    if (!st) st = hw_plot_bars(&plot.plot, "prefill", values[HW_PREFILL], MAX_BATCHES, err);
    if (!st) st = hw_plot_bars(&plot.plot, "decode", values[HW_DECODE], MAX_BATCHES, err);
    return st ? st : hw_study_plot_bars(s, &plot, groups, MAX_BATCHES, err);
}

static hw_status write_throughput(hw_study *s, const phases *p, hw_error *err)
{
    static const hw_column columns[] = {{"sequences", "sequences"},
                                        {"input_tokens", "input tokens"},
                                        {"output_tokens", "output tokens"},
                                        {"seconds", "s"},
                                        {"output_per_second", "output tokens/s"},
                                        {"input_and_output_per_second", "input + output tokens/s"},
                                        {"decode_ms", "ms per token of a sequence"},
                                        {"times_reader", "times faster than 50 ms"}};
    hw_table t = hw_table_begin(columns, 8);
    for (int i = 0; i < MAX_BATCHES; i++) {
        const result *r = &p->of[i];
        int in = batch_sizes[i] * p->n_prompt, out = batch_sizes[i] * p->n_new;
        double seconds = r->prefill_seconds + r->decode_seconds;
        hw_table_count(&t, (uint64_t)batch_sizes[i]);
        hw_table_count(&t, (uint64_t)in);
        hw_table_count(&t, (uint64_t)out);
        hw_table_real(&t, seconds);
        hw_table_real(&t, out / seconds);
        hw_table_real(&t, (in + out) / seconds);
        hw_table_real(&t, r->decode_ms);
        hw_table_real(&t, READER_MS / r->decode_ms);
    }
    return hw_study_table(s, &t, "throughput", true, err);
}

/* Time per token of the first experiment, cache on and off, compared with the reader's. */
static hw_status draw_reader(hw_study *s, const phases *p, hw_error *err)
{
    static const char *const groups[] = {"on (1)", "on (4)", "on (8)", "off, mean", "off, last", "reader"};
    const hw_on_off *r = &s->on_off;
    double off = hw_summarise(r->off_seconds, s->repeats).mean / s->n_new * 1e3;
    const double values[6] = {
        p->of[0].decode_ms, p->of[1].decode_ms, p->of[2].decode_ms, off, r->off_step[s->n_new - 1] * 1e3,
        READER_MS};
    hw_study_plot plot;
    hw_status st = hw_study_plot_begin(s, &plot, "reader", "Time per token of a sequence",
                                       "KV cache on (sequences in the batch), off, and what a reader expects",
                                       "ms per token", err);
    if (!st) st = hw_plot_bars(&plot.plot, "ms per token", values, 6, err);
    return st ? st : hw_study_plot_bars(s, &plot, groups, 6, err);
}

static hw_status write(hw_study *s, const void *data, hw_error *err)
{
    const phases *p = data;
    const hw_on_off *r = &s->on_off;
    hw_study_text(s,
                  "%d prompt tokens and %d new ones per sequence, %d repeats (medians). Bytes touched are "
                  "what each op must read and write, "
                  "each byte once per call: in prefill one read of the weights serves all rows, in decode "
                  "one row per sequence, so prefill "
                  "has many FLOPs per byte and decode few. Batching sequences gives decode more rows for the "
                  "same read of the weights.\n\n",
                  p->n_prompt, p->n_new, REPEATS);
    hw_status st = write_phases(s, p, err);
    if (!st) st = draw_intensity(s, p, err);
    if (st) return st;
    hw_study_text(
        s,
        "Throughput may mean output tokens alone, or input and output together (a prompt token takes "
        "far less time than a new one, so the second is higher). Readers expect a token every %.0f ms.\n\n",
        READER_MS);
    if ((st = write_throughput(s, p, err))) return st;
    hw_study_text(s,
                  "Without the cache the mean over %d tokens is %.3g ms per token, and the last one takes "
                  "%.3g ms: the time grows with every token.\n\n",
                  s->n_new, hw_summarise(r->off_seconds, s->repeats).mean / s->n_new * 1e3,
                  r->off_step[s->n_new - 1] * 1e3);
    return draw_reader(s, p, err);
}

const hw_experiment hw_experiment_phases = {"Prefill and decode", run, write, release};
