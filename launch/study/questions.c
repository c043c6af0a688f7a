/* Three questions on which published answers disagree, answered from the numbers of this study: per step and per new
 * token. */
#include "launch/study/study.h"

/* The last step of the first experiment, and the one before it. */
typedef struct last_steps {
    const hw_trial_step *on, *off, *off_before;
} last_steps;

static last_steps last_of(const hw_study *s)
{
    const hw_on_off *r = &s->on_off;
    int i = r->on.n_steps - 1;
    return (last_steps){&r->on.steps[i], &r->off.steps[i], &r->off.steps[i - 1]};
}

static hw_status write_work(hw_study *s, hw_error *err)
{
    static const hw_column columns[] = {
        {"site", "work"},           {"step_off", "one step: cache off"},
        {"step_on", "cache on"},    {"new_row_off", "the new token's row in it: cache off"},
        {"new_row_on", "cache on"}, {"mean_off", "whole run / new tokens: cache off"},
        {"mean_on", "cache on"}};
    static const hw_work_site sites[] = {HW_WORK_QKV, HW_WORK_SCORES, HW_WORK_VALUES, HW_WORK_WO,
                                         HW_WORK_MLP};
    static const char *const names[] = {"projections of Q K V", "scores", "values", "wo", "MLP"};
    const last_steps l = last_of(s);
    hw_table t = hw_table_begin(columns, 7);
    for (size_t i = 0; i < sizeof sites / sizeof *sites; i++) {
        double on = 0, off = 0;
        for (int step = 0; step < s->n_new; step++) {
            on += (double)s->on_off.on.steps[step].flops[sites[i]] / s->n_new;
            off += (double)s->on_off.off.steps[step].flops[sites[i]] / s->n_new;
        }
        hw_table_text(&t, "%s", names[i]);
        hw_table_count(&t, l.off->flops[sites[i]]);
        hw_table_count(&t, l.on->flops[sites[i]]);
        /* The difference to the previous step, which had one row less. */
        hw_table_count(&t, l.off->flops[sites[i]] - l.off_before->flops[sites[i]]);
        hw_table_count(&t, l.on->flops[sites[i]]);
        hw_table_real(&t, off);
        hw_table_real(&t, on);
    }
    return hw_study_table(s, &t, "questions_work", true, err);
}

/* Bytes of the last step that are sent, or would be if they were. */
static void crossing_row(hw_table *t, const char *what, const char *crosses, double per_row,
                         const last_steps *l)
{
    hw_table_text(t, "%s", what);
    hw_table_text(t, "%s", crosses);
    hw_table_count(t, (uint64_t)(per_row * l->off->rows));
    hw_table_count(t, (uint64_t)(per_row * l->on->rows));
    hw_table_count(t, (uint64_t)per_row);
}

static hw_status write_crossing(hw_study *s, hw_error *err)
{
    static const hw_column columns[] = {{"what", "bytes"},
                                        {"crosses", "crosses"},
                                        {"step_off", "one step: cache off"},
                                        {"step_on", "cache on"},
                                        {"per_row", "per new token"}};
    const last_steps l = last_of(s);
    const hw_model *m = &s->model;
    const double sampled = (double)(s->on_off.on.payload_bytes[HW_SITE_SAMPLE]) / s->n_new;
    const double per_row = ((double)l.on->payload_bytes - sampled) / l.on->rows;
    hw_table t = hw_table_begin(columns, 5);
    crossing_row(&t, "payload of embed + attn + mlp", "yes", per_row, &l);
    hw_table_text(&t, "payload of sampling");
    hw_table_text(&t, "yes");
    for (int i = 0; i < 3; i++) hw_table_count(&t, (uint64_t)sampled);
    crossing_row(&t, "K and V of the rows (as cached)", "no", hw_study_kv_row(s), &l);
    crossing_row(&t, "Q of the rows (as float32)", "no", 4.0 * m->n_layers * m->n_heads * m->head_dim, &l);
    hw_table_text(&t, "all K and V of the sequence (as cached)");
    hw_table_text(&t, "no");
    for (int i = 0; i < 2; i++) hw_table_count(&t, (uint64_t)(hw_study_kv_row(s) * l.on->length));
    hw_table_count(&t, (uint64_t)(hw_study_kv_row(s) * l.on->length));
    return hw_study_table(s, &t, "questions_crossing", true, err);
}

static hw_status write(hw_study *s, const void *data, hw_error *err)
{
    const last_steps l = last_of(s);
    const int n = l.on->length, heads = s->model.n_heads, kv = s->model.n_kv_heads;
    (void)data;
    hw_study_text(s,
                  "FLOPs of the step at length %d, counted. *The new token's row* is the difference between "
                  "that step and the one before it, which ran one row "
                  "less.\n\n",
                  n);
    hw_status st = write_work(s, err);
    if (st) return st;
    hw_study_text(s,
                  "**Which work of attention does the cache save?** Per step: the projections of %d old rows "
                  "(K and V are %.0f %% of them; with cached K and V "
                  "the old rows' Q is not needed either), and the scores and values of %d old "
                  "queries, which is %.1f %% of all pairs. What remains is the new "
                  "row: one row of projections, and its scores and values over all %d keys. Per new token: "
                  "nothing, since its own row costs the same either way.\n\n",
                  l.off->rows - l.on->rows, 200.0 * kv / (heads + 2 * kv), l.off->rows - 1,
                  100 * (1 - (double)l.on->flops[HW_WORK_SCORES] / (double)l.off->flops[HW_WORK_SCORES]), n);
    hw_study_text(s,
                  "**Does it change the MLP's work?** Per step, yes: its rows fall from %d to %d. Per new "
                  "token, no: the new row's FLOPs are %.4g million with and %.4g million "
                  "without. Both answers have been published, and both are correct: they count different "
                  "things. Over a whole generation of %d tokens the MLP "
                  "does %.1f times the work without the cache.\n\n",
                  l.off->rows, l.on->rows, (double)l.on->flops[HW_WORK_MLP] * 1e-6,
                  (double)(l.off->flops[HW_WORK_MLP] - l.off_before->flops[HW_WORK_MLP]) * 1e-6, s->n_new,
                  (double)hw_trial_rows(&s->on_off.off) / (double)hw_trial_rows(&s->on_off.on));
    hw_study_text(s, "**Does it change the data moved between blocks?** Payload is %s.\n\n",
                  hw_study_payload_source(s));
    if ((st = write_crossing(s, err))) return st;
    hw_study_text(s,
                  "Per step, yes: one row of activations is sent per row that is run, so it falls "
                  "from %d rows to %d. Per new token, no: its row has the same width. "
                  "K, V and Q are never sent, with or without the cache: a rank computes the "
                  "queries, keys and values of its heads from the replicated "
                  "activations, and its attention needs no other rank. The meter counts every collective by "
                  "site, and in every step of this run its sum equals, to the byte, "
                  "a formula without K and V; `headway traffic --verify` compares it with Open MPI's own "
                  "count.\n\n",
                  l.off->rows, l.on->rows);
    return HW_OK;
}

const hw_experiment hw_experiment_questions = {"Three questions", NULL, write, NULL};
