/* headway check: compares the same prompt on one rank, on all ranks, and computed in other ways that must give the same
 * numbers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launch/commands/batch_invariance.h"
#include "launch/commands/commands.h"
#include "launch/commands/score.h"
#include "launch/report/output.h"
#include "parallel/shard.h"

enum { DEFAULT_PROMPT = 72 };

typedef struct settings {
    hw_model_settings model;
    hw_prompt_settings prompt;
    hw_engine_settings engine;
    bool all;
    int max_tokens;
} settings;

#define AT(field) offsetof(settings, field)
static const hw_setting own_rows[] = {
    {NULL, "all", 0, NULL, HW_FLAG, "false", HW_SAME, AT(all),
     "Also: prompt in chunks of 1, 7 and 64, in a batch of eight, every cache policy, another number of "
     "threads, and the first 2, 4 and 8 ranks with shm and with mpi; each loads the model again"},
    {NULL, "max-tokens", 'n', "N", HW_WHOLE("tokens", 1, 1 << 30), "32", HW_SAME, AT(max_tokens),
     "Greedy tokens to compare"},
};
static const hw_setting_group own_group = HW_OWN_GROUP(NULL, 0, own_rows, NULL);

static const char doc[] =
    "Computes the same prompt on one rank and on all ranks, and compares every logit and the greedy "
    "continuation. Rank 0 must be able to hold the whole model.\vWithout a prompt, fixed token ids are used. "
    "The verdict is 'same bits', 'close' (within rounding: 2e-5 of the largest logit, 1e-2 with a 16-bit "
    "cache) or 'wrong', which is exit status 1.\n"
    "  mpirun -np 4 headway check -m models/tales --all";

/* One way to compute the prompt. */
typedef struct way {
    char name[48];
    int n_ranks; /* the first n_ranks, with this backend; 0: all, with the session's */
    const char *backend;
    int chunk, threads;
    bool in_batch; /* in a batch of eight */
    hw_kv_policy policy;
} way;

/* The results: logits [n_prompt, vocab_size], greedy tokens, and the margin of each token over the next best, relative
 * to the largest logit. */
typedef struct outcome {
    float *logits;
    int vocab_size, n;
    hw_dtype kv_dtype, act_dtype;
    hw_tokens greedy;
} outcome;

static hw_status keep_row(void *user, int i, const float *logits, int vocab_size, hw_error *err)
{
    outcome *o = user;
    if (!o->logits) {
        o->vocab_size = vocab_size;
        o->logits = calloc((size_t)o->n * (size_t)vocab_size, sizeof *o->logits);
    }
    if (!o->logits) return hw_fail(err, HW_ERR_NO_MEMORY, "check: no memory for %d rows of logits", o->n);
    memcpy(o->logits + (size_t)i * (size_t)vocab_size, logits, (size_t)vocab_size * sizeof *logits);
    return HW_OK;
}

/* Collective over the ranks of `s`. */
static hw_status compute(hw_session *s, const settings *a, const way *w, outcome *out, hw_error *err)
{
    hw_engine_settings e = a->engine;
    hw_generate_result result = {.n_prompt = 0};
    hw_generate_options o = {.max_new_tokens = a->max_tokens, .ignore_eos = true};
    int n = (int)s->prompt.n;
    e.options.max_logit_rows = HW_SCORE_ROWS;
    e.options.kv_policy = w->policy;
    if (w->threads) e.options.n_threads = w->threads;
    if (!e.options.max_seq_len) e.options.max_seq_len = hw_session_length(s, &o);
    if (w->in_batch) e.options.max_seqs = HW_BATCH_INVARIANCE_SEQS;
    o.prefill_chunk = w->chunk;
    *out = (outcome){.n = n};
    hw_status st = hw_session_open_engine(s, &e, err);
    if (!st) {
        out->kv_dtype = hw_engine_info_get(s->engine).kv_dtype;
        out->act_dtype = hw_engine_info_get(s->engine).act_dtype;
        if (w->in_batch)
            st = hw_batch_invariance_rows(s, s->prompt.ids, n, o.max_new_tokens, keep_row, out,
                                          &result.tokens, err);
        else st = hw_score_rows(s, s->prompt.ids, n, w->chunk, keep_row, out, err);
        if (!st && !w->in_batch) st = hw_generate(s->engine, NULL, s->prompt.ids, n, &o, &result, err);
        hw_session_end_if_alone(s, st, err);
    }
    out->greedy = result.tokens;
    hw_engine_destroy(s->engine);
    s->engine = NULL;
    return st;
}

static void outcome_free(outcome *o)
{
    free(o->logits);
    hw_tokens_free(&o->greedy);
    *o = (outcome){.n = 0};
}

/* ---- comparing */

typedef struct verdict {
    double difference; /* largest, relative to the largest logit */
    bool same_bits;
    int first_other_token; /* index of the first different greedy token; -1: none */
} verdict;

static verdict compare(const outcome *a, const outcome *b)
{
    verdict v = {.first_other_token = -1};
    double largest = 0;
    size_t n = (size_t)a->n * (size_t)a->vocab_size;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a->logits[i] - (double)b->logits[i]);
        if (!(d <= v.difference)) v.difference = d; /* a NaN sticks */
        if (fabs((double)a->logits[i]) > largest) largest = fabs((double)a->logits[i]);
    }
    v.difference = largest > 0 ? v.difference / largest : v.difference;
    v.same_bits = !memcmp(a->logits, b->logits, n * sizeof *a->logits);
    for (size_t i = 0; i < a->greedy.n && v.first_other_token < 0; i++)
        if (i >= b->greedy.n || a->greedy.ids[i] != b->greedy.ids[i]) v.first_other_token = (int)i;
    return v;
}

static const char *word(const verdict *v, double tolerance)
{
    if (v->same_bits) return "same bits";
    return v->difference <= tolerance ? "close" : "wrong";
}

/* The allowed difference of results that differ in the order of additions. A 16-bit cache can round a number the other
 * way; with bfloat16 activations each result has an error of about 2e-2 (tests/vectors/halves.json). */
static double tolerance_of(const outcome *o)
{
    if (o->act_dtype != HW_F32) return 5e-2;
    return o->kv_dtype == HW_F32 ? 2e-5 : 1e-2;
}

static hw_status print_verdict(const char *name, const verdict *v, double tolerance, hw_error *err)
{
    hw_status st = hw_print(err, "%-28s %-10s %14.2e   ", name, word(v, tolerance), v->difference);
    if (st) return st;
    if (v->first_other_token < 0) return hw_print(err, "all equal\n");
    return hw_print(err, "first other token: %d\n", v->first_other_token);
}

/* ---- the command */

enum { MAX_WAYS = 24 };

static way *add(way *ways, int *n, const char *name, way w)
{
    ways[*n] = w;
    snprintf(ways[*n].name, sizeof ways[*n].name, "%s", name);
    return &ways[(*n)++];
}

/* Numbers of ranks whose cuts nest, each with both backends. */
static void add_ranks(way *ways, int *n, int n_ranks, way base)
{
    static const char *const backends[] = {"shm", "mpi"};
    for (int k = 2; k <= HW_SHARD_CUTS && k <= n_ranks; k *= 2)
        for (int b = 0; b < 2; b++) {
            char name[48];
            snprintf(name, sizeof name, "%d ranks, %s", k, backends[b]);
            way *w = add(ways, n, name, base);
            w->n_ranks = k;
            w->backend = backends[b];
        }
}

static int list_ways(way ways[MAX_WAYS], const settings *a, int n_ranks)
{
    const way base = {.policy = a->engine.options.kv_policy};
    static const hw_kv_policy policies[] = {HW_KV_PAGED, HW_KV_CONTIGUOUS, HW_KV_DYNAMIC, HW_KV_OFF};
    static const int chunks[] = {1, 7, 64};
    char name[48];
    int n = 0;
    add(ways, &n, "all ranks", base);
    if (!a->all) return n;
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "all ranks, chunks of %d", chunks[i]);
        add(ways, &n, name, base)->chunk = chunks[i];
    }
    add(ways, &n, "all ranks, batch of eight", base)->in_batch = true;
    for (int i = 0; i < 4; i++) {
        if (policies[i] == base.policy) continue;
        snprintf(name, sizeof name, "all ranks, cache %s", hw_kv_policy_name(policies[i]));
        add(ways, &n, name, base)->policy = policies[i];
    }
    add(ways, &n, "all ranks, other threads", base)->threads =
        a->engine.options.n_threads == 3 ? 2 : 3; /* auto rarely gives three */
    add_ranks(ways, &n, n_ranks, base);
    return n;
}

/* Rank 0 alone; the others wait in the following hw_comm_agree. */
static hw_status compute_alone(hw_session *s, const settings *a, outcome *out, hw_error *err)
{
    const way w = {.policy = a->engine.options.kv_policy};
    hw_session alone = {.options = s->options,
                        .model = s->model,
                        .prompt = s->prompt,
                        .told = true}; /* the run on all ranks prints it */
    hw_status st = hw_comm_create_alone(&alone.comm, err);
    if (!st) st = compute(&alone, a, &w, out, err);
    hw_comm_destroy(alone.comm);
    return st;
}

/* Collective over all ranks. Ranks that take no part wait in hw_comm_agree. */
static hw_status compute_way(hw_session *s, const settings *a, const way *w, outcome *out, hw_error *err)
{
    *out = (outcome){.n = 0};
    if (!w->n_ranks) return compute(s, a, w, out, err);
    hw_session first = {.options = s->options,
                        .model = s->model,
                        .prompt = s->prompt,
                        .rank = s->rank,
                        .warned = true,
                        .told = true};
    hw_status st = hw_comm_create_first(&first.comm, w->n_ranks, w->backend, err);
    if (!st && first.comm) st = compute(&first, a, w, out, err);
    st = hw_comm_agree(s->comm, st, err);
    hw_comm_destroy(first.comm);
    return st;
}

/* Ids that are in any vocabulary. */
static void choose_prompt(hw_prompt_settings *p, char list[DEFAULT_PROMPT * 8])
{
    size_t n = 0;
    if (p->tokens || p->text || p->file || p->from_stdin) return;
    for (int i = 0; i < DEFAULT_PROMPT; i++)
        n += (size_t)snprintf(list + n, DEFAULT_PROMPT * 8 - n, "%s%d", i ? "," : "", (i * 37 + 11) % 97);
    p->tokens = list;
}

static hw_status run(hw_session *s, const settings *a, hw_error *err)
{
    way ways[MAX_WAYS];
    outcome one = {.n = 0}, other;
    int n = list_ways(ways, a, hw_comm_n_ranks(s->comm)), wrong = 0;
    hw_status st = s->rank == 0 ? compute_alone(s, a, &one, err) : HW_OK;
    st = hw_comm_agree(s->comm, st, err);
    if (!st && s->rank == 0)
        st = hw_print(err,
                      "%zu prompt tokens and %zu greedy ones on one rank, cache %s, compared with %d rank%s, "
                      "%s\n\n%-28s "
                      "%-10s %14s   greedy tokens\n",
                      s->prompt.n, one.greedy.n, hw_kv_policy_name(a->engine.options.kv_policy),
                      hw_comm_n_ranks(s->comm), hw_comm_n_ranks(s->comm) > 1 ? "s" : "",
                      hw_comm_backend(s->comm), "", "verdict", "largest diff.");
    st = hw_comm_agree(s->comm, st, err);
    for (int i = 0; i < n && !st; i++) {
        st = compute_way(s, a, &ways[i], &other, err);
        if (!st && s->rank == 0) {
            double tolerance = tolerance_of(&one);
            verdict v = compare(&one, &other);
            wrong += !strcmp(word(&v, tolerance), "wrong");
            st = print_verdict(ways[i].name, &v, tolerance, err);
        }
        outcome_free(&other);
        st = hw_comm_agree(s->comm, st, err);
    }
    outcome_free(&one);
    if (!st && wrong)
        st = hw_fail(err, HW_ERR_FAILED, "check: %d of %d ways gave other logits than one rank", wrong, n);
    return hw_comm_agree(s->comm, st, err);
}

hw_status hw_cmd_check(int argc, char **argv, hw_error *err)
{
    settings a = {0};
    hw_session s = {.warned = true}; /* another number of threads is intentional */
    hw_options o = {
        .doc = doc,
        .groups = {HW_TAKES(a, model), HW_TAKES(a, prompt), HW_TAKES(a, engine), {&own_group, &a}}};
    hw_options_parse(&o, argc, argv);
    hw_status st = hw_session_start(&s, &o, err);
    char list[DEFAULT_PROMPT * 8];
    choose_prompt(&a.prompt, list);
    if (!st) st = hw_session_open_prompt(&s, err);
    if (!st) st = run(&s, &a, err);
    hw_session_close(&s);
    return st;
}
