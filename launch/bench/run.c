#include <stdlib.h>
#include <time.h>

#include "launch/bench/bench.h"
#include "runtime/base/clock.h"
#include "runtime/device/device_loop.h"

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

/* ---- sequences */

/* Token ids without meaning, different from each other: a row of the table that is in cache already would be
 * too kind. */
static int32_t token(const hw_bench *b, int seq, int position)
{
    const unsigned i = (unsigned)position * 4099u + (unsigned)seq * 7919u;
    return (int32_t)(i * 2654435761u % (unsigned)hw_engine_info_get(b->s->engine).vocab_size);
}

typedef struct rows {
    hw_bench *b;
    hw_batch *batch;
    hw_device_loop *loop; /* NULL: tokens come to the host, and ours go to the device */
    hw_sequence **seqs;   /* [n_seqs] */
    int n_seqs;
    int32_t *tokens;     /* [max_batch_rows] */
    hw_sampling *greedy; /* [n_seqs] */
    int32_t *next;       /* [n_seqs] */
    uint64_t sample_ns, n_steps;
} rows;

static void end_rows(rows *r)
{
    for (int i = 0; r->seqs && i < r->n_seqs; i++) hw_sequence_destroy(r->seqs[i]);
    hw_device_loop_destroy(r->loop);
    hw_batch_destroy(r->batch);
    free(r->seqs);
    free(r->tokens);
    free(r->greedy);
    free(r->next);
}

static hw_status begin_rows(rows *r, hw_bench *b, int n_seqs, const hw_bench_start *start)
{
    hw_engine *e = b->s->engine;
    *r = (rows){.b = b, .n_seqs = n_seqs};
    r->seqs = calloc((size_t)n_seqs, sizeof(hw_sequence *));
    r->tokens = calloc((size_t)hw_engine_info_get(e).max_batch_rows, sizeof *r->tokens);
    r->greedy = calloc((size_t)n_seqs, sizeof *r->greedy);
    r->next = calloc((size_t)n_seqs, sizeof *r->next);
    if (!r->seqs || !r->tokens || !r->greedy || !r->next)
        return hw_fail(b->err, HW_ERR_NO_MEMORY, "bench: no memory for %d sequences", n_seqs);
    hw_status st = hw_batch_create(&r->batch, e, b->err);
    if (!st && hw_device_loop_possible(e, r->greedy, n_seqs)) st = hw_device_loop_create(&r->loop, e, b->err);
    for (int i = 0; i < n_seqs && !st; i++)
        st = start && start->seqs ? hw_sequence_fork(&r->seqs[i], start->seqs[i], b->err)
                                  : hw_sequence_create(&r->seqs[i], e, 0, b->err);
    return st;
}

/* The next `n` tokens of a sequence. */
static hw_status add_tokens(rows *r, int seq, int n, hw_logits_wanted wanted)
{
    const int first = hw_sequence_n_tokens(r->seqs[seq]);
    for (int i = 0; i < n; i++) r->tokens[i] = token(r->b, seq, first + i);
    return hw_batch_add(r->batch, r->seqs[seq], r->tokens, n, wanted, r->b->err);
}

static hw_status run_rows(rows *r)
{
    hw_engine *e = r->b->s->engine;
    hw_status st = hw_engine_step(e, r->batch, r->b->err);
    r->n_steps++;
    if (st || !hw_batch_n_logits(r->batch)) return st;
    const uint64_t start = hw_clock_ns();
    st = hw_engine_sample(e, r->batch, r->greedy, 0, r->next, r->b->err);
    r->sample_ns += hw_clock_ns() - start;
    return st;
}

/* One step: a token of every sequence. */
static hw_status decode_step(rows *r)
{
    hw_status st = HW_OK;
    hw_batch_clear(r->batch);
    for (int i = 0; i < r->n_seqs && !st; i++) st = add_tokens(r, i, 1, HW_LOGITS_LAST);
    return st ? st : run_rows(r);
}

/* `n` tokens of every sequence, as many rows at a time as a step takes. With `first_token`, the mean of the
 * seconds from now until each sequence has its first token is written there; without, nothing is sampled. */
static hw_status prefill(rows *r, int n, double *first_token)
{
    const int most = hw_engine_info_get(r->b->s->engine).max_batch_rows;
    const uint64_t start = hw_clock_ns();
    hw_status st = HW_OK;
    double sum = 0;
    for (int seq = 0, done = 0; seq < r->n_seqs && !st;) {
        int n_finished = 0;
        hw_batch_clear(r->batch);
        while (seq < r->n_seqs && hw_batch_n_rows(r->batch) < most && !st) {
            const int room = most - hw_batch_n_rows(r->batch), left = n - done;
            const int now = left < room ? left : room;
            const bool last = now == left && first_token;
            st = add_tokens(r, seq, now, last ? HW_LOGITS_LAST : HW_LOGITS_NONE);
            n_finished += last;
            done = now == left ? 0 : done + now;
            if (now < left) break; /* a sequence is in a batch once */
            seq++;
        }
        if (!st) st = run_rows(r);
        sum += n_finished * hw_seconds_since(start);
    }
    if (first_token) *first_token = sum / r->n_seqs;
    return st;
}

/* ---- what runs start from */

hw_status hw_bench_start_make(hw_bench_start *out, hw_bench *b, int depth)
{
    rows r;
    *out = (hw_bench_start){.depth = depth};
    if (!depth) return HW_OK;
    int n_seqs = 0;
    for (int i = 0; i < b->n_tests; i++)
        if (b->tests[i].depth == depth && b->tests[i].n_seqs > n_seqs) n_seqs = b->tests[i].n_seqs;
    hw_status st = hw_comm_agree(b->s->comm, begin_rows(&r, b, n_seqs, NULL), b->err);
    if (!st) st = prefill(&r, depth, NULL);
    if (!st) { /* they outlive the rest */
        out->seqs = r.seqs;
        out->n_seqs = n_seqs;
        r.seqs = NULL;
    }
    end_rows(&r);
    return st;
}

void hw_bench_start_free(hw_bench_start *s)
{
    for (int i = 0; i < s->n_seqs; i++) hw_sequence_destroy(s->seqs[i]);
    free(s->seqs);
    *s = (hw_bench_start){0};
}

/* ---- one run */

static void read_sites(const hw_bench *b, const rows *r, uint64_t ticks, hw_bench_run *out)
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
    out->site[HW_BENCH_SAMPLE] = 1e-9 * (double)r->sample_ns;
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

/* As text is generated where the device can: a step takes as long as it is from one token to the next. */
static hw_status timed_fed(rows *r, int n, double *steps)
{
    int n_discarded;
    for (int i = 0; i < r->n_seqs; i++) r->next[i] = token(r->b, i, hw_sequence_n_tokens(r->seqs[i]));
    uint64_t start = hw_clock_ns();
    hw_status st = hw_device_loop_begin(r->loop, r->seqs, r->next, r->greedy, r->n_seqs, 0, n, r->b->err);
    for (int i = 0; i < n && !st; i++) {
        st = hw_device_loop_next(r->loop, r->next, r->b->err);
        const uint64_t now = hw_clock_ns();
        steps[i] = 1e-9 * (double)(now - start);
        start = now;
        r->n_steps++;
    }
    return st ? st : hw_device_loop_end(r->loop, &n_discarded, r->b->err);
}

static hw_status timed(rows *r, const hw_bench_test *t, hw_bench_run *out, double *steps)
{
    if (!t->decode) return prefill(r, t->n, &out->first_token);
    if (r->loop) return timed_fed(r, t->n, steps);
    hw_status st = HW_OK;
    for (int i = 0; i < t->n && !st; i++) {
        const uint64_t start = hw_clock_ns();
        st = decode_step(r);
        steps[i] = hw_seconds_since(start);
    }
    return st;
}

hw_status hw_bench_run_once(hw_bench *b, const hw_bench_test *t, const hw_bench_start *start,
                            hw_bench_run *out, double *steps)
{
    rows r;
    *out = (hw_bench_run){.busy = 1};
    hw_status st = hw_comm_agree(b->s->comm, begin_rows(&r, b, t->n_seqs, start), b->err);
    if (!st && t->decode && !t->depth) st = decode_step(&r);
    if (!st) st = hw_comm_agree(b->s->comm, st, b->err); /* all ranks start together */
    hw_engine_work_reset(b->s->engine);
    hw_meter_reset(hw_comm_meter(b->s->comm));
    r.sample_ns = r.n_steps = 0;
    const uint64_t launched = n_launches(b);
    const hw_busy busy = hw_busy_now();
    const uint64_t ticks = hw_clock_ticks();
    if (!st) st = timed(&r, t, out, steps);
    out->seconds = hw_seconds_since(busy.wall_ns);
    if (b->judged) out->busy = hw_busy_since(busy, hw_engine_info_get(b->s->engine).n_threads);
    read_sites(b, &r, hw_clock_ticks() - ticks, out);
    if (r.n_steps) out->launches = (double)(n_launches(b) - launched) / (double)r.n_steps;
    end_rows(&r);
    return st ? st : read_work(b, out);
}
