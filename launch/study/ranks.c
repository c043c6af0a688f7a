/* One rank compared with all ranks of this run, and the plan for other numbers of ranks. */
#include <stdlib.h>
#include <string.h>

#include "launch/report/statistics.h"
#include "launch/study/study.h"
#include "runtime/weights/weights.h"

enum { MOST_PROMPT = 128, MOST_NEW = 64, N_COUNTS = 5 };

static const int rank_counts[N_COUNTS] = {1, 2, 4, 8, 16};

typedef struct ranks {
    int n_prompt, n_new;
    hw_trial one, all; /* one: rank 0 only */
} ranks;

/* Collective over the ranks of `comm`. */
static hw_status measure(const hw_study *s, const ranks *r, hw_comm *comm, hw_trial *out, hw_error *err)
{
    hw_engine *e = NULL;
    hw_engine_options options = s->engine;
    int32_t prompt[MOST_PROMPT];
    hw_study_tokens(s, prompt, r->n_prompt, 1);
    const hw_trial_sequence seq = {.prompt = prompt, .n_prompt = r->n_prompt, .n_new = r->n_new};
    options.prefix_sharing = false;
    hw_status st = hw_study_engine(&e, s, comm, NULL, options, r->n_prompt + r->n_new, 1, r->n_prompt, err);
    if (!st) st = hw_trial_run(out, e, &seq, 1, err); /* warms up */
    hw_trial_free(out);
    if (!st) st = hw_trial_run(out, e, &seq, 1, err);
    hw_engine_destroy(e);
    return st;
}

static hw_status run(hw_study *s, void **data, hw_error *err)
{
    ranks *r = calloc(1, sizeof *r);
    hw_comm *alone = NULL;
    hw_status st = r ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "study: no memory");
    *data = r;
    if (r) {
        int half = s->model.max_seq_len / 2, most = s->n_new < half ? s->n_new : half;
        r->n_prompt = most < MOST_PROMPT ? most : MOST_PROMPT;
        r->n_new = most < MOST_NEW ? most : MOST_NEW;
    }
    st = hw_comm_agree(s->comm, st, err);
    /* Rank 0 alone holds the whole model; the others wait in hw_comm_agree. */
    if (!st && s->rank == 0) st = hw_comm_create_alone(&alone, err);
    if (!st && s->rank == 0) st = measure(s, r, alone, &r->one, err);
    hw_comm_destroy(alone);
    st = hw_comm_agree(s->comm, st, err);
    if (!st && s->n_ranks > 1) st = measure(s, r, s->comm, &r->all, err);
    return st;
}

static void release(void *data)
{
    ranks *r = data;
    if (!r) return;
    hw_trial_free(&r->one);
    hw_trial_free(&r->all);
    free(r);
}

/* ---- writing */

static double decode_ms(const hw_trial *t)
{
    double ms[MOST_NEW];
    int n = 0;
    for (int i = 1; i < t->n_steps; i++) ms[n++] = t->steps[i].seconds * 1e3;
    return n ? hw_summarise(ms, n).median : t->steps[0].seconds * 1e3;
}

static hw_status write_measured(hw_study *s, const ranks *r, hw_error *err)
{
    static const hw_column columns[] = {{"ranks", "ranks"},
                                        {"prefill_tokens_per_second", "prefill tokens/s"},
                                        {"decode_ms", "ms per token"},
                                        {"weight_bytes_all", "weights of all ranks (B)"},
                                        {"kv_bytes_all", "cache of all ranks (B)"},
                                        {"flops_all", "FLOPs of all ranks"},
                                        {"payload_bytes", "payload (B)"},
                                        {"sent_bytes_all", "sent by all ranks (B)"},
                                        {"same_tokens", "same tokens"}};
    hw_table t = hw_table_begin(columns, 9);
    for (int i = 0; i < (s->n_ranks > 1 ? 2 : 1); i++) {
        const hw_trial *trial = i ? &r->all : &r->one;
        hw_table_count(&t, (uint64_t)trial->info.n_ranks);
        hw_table_real(&t, r->n_prompt / trial->steps[0].seconds);
        hw_table_real(&t, decode_ms(trial));
        hw_table_count(&t, trial->weight_bytes);
        hw_table_count(&t, trial->kv_bytes);
        hw_table_count(&t, hw_trial_flops(trial));
        hw_table_count(&t, i ? hw_trial_payload(trial) : 0); /* one rank sends nothing */
        hw_table_count(&t, trial->sent_bytes);
        hw_table_text(&t, "%s", hw_trial_same_tokens(trial, &r->one) ? "yes" : "no");
    }
    return hw_study_table(s, &t, "ranks_measured", true, err);
}

/* The plan for one number of ranks. Each figure is the maximum over the ranks; payload is the same on all. */
typedef struct planned {
    uint64_t weights, kv_per_token, decode_payload, decode_sent, decode_messages, prefill_payload,
        prefill_sent;
    int min_heads, max_heads;
} planned;

static void keep_most(uint64_t *most, uint64_t n)
{
    if (n > *most) *most = n;
}

static hw_status plan(const hw_study *s, const ranks *r, int n_ranks, planned *out, hw_error *err)
{
    const hw_model *m = &s->model;
    *out = (planned){.min_heads = m->n_heads};
    for (int rank = 0; rank < n_ranks; rank++) {
        hw_shard shard;
        hw_status st = hw_shard_create(&shard, m, rank, n_ranks, err);
        if (st) return st;
        if (strcmp(hw_comm_backend(s->comm), "mpi")) shard.n_sharing = n_ranks;
        hw_step_traffic decode = {.sample_is_bound = false}, prefill = {.sample_is_bound = false};
        hw_plan_step_traffic(&decode, m, &shard, r->one.info.comm_dtype,
                             (hw_step_rows){.decode_rows = 1, .n_sampled = 1}, NULL);
        hw_plan_step_traffic(&prefill, m, &shard, r->one.info.comm_dtype,
                             (hw_step_rows){.prefill_rows = r->n_prompt, .n_sampled = 1}, NULL);
        hw_traffic d = {.calls = 0}, p = {.calls = 0};
        for (int site = 0; site < HW_N_SITES; site++) {
            hw_traffic_add(&d, hw_step_traffic_site(&decode, (hw_site)site));
            hw_traffic_add(&p, hw_step_traffic_site(&prefill, (hw_site)site));
        }
        keep_most(&out->weights, hw_weights_estimate(m, &shard, hw_format_plain(s->dtype)));
        keep_most(&out->kv_per_token, 2 * (uint64_t)m->n_layers * (uint64_t)shard.heads.n_kv_heads *
                                          (uint64_t)m->head_dim * hw_dtype_size(r->one.info.kv_dtype));
        keep_most(&out->decode_payload, d.payload_bytes);
        keep_most(&out->decode_sent, d.sent_bytes);
        keep_most(&out->decode_messages, d.messages);
        keep_most(&out->prefill_payload, p.payload_bytes);
        keep_most(&out->prefill_sent, p.sent_bytes);
        if (shard.heads.n_heads < out->min_heads) out->min_heads = shard.heads.n_heads;
        if (shard.heads.n_heads > out->max_heads) out->max_heads = shard.heads.n_heads;
    }
    return HW_OK;
}

static hw_status write_plan(hw_study *s, const ranks *r, hw_error *err)
{
    static const hw_column columns[] = {{"ranks", "ranks"},
                                        {"heads", "query heads of a rank"},
                                        {"weight_bytes", "weights (B)"},
                                        {"kv_bytes_per_token", "K + V per token (B)"},
                                        {"decode_payload_bytes", "decode: payload (B)"},
                                        {"decode_sent_bytes", "sent (B)"},
                                        {"decode_messages", "messages"},
                                        {"prefill_payload_bytes", "prefill: payload (B)"},
                                        {"prefill_sent_bytes", "sent (B)"}};
    hw_table t = hw_table_begin(columns, 9);
    hw_status st = HW_OK;
    for (int i = 0; i < N_COUNTS && rank_counts[i] <= s->model.n_heads && !st; i++) {
        planned p;
        if ((st = plan(s, r, rank_counts[i], &p, err))) break;
        hw_table_count(&t, (uint64_t)rank_counts[i]);
        if (p.min_heads == p.max_heads) hw_table_count(&t, (uint64_t)p.max_heads);
        else hw_table_text(&t, "%d to %d", p.min_heads, p.max_heads);
        hw_table_count(&t, p.weights);
        hw_table_count(&t, p.kv_per_token);
        hw_table_count(&t, p.decode_payload);
        hw_table_count(&t, p.decode_sent);
        hw_table_count(&t, p.decode_messages);
        hw_table_count(&t, p.prefill_payload);
        hw_table_count(&t, p.prefill_sent);
    }
    if (!st) return hw_study_table(s, &t, "ranks_plan", true, err);
    hw_table_free(&t);
    return st;
}

static hw_status draw(hw_study *s, const ranks *r, hw_error *err)
{
    const char *groups[N_COUNTS];
    static const char *const names[N_COUNTS] = {"1 rank", "2 ranks", "4 ranks", "8 ranks", "16 ranks"};
    double payload[N_COUNTS], sent[N_COUNTS], kv[N_COUNTS];
    hw_study_plot plot;
    int n = 0;
    hw_status st = HW_OK;
    for (; n < N_COUNTS && rank_counts[n] <= s->model.n_heads && !st; n++) {
        planned p;
        st = plan(s, r, rank_counts[n], &p, err);
        groups[n] = names[n];
        payload[n] = (double)p.decode_payload;
        sent[n] = (double)p.decode_sent;
        kv[n] = (double)p.kv_per_token;
    }
    if (st) return st;
    st = hw_study_plot_begin(s, &plot, "ranks", "A decode step on other numbers of ranks (plan)", "",
                             "bytes per rank", err);
    if (!st) st = hw_plot_bars(&plot.plot, "payload", payload, n, err);
    if (!st) st = hw_plot_bars(&plot.plot, "sent by the rank that sends most", sent, n, err);
    if (!st) st = hw_plot_bars(&plot.plot, "K and V that it adds to its own cache", kv, n, err);
    return st ? st : hw_study_plot_bars(s, &plot, groups, n, err);
}

static hw_status write(hw_study *s, const void *data, hw_error *err)
{
    const ranks *r = data;
    hw_study_text(s, "Measured: %d prompt tokens, %d new ones.%s\n\n", r->n_prompt, r->n_new,
                  s->n_ranks > 1
                      ? ""
                      : " This study ran on one rank; `mpirun -np N headway study` also measures N ranks.");
    hw_status st = write_measured(s, r, err);
    if (st) return st;
    hw_study_text(s,
                  "Planned, for a decode step of one row and a prefill step of %d rows; figures are "
                  "maxima over the ranks. Payload is "
                  "the same for any number of ranks above one; what is sent for it depends on the algorithm. "
                  "A model with %d query heads runs on "
                  "at most as many ranks.\n\n",
                  r->n_prompt, s->model.n_heads);
    if ((st = write_plan(s, r, err))) return st;
    return draw(s, r, err);
}

const hw_experiment hw_experiment_ranks = {"From one rank to many", run, write, release};
