#include <stdlib.h>
#include <time.h>

#include "launch/bench/bench.h"
#include "runtime/base/clock.h"
#include "runtime/scheduler.h"

const char *hw_bench_site_name(hw_bench_site site)
{
    static const char *const names[HW_BENCH_N_SITES] = {"embed",
                                                        "qkv",
                                                        "attention",
                                                        "wo",
                                                        "mlp",
                                                        "head",
                                                        "norms",
                                                        "all-reduce embed",
                                                        "all-reduce attn",
                                                        "all-reduce mlp",
                                                        "sample",
                                                        "rest"};
    return names[site];
}

/* ---- cores */

static uint64_t clock_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

hw_busy hw_busy_now(void)
{
    return (hw_busy){hw_clock_ns(), clock_of(CLOCK_THREAD_CPUTIME_ID), clock_of(CLOCK_PROCESS_CPUTIME_ID)};
}

double hw_busy_since(hw_busy start, int n_threads)
{
    const hw_busy now = hw_busy_now();
    const double wall = (double)(now.wall_ns - start.wall_ns);
    if (wall <= 0) return 1;
    const double thread = (double)(now.thread_ns - start.thread_ns) / wall;
    const double all = n_threads ? (double)(now.process_ns - start.process_ns) / (wall * n_threads) : thread;
    return thread < all ? thread : all;
}

hw_status hw_bench_over_ranks(const hw_bench *b, double *sums, int n, double *least)
{
    enum { MOST = HW_N_PEAKS + 4 };
    const hw_tag tag = {.site = HW_SITE_CONTROL};
    const int n_ranks = hw_comm_n_ranks(b->s->comm), width = n + 1;
    double mine[MOST], *all = malloc((size_t)n_ranks * MOST * sizeof *all);
    hw_status st = all ? HW_OK : hw_fail(b->err, HW_ERR_NO_MEMORY, "bench: no memory");
    st = hw_comm_agree(b->s->comm, st, b->err);
    for (int i = 0; i < n; i++) mine[i] = sums[i], sums[i] = 0;
    mine[n] = least ? *least : 0;
    if (!st) st = hw_comm_all_gather(b->s->comm, tag, mine, (size_t)width * sizeof *mine, all, b->err);
    for (int r = 0; r < n_ranks && !st; r++) {
        for (int i = 0; i < n; i++) sums[i] += all[r * width + i];
        if (least && all[r * width + n] < *least) *least = all[r * width + n];
    }
    free(all);
    return st;
}

/* ---- requests */

/* Of prompts. Token ids without meaning, different from each other: a row of the table that is in cache already would be
 * too kind. */
static int32_t token(const hw_bench *b, int seq, int position)
{
    const unsigned i = (unsigned)position * 4099u + (unsigned)seq * 7919u;
    return (int32_t)(i * 2654435761u % (unsigned)hw_engine_info_get(b->s->engine).vocab_size);
}

/* A prompt of n tokens, the first of which is at position `first`. */
static hw_status submit(hw_bench *b, int seq, int first, int n, const hw_generate_options *o)
{
    for (int i = 0; i < n; i++) b->tokens[i] = token(b, seq, first + i);
    return hw_scheduler_submit(b->scheduler, NULL, b->tokens, n, o, b->err);
}

/* What is measured is all requests at once. */
static hw_status check_all_run(const hw_bench *b)
{
    const int n_waiting = hw_scheduler_n_waiting(b->scheduler);
    if (!n_waiting) return HW_OK;
    return hw_fail(
        b->err, HW_ERR_CACHE_FULL,
        "the KV cache has no room for all sequences of a test at once, %d of them wait; run fewer, or "
        "raise --kv-cache-memory",
        n_waiting);
}

/* ---- what runs start from */

hw_status hw_bench_start_make(hw_bench_start *out, hw_bench *b, int depth)
{
    const hw_generate_options kept = {.prompt_only = true, .keep = true};
    int n = 0;
    *out = (hw_bench_start){.depth = depth};
    if (!depth) return HW_OK;
    for (int i = 0; i < b->n_tests; i++)
        if (b->tests[i].depth == depth && b->tests[i].n_seqs > n) n = b->tests[i].n_seqs;
    out->prefixes = calloc((size_t)n, sizeof(hw_request *));
    hw_status st =
        out->prefixes ? HW_OK : hw_fail(b->err, HW_ERR_NO_MEMORY, "bench: no memory for %d sequences", n);
    for (int i = 0; i < n && !st; i++) st = submit(b, i, 0, depth, &kept);
    st = hw_comm_agree(b->s->comm, st, b->err);
    while (!st && out->n < n) {
        hw_request *ended;
        st = hw_scheduler_poll(b->scheduler, &ended, b->err);
        if (st) break;
        out->prefixes[out->n++] = ended;
        st = hw_request_status(ended, b->err);
    }
    return st;
}

void hw_bench_start_free(hw_bench_start *s)
{
    for (int i = 0; i < s->n; i++) hw_request_destroy(s->prefixes[i]);
    free(s->prefixes);
    *s = (hw_bench_start){0};
}

/* ---- one run */

/* What the steps of a run add up to, on this rank. */
typedef struct steps_sum {
    uint64_t n, sample_ns;
} steps_sum;

static void read_sites(const hw_bench *b, const steps_sum *sum, uint64_t ticks, hw_bench_run *out)
{
    static const struct {
        hw_bench_site to;
        hw_work_site from;
    } ops[] = {{HW_BENCH_EMBED, HW_WORK_EMBED},      {HW_BENCH_QKV, HW_WORK_QKV},
               {HW_BENCH_ATTENTION, HW_WORK_SCORES}, {HW_BENCH_WO, HW_WORK_WO},
               {HW_BENCH_MLP, HW_WORK_MLP},          {HW_BENCH_HEAD, HW_WORK_HEAD},
               {HW_BENCH_NORMS, HW_WORK_OTHER}};
    static const struct {
        hw_bench_site to;
        hw_site from;
    } reduces[] = {{HW_BENCH_EMBED_REDUCE, HW_SITE_EMBED},
                   {HW_BENCH_ATTN_REDUCE, HW_SITE_ATTN},
                   {HW_BENCH_MLP_REDUCE, HW_SITE_MLP}};
    const hw_work_table *work = hw_engine_work(b->s->engine);
    const hw_meter *meter = hw_comm_meter(b->s->comm);
    double rest = out->seconds;
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        out->site[ops[i].to] = ticks ? (double)work->ticks[ops[i].from] / (double)ticks * out->seconds : 0;
    for (size_t i = 0; i < sizeof reduces / sizeof *reduces; i++)
        for (int phase = 0; phase < HW_N_PHASES; phase++)
            out->site[reduces[i].to] +=
                1e-9 * (double)hw_meter_site(meter, reduces[i].from, (hw_phase)phase).time_ns;
    out->site[HW_BENCH_SAMPLE] = 1e-9 * (double)sum->sample_ns;
    for (int i = 0; i < HW_BENCH_REST; i++) rest -= out->site[i];
    out->site[HW_BENCH_REST] = rest > 0 ? rest : 0;
}

static uint64_t n_launches(const hw_bench *b)
{
    const hw_device *d = hw_engine_device(b->s->engine);
    return d->k->counters ? d->k->counters->n_launches(d) : 0;
}

static hw_status read_work(const hw_bench *b, hw_bench_run *out)
{
    hw_work w = {0};
    for (int phase = 0; phase < HW_N_PHASES; phase++)
        hw_work_add(&w, hw_work_phase(hw_engine_work(b->s->engine), (hw_phase)phase));
    double sums[2] = {(double)w.flops, (double)(w.weight_bytes + w.kv_bytes)};
    hw_status st = hw_bench_over_ranks(b, sums, 2, &out->busy);
    out->flops = sums[0];
    out->bytes = sums[1];
    return st;
}

/* One token for every request of a prefill; of a decode one for each step, and at depth 0 one before the first. */
static hw_status submit_all(hw_bench *b, const hw_bench_test *t, const hw_bench_start *start)
{
    hw_generate_options o = {.max_new_tokens = t->decode ? t->n + !t->depth : 1, .past_context = true};
    hw_status st = HW_OK;
    for (int i = 0; i < t->n_seqs && !st; i++) {
        o.prefix = t->depth ? start->prefixes[i] : NULL;
        st = submit(b, i, t->depth, t->decode ? 1 : t->n, &o);
    }
    return st;
}

static hw_status step(hw_bench *b, steps_sum *sum, int *n_sampled)
{
    hw_step_report report;
    hw_status st = hw_scheduler_step(b->scheduler, &report, b->err);
    sum->n += report.n_rows > 0;
    sum->sample_ns += report.sample_ns;
    *n_sampled = report.n_sampled;
    return st ? st : check_all_run(b);
}

/* Sequences are there, and what a decode at depth 0 goes on from. */
static hw_status prepare(hw_bench *b, const hw_bench_test *t, const hw_bench_start *start)
{
    steps_sum unused = {0};
    int n_sampled;
    hw_status st = hw_comm_agree(b->s->comm, submit_all(b, t, start), b->err);
    if (!st) st = hw_scheduler_admit(b->scheduler, b->err);
    if (!st) st = check_all_run(b);
    if (!st && t->decode && !t->depth) st = step(b, &unused, &n_sampled);
    return st;
}

/* *first_token: the mean of the seconds until each sequence has its first token. */
static hw_status timed_prefill(hw_bench *b, const hw_bench_test *t, double *first_token, steps_sum *sum)
{
    const uint64_t start = hw_clock_ns();
    hw_status st = HW_OK;
    double seconds = 0;
    while (hw_scheduler_n_running(b->scheduler) && !st) {
        int n_sampled;
        st = step(b, sum, &n_sampled);
        seconds += n_sampled * hw_seconds_since(start);
    }
    *first_token = seconds / t->n_seqs;
    return st;
}

/* steps [t->n]: seconds of each. */
static hw_status timed_decode(hw_bench *b, const hw_bench_test *t, double *steps, steps_sum *sum)
{
    hw_status st = HW_OK;
    for (int i = 0; i < t->n && !st; i++) {
        const uint64_t start = hw_clock_ns();
        int n_sampled;
        st = step(b, sum, &n_sampled);
        steps[i] = hw_seconds_since(start);
    }
    return st;
}

/* All of them, with what went wrong with one of them. */
static hw_status end_requests(hw_bench *b, hw_status st)
{
    for (hw_request *r; (r = hw_scheduler_ended(b->scheduler)); hw_request_destroy(r))
        if (!st) st = hw_request_status(r, b->err);
    return st;
}

hw_status hw_bench_run_once(hw_bench *b, const hw_bench_test *t, const hw_bench_start *start,
                            hw_bench_run *out, double *steps)
{
    steps_sum sum = {0};
    *out = (hw_bench_run){.busy = 1};
    hw_status st = prepare(b, t, start);
    if (!st) st = hw_comm_agree(b->s->comm, st, b->err); /* all ranks start together */
    hw_engine_work_reset(b->s->engine);
    hw_meter_reset(hw_comm_meter(b->s->comm));
    const uint64_t launched = n_launches(b);
    const hw_busy busy = hw_busy_now();
    const uint64_t ticks = hw_clock_ticks();
    if (!st) st = t->decode ? timed_decode(b, t, steps, &sum) : timed_prefill(b, t, &out->first_token, &sum);
    out->seconds = hw_seconds_since(busy.wall_ns);
    if (b->judged) out->busy = hw_busy_since(busy, hw_engine_info_get(b->s->engine).n_threads);
    read_sites(b, &sum, hw_clock_ticks() - ticks, out);
    if (sum.n) out->launches = (double)(n_launches(b) - launched) / (double)sum.n;
    st = end_requests(b, st);
    return st ? st : read_work(b, out);
}
