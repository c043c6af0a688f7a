/* Requests in a crowd, on as many ranks as it is started on: test_scheduler.c starts it.
 *
 *   scheduler_worker crowd FOLDER POLICY requests of all lengths and settings, some cancelled, in a cache in which
 *                                        they have not all room: each has the tokens that it has alone, in a cache of its own
 *   scheduler_worker prefix FOLDER POLICY prompts that go on from one that is kept have the tokens that they have whole, and only
 *                                        what is their own is computed; a prompt that fills the context has a token after it
 *   scheduler_worker fed FOLDER DEVICE   steps that follow one another on a device: each request has the tokens that it has step
 *                                        by step, behind a prefix from its first
 *   scheduler_worker nan FOLDER TOKEN    whose input TOKEN is NaN: the requests that hold it fail, and no other
 *   scheduler_worker small FOLDER        a request that the cache has no room for at all fails, and no other
 *
 * Exit code 0 when everything holds on every rank; otherwise standard error says what does not. Rank 0 prints the tokens. */
#include <string.h>

#include "runtime/generate.h"
#include "runtime/scheduler.h"
#include "tests/support/rank.h"

enum {
    N_REQUESTS = 40,
    N_FED = 8, /* a device without hardware is slow: it gets fewer */
    MOST_PROMPT = 30,
    MOST_NEW = 24,
    MAX_SEQS = 6,
    N_PREFIX = 9, /* ends inside a block */
    N_FORKS = 5,
    CONTEXT = MOST_PROMPT + MOST_NEW,
    BLOCK_TOKENS = 4,
    CANCELLED_EVERY = 9
};

typedef struct job {
    int32_t prompt[MOST_PROMPT];
    int n_prompt;
    hw_generate_options o;
} job;

static job jobs[N_REQUESTS];
static int32_t kept[2][N_REQUESTS][MOST_NEW];
static const char *folder, *device = "cpu";
static int n_vocab;

static uint64_t state;

static unsigned next_random(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(state >> 33);
}

/* Every third prompt begins as another one does. */
static void make_jobs(int n_tokens, bool filtered)
{
    state = 1;
    for (int i = 0; i < N_REQUESTS; i++) {
        job *j = &jobs[i];
        j->n_prompt = 1 + (int)(next_random() % MOST_PROMPT);
        for (int k = 0; k < j->n_prompt; k++)
            j->prompt[k] = i % 3 == 2 && k < jobs[i - 1].n_prompt
                               ? jobs[i - 1].prompt[k]
                               : (int32_t)(next_random() % (unsigned)n_tokens);
        j->o.max_new_tokens = 1 + (int)(next_random() % MOST_NEW);
        j->o.prefill_chunk = (int)(next_random() % 7);
        if (i % 2) j->o.sampling = (hw_sampling){.temperature = 1.3f, .seed = next_random()};
        if (!filtered) continue;
        if (i % 4 == 1) j->o.sampling.top_k = 40;
        if (i % 4 == 3) j->o.sampling.top_p = 0.9f;
        if (i % 5 == 2) j->o.sampling.repetition_penalty = 1.2f;
    }
}

static hw_engine *open_engine(hw_kv_policy policy, int max_seqs, uint64_t kv_bytes)
{
    hw_engine_options o = hw_engine_defaults();
    hw_engine *e;
    hw_error err;
    o.device = device;
    o.n_threads = 1;
    o.kv_policy = policy;
    o.block_tokens = BLOCK_TOKENS;
    o.max_seqs = max_seqs;
    o.max_seq_len = CONTEXT;
    o.max_batch_rows = 2 * o.max_seq_len;
    o.max_logit_rows = 2 * max_seqs;
    o.kv_bytes = kv_bytes;
    o.graphs = true;
    must(hw_engine_create(&e, comm, folder, &o, &err), &err);
    n_vocab = hw_engine_info_get(e).vocab_size;
    return e;
}

/* Room for two sequences of the greatest length; dynamic needs a third, while one is copied. */
static uint64_t little_room(hw_kv_policy policy)
{
    hw_engine *e = open_engine(policy, 2, 0);
    const uint64_t bytes = hw_engine_kv_usage(e).capacity_bytes;
    hw_engine_destroy(e);
    return bytes;
}

static void alone(hw_engine *e, const job *j, hw_generate_result *out)
{
    hw_error err;
    must(hw_generate(e, NULL, j->prompt, j->n_prompt, &j->o, out, &err), &err);
}

static void expect_nothing_held(hw_engine *e)
{
    const hw_kv_usage u = hw_engine_kv_usage(e);
    expect(u.reserved_bytes == 0 && u.n_free + u.n_cached == u.n_blocks, "blocks are given back", 0);
}

static void expect_same(const hw_generate_result *a, const hw_generate_result *b, size_t i)
{
    expect(a->tokens.n == b->tokens.n && a->finish == b->finish &&
               !memcmp(a->tokens.ids, b->tokens.ids, a->tokens.n * sizeof *a->tokens.ids),
           "a request has the tokens that it has alone", i);
}

static void print(const hw_generate_result *r, int i)
{
    if (rank) return;
    printf("%d:", i);
    for (size_t k = 0; k < r->tokens.n; k++) printf(" %d", r->tokens.ids[k]);
    printf("\n");
}

static int index_of(hw_request *const *requests, const hw_request *r)
{
    int i = 0;
    while (requests[i] != r) i++;
    return i;
}

/* Every so often one of those that still run is cancelled. */
static void cancel_some(hw_request *const *requests, const bool *over, bool *cancelled, int n_ended)
{
    if (n_ended % CANCELLED_EVERY != CANCELLED_EVERY - 1) return;
    for (int i = n_ended; i < N_REQUESTS; i++)
        if (!over[i] && !cancelled[i]) {
            hw_request_cancel(requests[i]);
            cancelled[i] = true;
            return;
        }
}

static void run_crowd(hw_kv_policy policy)
{
    hw_generate_result wanted[N_REQUESTS];
    hw_request *requests[N_REQUESTS], *r;
    bool over[N_REQUESTS] = {false}, cancelled[N_REQUESTS] = {false};
    hw_scheduler *s;
    hw_error err;
    int n_preempted = 0, n_ended = 0, n_cancelled = 0;
    const uint64_t little = little_room(policy);
    hw_engine *e = open_engine(policy, 1, 0);
    make_jobs(n_vocab, true);
    for (int i = 0; i < N_REQUESTS; i++) alone(e, &jobs[i], &wanted[i]);
    hw_engine_destroy(e);
    e = open_engine(policy, MAX_SEQS, little);
    must(hw_scheduler_create(&s, e, &(hw_scheduler_options){NULL, false}, &err), &err);
    for (int i = 0; i < N_REQUESTS; i++)
        must(hw_scheduler_submit(s, &requests[i], jobs[i].prompt, jobs[i].n_prompt, &jobs[i].o, &err), &err);
    for (;;) {
        must(hw_scheduler_poll(s, &r, &err), &err);
        if (!r) break;
        const int i = index_of(requests, r);
        const hw_generate_result *got = hw_request_result(r);
        if (got->finish == HW_FINISH_CANCELLED) {
            expect(cancelled[i] && hw_request_status(r, &err) == HW_ERR_CANCELLED, "cancelled", (size_t)i);
            n_cancelled++;
        } else {
            must(hw_request_status(r, &err), &err);
            expect_same(got, &wanted[i], (size_t)i);
        }
        print(got, i);
        n_preempted += got->n_preemptions;
        over[i] = true;
        cancel_some(requests, over, cancelled, n_ended++);
        hw_request_destroy(r);
    }
    expect(n_ended == N_REQUESTS, "all requests end", (size_t)n_ended);
    expect(n_cancelled > 0, "some are cancelled", 0);
    expect(policy != HW_KV_PAGED || n_preempted > 0, "some are preempted", 0);
    expect_nothing_held(e);
    hw_scheduler_destroy(s);
    hw_engine_destroy(e);
    for (int i = 0; i < N_REQUESTS; i++) hw_tokens_free(&wanted[i].tokens);
}

static const hw_generate_options kept_prompt = {.prompt_only = true, .keep = true};

/* The first tokens of a job's prompt, in the cache. */
static hw_request *make_prefix(hw_scheduler *s, const job *j)
{
    hw_request *prefix, *ended;
    hw_error err;
    must(hw_scheduler_submit(s, &prefix, j->prompt, N_PREFIX, &kept_prompt, &err), &err);
    const hw_generate_options early = {.prefix = prefix};
    expect(hw_scheduler_submit(s, NULL, j->prompt, 1, &early, &err) == HW_ERR_INVALID, "no prefix yet", 0);
    must(hw_scheduler_poll(s, &ended, &err), &err);
    expect(ended == prefix && !hw_request_status(prefix, &err), "a prompt alone ends", 0);
    return prefix;
}

/* Fork i has i + 1 tokens of its own. */
static void make_forks(job *forks)
{
    make_jobs(n_vocab, true);
    for (int i = 0; i < N_FORKS; i++) {
        forks[i] = jobs[i];
        memcpy(forks[i].prompt, jobs[0].prompt, sizeof jobs[0].prompt);
        for (int k = 0; k <= i; k++) forks[i].prompt[N_PREFIX + k] = (7 * i + k + 1) % n_vocab;
        forks[i].n_prompt = N_PREFIX + i + 1;
    }
}

/* Rows that went through the layers. */
static int run_to_end(hw_scheduler *s)
{
    hw_step_report report;
    hw_error err;
    int n_rows = 0;
    do {
        must(hw_scheduler_step(s, &report, &err), &err);
        n_rows += report.n_rows;
    } while (report.n_rows);
    return n_rows;
}

static void run_forks(hw_engine *e, const job *forks, const hw_generate_result *wanted)
{
    hw_request *requests[N_FORKS], *r;
    hw_scheduler *s;
    hw_error err;
    int n_own = 0;
    must(hw_scheduler_create(&s, e, &(hw_scheduler_options){NULL, false}, &err), &err);
    hw_request *const prefix = make_prefix(s, &forks[0]);
    for (int i = 0; i < N_FORKS; i++) {
        hw_generate_options o = forks[i].o;
        o.prefix = prefix;
        n_own += i + (int)wanted[i].tokens.n;
        must(hw_scheduler_submit(s, &requests[i], forks[i].prompt + N_PREFIX, i + 1, &o, &err), &err);
    }
    must(hw_scheduler_admit(s, &err), &err);
    expect(hw_scheduler_n_running(s) == N_FORKS, "all have their places", (size_t)hw_scheduler_n_running(s));
    const int n_rows = run_to_end(s);
    const bool cached = hw_engine_info_get(e).kv_policy != HW_KV_OFF;
    expect(!cached || n_rows == n_own, "a prefix is not computed again", (size_t)n_rows);
    while ((r = hw_scheduler_ended(s))) {
        const int i = index_of(requests, r);
        const hw_generate_result *got = hw_request_result(r);
        must(hw_request_status(r, &err), &err);
        expect_same(got, &wanted[i], (size_t)i);
        expect(got->n_prompt == forks[i].n_prompt && got->n_cached == (cached ? N_PREFIX : 0), "its prompt",
               (size_t)i);
        hw_request_destroy(r);
    }
    hw_request_destroy(prefix);
    expect_nothing_held(e);
    hw_scheduler_destroy(s);
}

static hw_status find_best(void *user, int row, const float *logits, int n, hw_error *err)
{
    int32_t *const best = user;
    (void)err;
    for (int i = *best = 0; i < n && row == CONTEXT - 1; i++)
        if (logits[i] > logits[*best]) *best = i;
    return HW_OK;
}

/* The last position has logits like any other. */
static void run_past_context(hw_engine *e)
{
    int32_t prompt[CONTEXT], best;
    hw_generate_result result;
    hw_error err;
    hw_generate_options o = {.max_new_tokens = 3, .on_logits = find_best, .user = &best};
    for (int i = 0; i < CONTEXT; i++) prompt[i] = (i * 31 + 5) % n_vocab;
    expect(hw_generate(e, NULL, prompt, CONTEXT, &o, &result, &err) == HW_ERR_INVALID, "a full context", 0);
    o.past_context = true;
    must(hw_generate(e, NULL, prompt, CONTEXT, &o, &result, &err), &err);
    expect(result.tokens.n == 1 && result.tokens.ids[0] == best, "the token after the last position", 0);
    hw_tokens_free(&result.tokens);
}

static void run_prefix(hw_kv_policy policy)
{
    job forks[N_FORKS];
    hw_generate_result wanted[N_FORKS];
    hw_error err;
    hw_engine *e = open_engine(policy, 1, 0);
    hw_scheduler *s;
    make_forks(forks);
    for (int i = 0; i < N_FORKS; i++) alone(e, &forks[i], &wanted[i]);
    run_past_context(e);
    must(hw_scheduler_create(&s, e, &(hw_scheduler_options){NULL, false}, &err), &err);
    const hw_generate_options bad = {.max_new_tokens = 2, .keep = true};
    expect(hw_scheduler_submit(s, NULL, forks[0].prompt, 3, &bad, &err) == HW_ERR_INVALID, "text is not kept",
           0);
    hw_scheduler_destroy(s);
    hw_engine_destroy(e);
    e = open_engine(policy, MAX_SEQS, 0);
    run_forks(e, forks, wanted);
    hw_engine_destroy(e);
    for (int i = 0; i < N_FORKS; i++) hw_tokens_free(&wanted[i].tokens);
}

/* Behind a prefix the first token of each is fed, too. */
static void run_fed_forks(void)
{
    enum { N_NEW = 5 };
    hw_scheduler *s;
    hw_error err;
    hw_engine *e = open_engine(HW_KV_PAGED, MAX_SEQS, 0);
    make_jobs(n_vocab, false);
    must(hw_scheduler_create(&s, e, &(hw_scheduler_options){NULL, false}, &err), &err);
    hw_request *const prefix = make_prefix(s, &jobs[0]), *r;
    const hw_generate_options o = {.max_new_tokens = N_NEW, .prefix = prefix};
    for (int32_t i = 0; i < 3; i++) must(hw_scheduler_submit(s, NULL, &i, 1, &o, &err), &err);
    run_to_end(s);
    const uint64_t n = hw_engine_info_get(e).n_device_loop_steps;
    expect(n == N_NEW, "steps on the device", (size_t)n);
    while ((r = hw_scheduler_ended(s))) {
        const hw_generate_result *got = hw_request_result(r);
        expect(got->tokens.n == N_NEW && got->n_steps == N_NEW - 1 && got->prefill_seconds < 60,
               "a fork's result", 0);
        hw_request_destroy(r);
    }
    hw_request_destroy(prefix);
    hw_scheduler_destroy(s);
    hw_engine_destroy(e);
}

static void run_all(bool no_device_loop, hw_generate_result *out, uint64_t *n_device_loop_steps)
{
    hw_request *requests[N_FED], *r;
    hw_scheduler *s;
    hw_error err;
    hw_engine *e = open_engine(HW_KV_PAGED, MAX_SEQS, 0);
    make_jobs(n_vocab, false);
    must(hw_scheduler_create(&s, e, &(hw_scheduler_options){NULL, no_device_loop}, &err), &err);
    for (int i = 0; i < N_FED; i++)
        must(hw_scheduler_submit(s, &requests[i], jobs[i].prompt, jobs[i].n_prompt, &jobs[i].o, &err), &err);
    while (must(hw_scheduler_poll(s, &r, &err), &err), r) {
        const int i = index_of(requests, r);
        out[i] = *hw_request_result(r);
        memcpy(kept[no_device_loop][i], out[i].tokens.ids, out[i].tokens.n * sizeof(int32_t));
        out[i].tokens.ids = kept[no_device_loop][i];
        hw_request_destroy(r);
    }
    expect_nothing_held(e);
    *n_device_loop_steps = hw_engine_info_get(e).n_device_loop_steps;
    hw_scheduler_destroy(s);
    hw_engine_destroy(e);
}

static void run_fed(void)
{
    hw_generate_result fed[N_FED], single[N_FED];
    uint64_t n_looped, n_single;
    run_all(false, fed, &n_looped);
    run_all(true, single, &n_single);
    expect(n_looped > 0 && n_single == 0, "steps follow one another where they may", (size_t)n_looped);
    for (int i = 0; i < N_FED; i++) expect_same(&fed[i], &single[i], (size_t)i);
    run_fed_forks();
}

/* Runs three requests, of which the second is to fail, and compares the others with what they are alone. */
static void run_three(hw_engine *e, const job three[3], hw_status wanted_status, const char *wanted_words)
{
    hw_generate_result wanted[3] = {{.n_prompt = 0}};
    hw_request *requests[3], *r;
    hw_scheduler *s;
    hw_error err = {.rank = -1};
    for (int i = 0; i < 3; i += 2) alone(e, &three[i], &wanted[i]);
    must(hw_scheduler_create(&s, e, &(hw_scheduler_options){NULL, false}, &err), &err);
    for (int i = 0; i < 3; i++)
        must(hw_scheduler_submit(s, &requests[i], three[i].prompt, three[i].n_prompt, &three[i].o, &err),
             &err);
    for (;;) {
        must(hw_scheduler_poll(s, &r, &err), &err);
        if (!r) break;
        const int i = index_of(requests, r);
        const hw_status st = hw_request_status(r, &err);
        expect(st == (i == 1 ? wanted_status : HW_OK), "how a request ends", (size_t)i);
        if (i == 1) expect(strstr(err.message, wanted_words) != NULL, err.message, 0);
        else expect_same(hw_request_result(r), &wanted[i], (size_t)i);
        hw_request_destroy(r);
    }
    expect_nothing_held(e);
    hw_scheduler_destroy(s);
    for (int i = 0; i < 3; i++) hw_tokens_free(&wanted[i].tokens);
}

static void run_nan(int32_t token)
{
    const job three[3] = {{{5, 6, 7}, 3, {.max_new_tokens = 9, .eos = &token, .n_eos = 1}},
                          {{5, token, 7}, 3, {.max_new_tokens = 9}},
                          {{8, 9}, 2, {.max_new_tokens = 7, .eos = &token, .n_eos = 1}}};
    hw_engine *e = open_engine(HW_KV_PAGED, MAX_SEQS, 0);
    run_three(e, three, HW_ERR_FAILED, "not a number");
    hw_engine_destroy(e);
}

static void run_small(void)
{
    job three[3] = {{{5, 6, 7}, 3, {.max_new_tokens = 9}},
                    {{1}, MOST_PROMPT, {.max_new_tokens = MOST_NEW}},
                    {{8, 9}, 2, {.max_new_tokens = 7}}};
    hw_engine *e = open_engine(HW_KV_PAGED, 1, 0);
    const uint64_t whole = hw_engine_kv_usage(e).capacity_bytes;
    hw_engine_destroy(e);
    e = open_engine(HW_KV_PAGED, MAX_SEQS, whole / 2);
    run_three(e, three, HW_ERR_CACHE_FULL, "cache");
    hw_engine_destroy(e);
}

int main(int argc, char **argv)
{
    static const hw_kv_policy policies[] = {HW_KV_PAGED, HW_KV_OFF, HW_KV_CONTIGUOUS, HW_KV_DYNAMIC};
    if (argc < 3)
        return fprintf(stderr, "scheduler_worker: crowd, prefix, fed, nan or small, and a folder\n"), 2;
    folder = argv[2];
    start("auto");
    hw_comm_set_stuck_after(comm, 60); /* there are fewer cores than ranks */
    if (!strcmp(argv[1], "nan") && argc > 3) run_nan(atoi(argv[3]));
    else if (!strcmp(argv[1], "small")) run_small();
    else if (!strcmp(argv[1], "fed") && argc > 3) device = argv[3], run_fed();
    else
        for (int p = 0; p < 4; p++)
            if (argc > 3 && !strcmp(argv[3], hw_kv_policy_name(policies[p])))
                (strcmp(argv[1], "prefix") ? run_crowd : run_prefix)(policies[p]);
    return finish();
}
