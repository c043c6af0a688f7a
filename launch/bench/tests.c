#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/bench/bench.h"

enum { MAX_LIST = 32, MAX_TOKENS = 1 << 24, MAX_SEQS = 4096 };

typedef struct list {
    int at[MAX_LIST];
    int n;
} list;

static hw_status read_list(list *out, const char *option, const char *text, int min, int max, hw_error *err)
{
    out->n = 0;
    for (const char *p = text;; p++) {
        char *end;
        long n = strtol(p, &end, 10);
        if (end == p || n < min || n > max || (*end && *end != ','))
            return hw_fail(err, HW_ERR_INVALID, "%s is '%s', wanted whole numbers of %d to %d, as in 128,512",
                           option, text, min, max);
        if (out->n == MAX_LIST)
            return hw_fail(err, HW_ERR_INVALID, "%s lists more than %d numbers", option, MAX_LIST);
        out->at[out->n++] = (int)n;
        if (!*end) return HW_OK;
        p = end;
    }
}

static hw_status add(hw_bench *b, bool decode, int n, int n_seqs, int depth)
{
    if (!n) return HW_OK;
    if (b->n_tests == HW_BENCH_MAX_TESTS)
        return hw_fail(b->err, HW_ERR_INVALID, "the lists make more than %d tests", HW_BENCH_MAX_TESTS);
    hw_bench_test *t = &b->tests[b->n_tests++];
    *t = (hw_bench_test){.decode = decode, .n = n, .n_seqs = n_seqs, .depth = depth};
    int at = snprintf(t->name, sizeof t->name, "%s%d", decode ? "tg" : "pp", n);
    if (n_seqs > 1) at += snprintf(t->name + at, sizeof t->name - (size_t)at, " b%d", n_seqs);
    if (depth) snprintf(t->name + at, sizeof t->name - (size_t)at, " @ d%d", depth);
    if (decode && n > b->longest_decode) b->longest_decode = n;
    return HW_OK;
}

hw_status hw_bench_list_tests(hw_bench *b)
{
    const hw_bench_settings *a = b->settings;
    list pp, tg, batches, depths;
    hw_status st = read_list(&pp, "--n-prompt", a->pp, 0, MAX_TOKENS, b->err);
    if (!st) st = read_list(&tg, "--n-gen", a->tg, 0, MAX_TOKENS, b->err);
    if (!st) st = read_list(&batches, "--batch-size", a->batches, 1, MAX_SEQS, b->err);
    if (!st) st = read_list(&depths, "--n-depth", a->depths, 0, MAX_TOKENS, b->err);
    for (int d = 0; d < depths.n && !st; d++)
        for (int s = 0; s < batches.n && !st; s++) {
            for (int i = 0; i < pp.n && !st; i++) st = add(b, false, pp.at[i], batches.at[s], depths.at[d]);
            for (int i = 0; i < tg.n && !st; i++) st = add(b, true, tg.at[i], batches.at[s], depths.at[d]);
        }
    if (!st && !b->n_tests)
        st = hw_fail(b->err, HW_ERR_INVALID, "nothing to measure: --n-prompt and --n-gen are both 0");
    return st;
}

/* Those that a run starts from stay beside those that it makes. */
int hw_bench_most_seqs(const hw_bench *b)
{
    int most = 0;
    for (int i = 0; i < b->n_tests; i++) {
        const int n = b->tests[i].n_seqs * (b->tests[i].depth ? 2 : 1);
        if (n > most) most = n;
    }
    return most;
}

int hw_bench_longest(const hw_bench *b)
{
    int longest = 0;
    for (int i = 0; i < b->n_tests; i++) {
        const hw_bench_test *t = &b->tests[i];
        const int n = t->depth + t->n + (t->decode && !t->depth);
        if (n > longest) longest = n;
    }
    return longest;
}

int hw_bench_step_rows(const hw_bench *b, const hw_bench_test *t)
{
    const int most = hw_engine_info_get(b->s->engine).max_batch_rows;
    if (t->decode) return t->n_seqs;
    return t->n < most / t->n_seqs ? t->n * t->n_seqs : most;
}

hw_bench_window *hw_bench_window_at(const hw_bench *b, int test, int repeat)
{
    return &b->windows[(size_t)test * (size_t)b->settings->repeats + (size_t)repeat];
}

double *hw_bench_steps_at(const hw_bench *b, int test, int repeat)
{
    return b->steps +
           ((size_t)test * (size_t)b->settings->repeats + (size_t)repeat) * (size_t)b->longest_decode;
}
