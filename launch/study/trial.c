#include "launch/study/trial.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "launch/session.h"
#include "runtime/base/clock.h"
#include "runtime/scheduler.h"

typedef struct run {
    hw_trial *t;
    hw_engine *e;
    const hw_trial_sequence *sequences;
    hw_scheduler *scheduler;
    hw_request **requests; /* [n_seqs], borrowed; NULL before a sequence joins and after it has left */
    int capacity;          /* maximum number of steps */
    hw_shard shard;        /* for the planned traffic */
    hw_work_table work_before;
    uint64_t payload_before;
    hw_error *err;
} run;

/* ---- allocation */

static hw_status prepare(run *r, int n_seqs)
{
    const hw_scheduler_options step_by_step = {.no_device_loop = true};
    const hw_engine_info info = hw_engine_info_get(r->e);
    hw_trial *t = r->t;
    size_t n = (size_t)n_seqs;
    *t = (hw_trial){.info = info, .n_seqs = n_seqs};
    t->info.device = t->info.path = t->info.device_warning = t->info.device_note = t->info.gpu_note =
        NULL; /* end with the engine */
    t->tokens = calloc(n, sizeof *t->tokens);
    r->requests = calloc(n, sizeof(hw_request *));
    for (int i = 0; i < n_seqs; i++) {
        int end = r->sequences[i].first_step + r->sequences[i].n_new;
        if (end > r->capacity) r->capacity = end;
    }
    t->steps = calloc((size_t)r->capacity, sizeof *t->steps);
    if (!t->tokens || !r->requests || !t->steps)
        return hw_fail(r->err, HW_ERR_NO_MEMORY, "study: no memory for %d steps", r->capacity);
    hw_status st = HW_OK;
    if (info.n_ranks == 1 && info.n_heads > 1)
        st = hw_shard_create(&r->shard, hw_engine_model(r->e), 0, 2, r->err);
    else r->shard = *hw_engine_shard(r->e);
    return st ? st : hw_scheduler_create(&r->scheduler, r->e, &step_by_step, r->err);
}

static void clean_up(run *r)
{
    hw_scheduler_destroy(r->scheduler);
    free(r->requests);
}

/* ---- one step */

static uint64_t metered_payload(hw_comm *comm)
{
    uint64_t n = 0;
    for (int site = 0; site < HW_N_SITES; site++)
        for (int phase = 0; phase < HW_N_PHASES && hw_site_is_predicted((hw_site)site); phase++)
            n += hw_meter_site(hw_comm_meter(comm), (hw_site)site, (hw_phase)phase).payload_bytes;
    return n;
}

/* Submits the sequences that join at this step. */
static hw_status submit(run *r, int number)
{
    hw_status st = HW_OK;
    for (int i = 0; i < r->t->n_seqs && !st; i++) {
        const hw_trial_sequence *s = &r->sequences[i];
        const hw_generate_options o = {.max_new_tokens = s->n_new};
        if (number == s->first_step)
            st = hw_scheduler_submit(r->scheduler, &r->requests[i], s->prompt, s->n_prompt, &o, r->err);
    }
    return st;
}

static hw_status compare_with_plan(const run *r, hw_trial_step *step)
{
    hw_step_traffic planned = {.sample_is_bound = false};
    uint64_t bytes = 0;
    /* Phases are added up, so their split does not matter. */
    hw_plan_step_traffic(&planned, hw_engine_model(r->e), &r->shard, r->t->info.comm_dtype,
                         (hw_step_rows){.prefill_rows = step->rows, .n_sampled = step->n_sampled}, NULL);
    for (int site = 0; site < HW_N_SITES; site++) {
        uint64_t of_site = hw_step_traffic_site(&planned, (hw_site)site).payload_bytes;
        r->t->payload_bytes[site] += of_site;
        bytes += of_site;
    }
    if (r->t->info.n_ranks == 1) step->payload_bytes = bytes;
    if (step->payload_bytes == bytes) return HW_OK;
    return hw_fail(r->err, HW_ERR_FAILED,
                   "a step of %d rows had a payload of %" PRIu64 " B, planned were %" PRIu64
                   " B: something was sent that is not in the plan",
                   step->rows, step->payload_bytes, bytes);
}

static hw_status account(run *r, hw_trial_step *step)
{
    const hw_work_table *work = hw_engine_work(r->e);
    for (int site = 0; site < HW_N_WORK_SITES; site++)
        for (int phase = 0; phase < HW_N_PHASES; phase++) {
            const hw_work *now = &work->site[site][phase], *before = &r->work_before.site[site][phase];
            step->flops[site] +=
                (now->flops - now->replicated_flops) - (before->flops - before->replicated_flops);
        }
    r->work_before = *work;
    uint64_t payload = metered_payload(hw_engine_comm(r->e));
    step->payload_bytes = payload - r->payload_before;
    r->payload_before = payload;
    return compare_with_plan(r, step);
}

/* Takes the tokens of a sequence that ends. The first one that ends in a step has the use of the cache before any
 * blocks were released. */
static hw_status keep(run *r, const hw_request *request, hw_trial_step *step, bool first)
{
    const hw_generate_result *result = hw_request_result(request);
    hw_status st = hw_request_status(request, r->err);
    int which = 0;
    while (r->requests[which] != request) which++;
    for (size_t i = 0; i < result->tokens.n && !st; i++)
        st = hw_tokens_push(&r->t->tokens[which], result->tokens.ids[i], r->err);
    r->requests[which] = NULL;
    if (first) step->kv = result->kv;
    return st;
}

static hw_status keep_ended(run *r, hw_trial_step *step)
{
    hw_status st = HW_OK;
    bool first = true;
    step->kv = hw_engine_kv_usage(r->e);
    for (hw_request *ended; !st && (ended = hw_scheduler_ended(r->scheduler)); first = false) {
        st = keep(r, ended, step, first);
        hw_request_destroy(ended);
    }
    return st;
}

/* A step may have no sequence, between the end of one and the start of a later one. */
static hw_status one_step(run *r, int number)
{
    hw_step_report report;
    hw_trial_step *step = &r->t->steps[r->t->n_steps];
    *step = (hw_trial_step){.rows = 0};
    hw_status st = submit(r, number);
    const uint64_t start = hw_clock_ns();
    if (!st) st = hw_scheduler_step(r->scheduler, &report, r->err);
    if (st || !report.n_rows) return st;
    step->seconds = hw_seconds_since(start);
    step->rows = report.n_rows;
    step->n_sampled = report.n_sampled;
    step->length = report.longest;
    step->decode = !report.n_prefill_rows;
    r->t->n_steps++;
    st = account(r, step);
    return st ? st : keep_ended(r, step);
}

/* An error of one rank cannot be agreed on here, because others may be in a collective of the step. */
static hw_status all_steps(run *r)
{
    hw_comm *comm = hw_engine_comm(r->e);
    hw_session alone = {.comm = comm, .rank = hw_comm_rank(comm)};
    hw_status st = HW_OK;
    for (int number = 0; number < r->capacity && !st; number++) st = one_step(r, number);
    hw_session_end_if_alone(&alone, st, r->err);
    return st;
}

/* ---- over all ranks */

static hw_status sum_counts(hw_comm *comm, uint64_t *counts, size_t n, hw_error *err)
{
    return hw_comm_all_reduce(comm, (hw_tag){.site = HW_SITE_CONTROL}, counts, n, HW_U64, HW_SUM, err);
}

static hw_status gather(run *r)
{
    hw_trial *t = r->t;
    hw_comm *comm = hw_engine_comm(r->e);
    uint64_t n_sent = 0;
    for (int site = 0; site < HW_N_SITES; site++) {
        if (!hw_site_is_predicted((hw_site)site)) continue;
        hw_traffic metered = hw_meter_site(hw_comm_meter(comm), (hw_site)site, HW_PREFILL);
        hw_traffic_add(&metered, hw_meter_site(hw_comm_meter(comm), (hw_site)site, HW_DECODE));
        n_sent += metered.sent_bytes;
        if (t->info.n_ranks > 1 && metered.payload_bytes != t->payload_bytes[site])
            return hw_fail(r->err, HW_ERR_FAILED,
                           "site %s had a payload of %" PRIu64 " B, planned were %" PRIu64 " B",
                           hw_site_name((hw_site)site), metered.payload_bytes, t->payload_bytes[site]);
    }
    const hw_work_table *work = hw_engine_work(r->e);
    uint64_t sums[4] = {n_sent, t->info.weight_bytes, t->info.step_weight_bytes, t->info.kv_bytes};
    hw_status st = sum_counts(comm, sums, 4, r->err);
    for (int i = 0; i < t->n_steps && !st; i++)
        st = sum_counts(comm, t->steps[i].flops, HW_N_WORK_SITES, r->err);
    for (int site = 0; site < HW_N_WORK_SITES; site++)
        for (int phase = 0; phase < HW_N_PHASES && !st; phase++) {
            hw_work w = work->site[site][phase];
            uint64_t all[4] = {w.flops - w.replicated_flops, w.weight_bytes, w.kv_bytes, w.activation_bytes};
            st = sum_counts(comm, all, 4, r->err);
            t->work[site][phase] = (hw_work){
                .flops = all[0], .weight_bytes = all[1], .kv_bytes = all[2], .activation_bytes = all[3]};
        }
    t->sent_bytes = sums[0];
    t->weight_bytes = sums[1];
    t->step_weight_bytes = sums[2];
    t->kv_bytes = sums[3];
    return st;
}

hw_status hw_trial_run(hw_trial *out, hw_engine *e, const hw_trial_sequence *sequences, int n_seqs,
                       hw_error *err)
{
    run r = {.t = out, .e = e, .sequences = sequences, .err = err};
    hw_comm *comm = hw_engine_comm(e);
    hw_status st = hw_comm_agree(comm, prepare(&r, n_seqs), err);
    hw_meter_reset(hw_comm_meter(comm));
    hw_engine_work_reset(e);
    if (!st) st = all_steps(&r);
    if (!st) st = gather(&r);
    clean_up(&r);
    return st;
}

void hw_trial_free(hw_trial *t)
{
    for (int i = 0; t->tokens && i < t->n_seqs; i++) hw_tokens_free(&t->tokens[i]);
    free(t->tokens);
    free(t->steps);
    *t = (hw_trial){.n_seqs = 0};
}

/* ---- sums */

uint64_t hw_trial_step_flops(const hw_trial_step *s)
{
    uint64_t n = 0;
    for (int site = 0; site < HW_N_WORK_SITES; site++) n += s->flops[site];
    return n;
}

uint64_t hw_trial_flops(const hw_trial *t)
{
    uint64_t n = 0;
    for (int i = 0; i < t->n_steps; i++) n += hw_trial_step_flops(&t->steps[i]);
    return n;
}

uint64_t hw_trial_rows(const hw_trial *t)
{
    uint64_t n = 0;
    for (int i = 0; i < t->n_steps; i++) n += (uint64_t)t->steps[i].rows;
    return n;
}

uint64_t hw_trial_layer_payload(const hw_trial *t)
{
    return t->payload_bytes[HW_SITE_EMBED] + t->payload_bytes[HW_SITE_ATTN] + t->payload_bytes[HW_SITE_MLP];
}

uint64_t hw_trial_payload(const hw_trial *t)
{
    return hw_trial_layer_payload(t) + t->payload_bytes[HW_SITE_SAMPLE];
}

double hw_trial_seconds(const hw_trial *t)
{
    double s = 0;
    for (int i = 0; i < t->n_steps; i++) s += t->steps[i].seconds;
    return s;
}

bool hw_trial_same_tokens(const hw_trial *a, const hw_trial *b)
{
    if (a->n_seqs != b->n_seqs) return false;
    for (int i = 0; i < a->n_seqs; i++)
        if (a->tokens[i].n != b->tokens[i].n ||
            memcmp(a->tokens[i].ids, b->tokens[i].ids, a->tokens[i].n * sizeof *a->tokens[i].ids))
            return false;
    return true;
}
