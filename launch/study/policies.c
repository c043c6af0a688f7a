/* The cache policies on a mix of short and long sequences that start and end at different times: bytes that each
 * reserves, uses, wastes, shares and copies. */
#include <stdlib.h>

#include "launch/study/study.h"

enum { N_POLICIES = 4, N_SEQS = 6, MOST_TOKENS = 256, LEAST_TOKENS = 16 };

static const hw_kv_policy policies[N_POLICIES] = {HW_KV_OFF, HW_KV_CONTIGUOUS, HW_KV_DYNAMIC, HW_KV_PAGED};

typedef struct mix {
    int longest; /* tokens of a sequence: the context */
    hw_trial_sequence seqs[N_SEQS];
    hw_trial trial[N_POLICIES];
    int32_t *tokens;
} mix;

/* Long and short sequences; the fourth begins with the prompt of the first, and joins while the first is running. */
static hw_status fill(mix *m, const hw_study *s, hw_error *err)
{
    const int l = m->longest;
    const struct {
        int first_step, n_prompt, n_new, content;
    } plan[N_SEQS] = {{0, l / 2, l / 2, 1},     {0, l / 16, l / 8, 2},      {0, l / 8, l / 8, 3},
                      {l / 8, l / 2, l / 4, 1}, {l / 4, l / 16, l / 16, 4}, {l / 4, l / 4, l / 4, 5}};
    m->tokens = calloc((size_t)N_SEQS * (size_t)l, sizeof *m->tokens);
    if (!m->tokens) return hw_fail(err, HW_ERR_NO_MEMORY, "study: no memory for prompts");
    for (int i = 0; i < N_SEQS; i++) {
        hw_study_tokens(s, m->tokens + i * l, plan[i].n_prompt, plan[i].content * MOST_TOKENS);
        m->seqs[i] = (hw_trial_sequence){.first_step = plan[i].first_step,
                                         .prompt = m->tokens + i * l,
                                         .n_prompt = plan[i].n_prompt ? plan[i].n_prompt : 1,
                                         .n_new = plan[i].n_new ? plan[i].n_new : 1};
    }
    return HW_OK;
}

static hw_status run(hw_study *s, void **data, hw_error *err)
{
    mix *m = calloc(1, sizeof *m);
    hw_status st = m ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "study: no memory");
    *data = m;
    if (m) {
        m->longest = s->n_new < MOST_TOKENS ? s->n_new : MOST_TOKENS;
        if (m->longest < LEAST_TOKENS) m->longest = LEAST_TOKENS;
        if (m->longest > s->model.max_seq_len) m->longest = s->model.max_seq_len;
        st = fill(m, s, err);
    }
    st = hw_comm_agree(s->comm, st, err);
    for (int i = 0; i < N_POLICIES && !st; i++) {
        hw_engine *e = NULL;
        hw_engine_options options = s->engine;
        options.kv_policy = policies[i];
        options.prefix_sharing = true; /* if the policy supports it */
        st = hw_study_engine(&e, s, NULL, NULL, options, m->longest, N_SEQS, N_SEQS * m->longest, err);
        if (!st) st = hw_trial_run(&m->trial[i], e, m->seqs, N_SEQS, err);
        if (!st && !hw_trial_same_tokens(&m->trial[i], &m->trial[0]))
            st = hw_fail(err, HW_ERR_FAILED, "cache policy %s gave different tokens than %s",
                         hw_kv_policy_name(policies[i]), hw_kv_policy_name(policies[0]));
        hw_engine_destroy(e);
    }
    return st;
}

static void release(void *data)
{
    mix *m = data;
    if (!m) return;
    for (int i = 0; i < N_POLICIES; i++) hw_trial_free(&m->trial[i]);
    free(m->tokens);
    free(m);
}

/* ---- writing */

/* The step with the largest reservation. */
static const hw_kv_usage *fullest(const hw_trial *t)
{
    const hw_kv_usage *most = &t->steps[0].kv;
    for (int i = 1; i < t->n_steps; i++)
        if (t->steps[i].kv.reserved_bytes > most->reserved_bytes) most = &t->steps[i].kv;
    return most;
}

static uint64_t most_shared(const hw_trial *t)
{
    uint64_t most = 0;
    for (int i = 0; i < t->n_steps; i++)
        if (t->steps[i].kv.shared_bytes > most) most = t->steps[i].kv.shared_bytes;
    return most;
}

/* Used over reserved, both summed over all steps. */
static double share_used(const hw_trial *t)
{
    double used = 0, reserved = 0;
    for (int i = 0; i < t->n_steps; i++) {
        used += (double)t->steps[i].kv.used_bytes;
        reserved += (double)t->steps[i].kv.reserved_bytes;
    }
    return reserved > 0 ? 100 * used / reserved : 0;
}

static hw_status write_table(hw_study *s, const mix *m, hw_error *err)
{
    static const hw_column columns[] = {{"policy", "policy"},
                                        {"reserved_bytes", "reserved at most (B)"},
                                        {"used_bytes", "used then (B)"},
                                        {"wasted_bytes", "wasted then (B)"},
                                        {"used_percent", "used, over all steps (%)"},
                                        {"shared_bytes", "shared at most (B)"},
                                        {"copied_bytes", "copied (B)"},
                                        {"rows", "rows run"},
                                        {"payload_bytes", "payload (B)"},
                                        {"seconds", "s"},
                                        {"same_tokens", "same tokens"}};
    hw_table t = hw_table_begin(columns, 11);
    for (int i = 0; i < N_POLICIES; i++) {
        const hw_trial *trial = &m->trial[i];
        const hw_kv_usage *most = fullest(trial);
        hw_table_text(&t, "%s", hw_kv_policy_name(policies[i]));
        hw_table_count(&t, most->reserved_bytes);
        hw_table_count(&t, most->used_bytes);
        hw_table_count(&t, most->wasted_bytes);
        hw_table_real(&t, share_used(trial));
        hw_table_count(&t, most_shared(trial));
        hw_table_count(&t, trial->steps[trial->n_steps - 1].kv.copied_bytes);
        hw_table_count(&t, hw_trial_rows(trial));
        hw_table_count(&t, hw_trial_payload(trial));
        hw_table_real(&t, hw_trial_seconds(trial));
        hw_table_text(&t, "%s", hw_trial_same_tokens(trial, &m->trial[0]) ? "yes" : "no");
    }
    return hw_study_table(s, &t, "policies", true, err);
}

static hw_status write_steps(hw_study *s, const mix *m, hw_error *err)
{
    static const hw_column columns[] = {{"policy", 0},         {"step", 0},        {"rows", 0},
                                        {"reserved_bytes", 0}, {"used_bytes", 0},  {"wasted_bytes", 0},
                                        {"shared_bytes", 0},   {"copied_bytes", 0}};
    hw_table t = hw_table_begin(columns, 8);
    for (int i = 0; i < N_POLICIES; i++)
        for (int step = 0; step < m->trial[i].n_steps; step++) {
            const hw_trial_step *one = &m->trial[i].steps[step];
            hw_table_text(&t, "%s", hw_kv_policy_name(policies[i]));
            hw_table_count(&t, (uint64_t)step);
            hw_table_count(&t, (uint64_t)one->rows);
            hw_table_count(&t, one->kv.reserved_bytes);
            hw_table_count(&t, one->kv.used_bytes);
            hw_table_count(&t, one->kv.wasted_bytes);
            hw_table_count(&t, one->kv.shared_bytes);
            hw_table_count(&t, one->kv.copied_bytes);
        }
    return hw_study_table(s, &t, "policies_steps", false, err);
}

static hw_status add_line(hw_study_plot *p, const hw_trial *t, bool used, const char *label, hw_error *err)
{
    double x[MOST_TOKENS], y[MOST_TOKENS];
    int n = t->n_steps < MOST_TOKENS ? t->n_steps : MOST_TOKENS;
    for (int i = 0; i < n; i++) {
        const hw_kv_usage *kv = &t->steps[i].kv;
        x[i] = i;
        y[i] = (double)(used ? kv->used_bytes : kv->reserved_bytes) * 1e-3;
    }
    return hw_plot_line(&p->plot, label, x, y, n, err);
}

static hw_status draw(hw_study *s, const mix *m, hw_error *err)
{
    hw_study_plot p;
    hw_status st =
        hw_study_plot_begin(s, &p, "policies", "Cache bytes of rank 0 as sequences start and end",
                            "step (one token of every running sequence)", "bytes of the cache (kB)", err);
    if (!st) st = add_line(&p, &m->trial[1], false, "contiguous, reserved", err);
    if (!st) st = add_line(&p, &m->trial[2], false, "dynamic, reserved", err);
    if (!st) st = add_line(&p, &m->trial[3], false, "paged, reserved", err);
    if (!st) st = add_line(&p, &m->trial[1], true, "used without sharing", err);
    if (!st) st = add_line(&p, &m->trial[3], true, "used with sharing (paged)", err);
    return st ? st : hw_study_plot_lines(s, &p, err);
}

static hw_status write(hw_study *s, const void *data, hw_error *err)
{
    const mix *m = data;
    const hw_kv_usage *kv = &m->trial[3].steps[0].kv;
    hw_study_text(s,
                  "%d sequences of %d to %d tokens in one batch; two begin with the same %d tokens. "
                  "Bytes are for the heads of rank 0, "
                  "%llu B per token; every block and run is a multiple of that.\n\n",
                  N_SEQS, m->longest / 8, m->longest, m->longest / 2,
                  (unsigned long long)kv->bytes_per_token);
    hw_status st = write_table(s, m, err);
    if (!st) st = draw(s, m, err);
    if (st) return st;
    hw_study_text(s,
                  "Contiguous reserves the context of %d tokens for each sequence, however short it is; "
                  "dynamic reserves at most about twice what is "
                  "used, and copies; paged wastes less than a block of %d tokens per sequence, and "
                  "sequences with the same prefix share "
                  "full blocks, whose rows are not run again. With the cache off the same blocks are scratch "
                  "that every step rewrites. All "
                  "policies gave the same tokens.\n\n",
                  m->longest, kv->block_tokens);
    return write_steps(s, m, err);
}

const hw_experiment hw_experiment_policies = {"Cache policies on short and long sequences", run, write,
                                              release};
