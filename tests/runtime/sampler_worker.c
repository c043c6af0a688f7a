/* Checks hw_engine_sample from the inside, on as many ranks as it is started on. test_sampler.c starts it.
 *
 *   sampler_worker steps FOLDER dummy|real N   N tokens with every setting, compared with the naive sampler; rank 0 prints them
 *   sampler_worker draws FOLDER dummy|real N   chi-square test of N draws from the same logits
 *   sampler_worker nan FOLDER TOKEN            the logit of TOKEN is not a number: refused on all ranks
 *   sampler_worker cancel FOLDER               one rank cancels: all end
 *
 * Exit code 0 when everything holds on every rank; otherwise standard error says what does not. */
#include <stdio.h>
#include <string.h>

#include "tests/runtime/naive_sampler.h"
#include "tests/support/rank.h"

typedef struct setting {
    const char *name;
    hw_sampling s;
    const char *same_as; /* another setting that must give the same tokens */
} setting;

static const setting settings[] = {
    {"greedy", {.temperature = 0}, NULL},
    {"greedy-penalty", {.repetition_penalty = 1.3f}, NULL},
    {"temperature", {.temperature = 0.4f, .seed = 11}, NULL},
    {"other-seed", {.temperature = 0.4f, .seed = 12}, NULL},
    {"large-seed", {.temperature = 0.4f, .seed = UINT64_C(11) << 32}, NULL},
    {"hot", {.temperature = 2, .seed = 3}, NULL},
    {"penalty", {.temperature = 0.4f, .repetition_penalty = 1.5f, .seed = 11}, NULL},
    {"top-k-1", {.temperature = 0.8f, .top_k = 1, .seed = 5}, "greedy"},
    {"top-k", {.temperature = 0.5f, .top_k = 7, .seed = 5}, NULL},
    {"top-k-all", {.temperature = 0.4f, .top_k = 1000000, .seed = 11}, "temperature"},
    {"top-p", {.temperature = 0.1f, .top_p = 0.7f, .seed = 5}, NULL},
    {"top-p-least", {.temperature = 0.5f, .top_p = 1e-6f, .seed = 5}, "greedy"},
    {"top-p-wide", {.temperature = 5, .top_p = 0.9f, .seed = 6}, NULL}, /* nearly flat: thousands are kept */
    {"top-p-off", {.temperature = 0.4f, .top_p = 1, .repetition_penalty = 1, .seed = 11}, "temperature"},
    {"min-p", {.temperature = 0.3f, .min_p = 0.2f, .seed = 5}, NULL},
    {"min-p-1", {.temperature = 0.3f, .min_p = 1, .seed = 5}, "greedy"},
    {"top-k-p", {.temperature = 0.3f, .top_k = 40, .top_p = 0.6f, .seed = 7}, NULL},
    {"top-k-min", {.temperature = 0.3f, .top_k = 90, .min_p = 0.1f, .seed = 7}, NULL},
    {"top-p-min", {.temperature = 0.3f, .top_p = 0.95f, .min_p = 0.05f, .seed = 7}, NULL},
    {"all",
     {.temperature = 0.4f, .top_k = 80, .top_p = 0.9f, .min_p = 0.02f, .repetition_penalty = 1.2f, .seed = 8},
     NULL},
};
enum { N_SETTINGS = sizeof settings / sizeof *settings };

static void expect_of(bool good, const char *what, const char *name, int step)
{
    if (good || n_wrong++ >= 10) return;
    fprintf(stderr, "rank %d of %d: %s: %s (step %d)\n", rank, n_ranks, name, what, step);
}

/* One sequence per setting, all in one batch. */
typedef struct runs {
    hw_engine *engine;
    hw_batch *batch;
    int n, vocab;
    hw_sequence *sequences[N_SETTINGS];
    hw_sampling sampling[N_SETTINGS];
    int32_t tokens[N_SETTINGS];
    float *logits; /* [n, vocab] */
} runs;

static runs open_runs(const char *folder, bool dummy, int n)
{
    runs r = {.n = n};
    hw_error err;
    hw_engine_options o = hw_engine_defaults();
    o.dummy = dummy;
    o.kv_dtype = HW_F32;
    o.max_seqs = n;
    must(hw_engine_create(&r.engine, comm, folder, &o, &err), &err);
    must(hw_batch_create(&r.batch, r.engine, &err), &err);
    r.vocab = hw_engine_info_get(r.engine).vocab_size;
    r.logits = calloc((size_t)n * (size_t)r.vocab, sizeof *r.logits);
    for (int i = 0; i < n; i++) {
        r.sampling[i] = settings[i].s;
        r.tokens[i] = 17; /* the prompt, of one token */
        must(hw_sequence_create(&r.sequences[i], r.engine, 0, &err), &err);
        must(hw_sampling_check(&r.sampling[i], &err), &err);
    }
    return r;
}

static void close_runs(runs *r)
{
    for (int i = 0; i < r->n; i++) hw_sequence_destroy(r->sequences[i]);
    hw_batch_destroy(r->batch);
    hw_engine_destroy(r->engine);
    free(r->logits);
}

static void step(runs *r)
{
    hw_error err;
    hw_batch_clear(r->batch);
    for (int i = 0; i < r->n; i++)
        must(hw_batch_add(r->batch, r->sequences[i], &r->tokens[i], 1, HW_LOGITS_LAST, &err), &err);
    must(hw_engine_step(r->engine, r->batch, &err), &err);
}

/* ---- steps */

static int n_compared, n_uncertain, most_kept;

static void compare(runs *r, int i, int n_valid, int at)
{
    const hw_sequence *seq = r->sequences[i];
    const float *row = r->logits + (size_t)i * (size_t)r->vocab;
    int n = n_valid ? n_valid : r->vocab, n_tokens = hw_sequence_n_tokens(seq);
    const int32_t *history = hw_sequence_tokens(seq);
    naive_choice want = naive_sample(row, n, history, n_tokens, &r->sampling[i], (uint64_t)n_tokens);
    n_compared++;
    if (want.n_kept > most_kept && r->sampling[i].top_p > 0 && r->sampling[i].top_p < 1)
        most_kept = want.n_kept;
    if (naive_is_certain(row, n, history, n_tokens, &r->sampling[i], (uint64_t)n_tokens))
        expect_of(r->tokens[i] == want.token, "another token than the naive sampler's", settings[i].name, at);
    else n_uncertain++;
}

static int find(const char *name)
{
    for (int i = 0; i < N_SETTINGS; i++)
        if (!strcmp(settings[i].name, name)) return i;
    return -1;
}

static void check_pairs(const runs *r)
{
    for (int i = 0; i < r->n; i++) {
        size_t n = (size_t)hw_sequence_n_tokens(r->sequences[i]) * sizeof(int32_t);
        const int32_t *tokens = hw_sequence_tokens(r->sequences[i]);
        if (settings[i].same_as) {
            const hw_sequence *other = r->sequences[find(settings[i].same_as)];
            expect_of(!memcmp(tokens, hw_sequence_tokens(other), n), "should be the same as another setting",
                      settings[i].name, 0);
        }
        for (int j = 0; j < i; j++) {
            const char *a = settings[i].same_as ? settings[i].same_as : settings[i].name;
            const char *b = settings[j].same_as ? settings[j].same_as : settings[j].name;
            if (strcmp(a, b))
                expect_of(memcmp(tokens, hw_sequence_tokens(r->sequences[j]), n), settings[j].name,
                          settings[i].name, 0);
        }
    }
}

/* All ranks hold the same tokens: the largest hash is also the smallest. */
static void check_ranks_agree(const runs *r)
{
    hw_error err;
    uint64_t h = 14695981039346656037u; /* FNV-1a over tokens */
    for (int i = 0; i < r->n; i++)
        for (int j = 0; j < hw_sequence_n_tokens(r->sequences[i]); j++)
            h = (h ^ (uint64_t)hw_sequence_tokens(r->sequences[i])[j]) * 1099511628211u;
    uint64_t ends[2] = {h, ~h};
    must(hw_comm_all_reduce(comm, (hw_tag){.site = HW_SITE_CONTROL}, ends, 2, HW_U64, HW_MAX, &err), &err);
    expect_of(ends[0] == ~ends[1], "ranks hold different tokens", "steps", 0);
}

/* Rank 0 has compared. */
static void report(const runs *r)
{
    /* Near-ties are rare; were they not, this would compare nothing. */
    expect_of(n_uncertain * 50 < n_compared, "too many choices hang on rounding", "steps", n_uncertain);
    expect_of(r->vocab < 1000 || most_kept > 1000, "top-p never had to look beyond the first candidates",
              "steps", most_kept);
    for (int i = 0; i < r->n; i++) {
        printf("%s:", settings[i].name);
        for (int j = 0; j < hw_sequence_n_tokens(r->sequences[i]); j++)
            printf(" %d", hw_sequence_tokens(r->sequences[i])[j]);
        printf("\n");
    }
}

static void run_steps(const char *folder, bool dummy, int n_steps)
{
    runs r = open_runs(folder, dummy, N_SETTINGS);
    hw_error err;
    /* With few valid tokens most ranks have none of them. The first steps are all valid, the last ones
     * too. */
    const int valid[] = {0, 0, r.vocab - 13, 0, r.vocab / 2, 0, 40, 0, r.vocab + 5, 0};
    for (int at = 0; at < n_steps; at++) {
        int n_valid = valid[at % 10];
        /* Gathering is slow with a large vocabulary: all is compared in the first and the last steps, a part
         * of it between. */
        bool look = r.vocab < 1000 || at < 10 || at + 5 >= n_steps || at % 23 == 0;
        step(&r);
        if (look) must(hw_engine_logits(r.engine, r.batch, r.logits, &err), &err);
        must(hw_engine_sample(r.engine, r.batch, r.sampling, n_valid, r.tokens, &err), &err);
        for (int i = 0; i < r.n && look && rank == 0; i++)
            compare(&r, i, n_valid < r.vocab ? n_valid : 0, at);
    }
    check_pairs(&r);
    check_ranks_agree(&r);
    if (rank == 0) report(&r);
    close_runs(&r);
}
/* ---- draws */

/* The naive sampler's distribution: softmax over what the filters keep. p [vocab]. */
static void distribution(double *p, const float *logits, int vocab, const hw_sampling *set)
{
    naive_score *s = calloc((size_t)vocab, sizeof *s);
    double total = 0;
    naive_scores(s, logits, vocab, NULL, 0, set);
    qsort(s, (size_t)vocab, sizeof *s, naive_descending);
    int kept = naive_kept(s, vocab, set);
    for (int i = 0; i < kept; i++) total += exp(s[i].score - s[0].score);
    for (int i = 0; i < vocab; i++) p[s[i].token] = i < kept ? exp(s[i].score - s[0].score) / total : 0;
    free(s);
}

/* Pearson's statistic against its mean and deviation under the hypothesis. Tokens that are expected less than
 * five times count as one. */
static double deviations(const double *p, const int *n_drawn, int vocab, int n)
{
    double statistic = 0, rest = 0, rest_drawn = 0;
    int bins = 0;
    for (int t = 0; t < vocab; t++) {
        double want = p[t] * n, got = n_drawn[t];
        if (want < 5) rest += want, rest_drawn += got;
        else statistic += (got - want) * (got - want) / want, bins++;
    }
    if (rest > 5) statistic += (rest_drawn - rest) * (rest_drawn - rest) / rest, bins++;
    return bins < 2 ? 0 : (statistic - (bins - 1)) / sqrt(2.0 * (bins - 1));
}

static void run_draws(const char *folder, bool dummy, int n)
{
    static const char *const names[] = {"temperature", "hot", "top-k", "top-p", "min-p", "top-k-p"};
    runs r = open_runs(folder, dummy, 1);
    hw_error err;
    double *p = calloc((size_t)r.vocab, sizeof *p);
    int *n_drawn = calloc((size_t)r.vocab, sizeof *n_drawn);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        hw_sampling set = settings[find(names[i])].s;
        step(&r);
        must(hw_engine_logits(r.engine, r.batch, r.logits, &err), &err);
        distribution(p, r.logits, r.vocab, &set);
        memset(n_drawn, 0, (size_t)r.vocab * sizeof *n_drawn);
        for (set.seed = 0; set.seed < (uint64_t)n; set.seed++) {
            must(hw_engine_sample(r.engine, r.batch, &set, 0, r.tokens, &err), &err);
            n_drawn[r.tokens[0]]++;
            if (p[r.tokens[0]] == 0)
                expect_of(false, "a token that the filters drop was drawn", names[i], r.tokens[0]);
        }
        /* Seeds are fixed, so this either always holds or never; five deviations come about once in a
         * million. */
        double off = deviations(p, n_drawn, r.vocab, n);
        expect_of(fabs(off) < 5, "the draws do not have the distribution", names[i], (int)off);
    }
    free(p);
    free(n_drawn);
    close_runs(&r);
}

/* ---- what is refused */

static void run_nan(const char *folder, int token)
{
    runs r = open_runs(folder, false, N_SETTINGS);
    for (int i = 0; i < N_SETTINGS; i++) {
        hw_error err = {.message = "nothing was said", .rank = -1};
        hw_sampling set[N_SETTINGS];
        for (int j = 0; j < N_SETTINGS; j++) set[j] = settings[i].s;
        step(&r);
        hw_status st = hw_engine_sample(r.engine, r.batch, set, 0, r.tokens, &err);
        expect_of(st == HW_ERR_FAILED, "NaN should be refused", settings[i].name, i);
        expect_of(strstr(err.message, "not a number"), err.message, settings[i].name, i);
        /* A token that is not valid may have any logit. */
        must(hw_engine_sample(r.engine, r.batch, set, token, r.tokens, &err), &err);
    }
    close_runs(&r);
}

static void run_cancel(const char *folder)
{
    runs r = open_runs(folder, false, N_SETTINGS);
    hw_error err = {.message = "nothing was said", .rank = -1};
    step(&r);
    must(hw_engine_sample(r.engine, r.batch, r.sampling, 0, r.tokens, &err), &err);
    step(&r);
    if (rank == n_ranks - 1) hw_engine_cancel(r.engine);
    hw_status st = hw_engine_sample(r.engine, r.batch, r.sampling, 0, r.tokens, &err);
    expect_of(st == HW_ERR_CANCELLED, "cancelling one rank ends all", "cancel", 0);
    expect_of(!strcmp(err.message, "cancelled"), err.message, "cancel", 0);
    close_runs(&r);
}

int main(int argc, char **argv)
{
    if (argc < 3) return fprintf(stderr, "sampler_worker: two arguments are needed\n"), 2;
    bool dummy = argc > 3 && !strcmp(argv[3], "dummy");
    int n = argc > 3 ? atoi(argv[argc - 1]) : 0;
    start("auto");
    if (!strcmp(argv[1], "steps")) run_steps(argv[2], dummy, n);
    else if (!strcmp(argv[1], "draws")) run_draws(argv[2], dummy, n);
    else if (!strcmp(argv[1], "nan")) run_nan(argv[2], n);
    else run_cancel(argv[2]);
    return finish();
}
