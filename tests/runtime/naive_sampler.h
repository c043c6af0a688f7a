/* Sampling as transformers does it, written down plainly over whole rows of logits in double: what
 * hw_engine_sample is compared with. The order is that of its generation/logits_process.py as generate()
 * lines them up: repetition penalty, temperature, top-k, top-p, min-p. */
#ifndef HW_TESTS_RUNTIME_NAIVE_SAMPLER_H
#define HW_TESTS_RUNTIME_NAIVE_SAMPLER_H

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "kernels/kernels.h"
#include "runtime/engine.h"

typedef struct naive_choice {
    int token;
    double lead; /* over the second best, in what the maximum is taken of; INFINITY when there is none */
    int n_kept;
} naive_choice;

typedef struct naive_score {
    double score;
    int token;
} naive_score;

static inline int naive_descending(const void *a, const void *b)
{
    const naive_score *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return x->token - y->token;
}

/* Repetition penalty over the tokens so far, then the temperature. */
static inline void naive_scores(naive_score *s, const float *logits, int n, const int32_t *history,
                                int n_history, const hw_sampling *set)
{
    bool *seen = calloc((size_t)n, sizeof *seen);
    double penalty = set->repetition_penalty > 0 ? (double)set->repetition_penalty : 1;
    for (int i = 0; i < n_history; i++)
        if (history[i] < n) seen[history[i]] = true;
    for (int i = 0; i < n; i++) {
        double x = (double)logits[i];
        if (seen[i]) x = x < 0 ? x * penalty : x / penalty;
        s[i] = (naive_score){set->temperature > 0 ? x / (double)set->temperature : x, i};
    }
    free(seen);
}

/* How many of the scores, in descending order, the filters leave. */
static inline int naive_kept(const naive_score *s, int n, const hw_sampling *set)
{
    int kept = set->top_k > 0 && set->top_k < n ? set->top_k : n;
    if (set->top_p > 0 && set->top_p < 1) {
        double total = 0, before = 0;
        for (int i = 0; i < kept; i++) total += exp(s[i].score - s[0].score);
        int nucleus = 0;
        while (nucleus < kept && (nucleus == 0 || before / total < (double)set->top_p))
            before += exp(s[nucleus++].score - s[0].score);
        kept = nucleus;
    }
    if (set->min_p > 0) {
        int above = 1;
        while (above < kept && exp(s[above].score - s[0].score) >= (double)set->min_p) above++;
        kept = above;
    }
    return kept;
}

/* `n` valid tokens; `step` is the length of the sequence. */
static inline naive_choice naive_sample(const float *logits, int n, const int32_t *history, int n_history,
                                        const hw_sampling *set, uint64_t step)
{
    naive_score *s = calloc((size_t)n, sizeof *s);
    naive_scores(s, logits, n, history, n_history, set);
    qsort(s, (size_t)n, sizeof *s, naive_descending);
    int kept = set->temperature > 0 ? naive_kept(s, n, set) : n;
    for (int i = 0; i < kept && set->temperature > 0; i++)
        s[i].score += (double)hw_gumbel(set->seed, step, (uint32_t)s[i].token);
    qsort(s, (size_t)kept, sizeof *s, naive_descending);
    naive_choice c = {s[0].token, kept > 1 ? s[0].score - s[1].score : INFINITY, kept};
    free(s);
    return c;
}

/* True when rounding cannot change the choice: the lead is well above the float32 rounding of scores of this
 * size, and the thresholds can move by 1e-5, far more than float32 exponentials move the sums that they are
 * compared with, without another token coming out. */
static inline bool naive_is_certain(const float *logits, int n, const int32_t *history, int n_history,
                                    const hw_sampling *set, uint64_t step)
{
    naive_choice c = naive_sample(logits, n, history, n_history, set, step);
    double largest = 0;
    for (int i = 0; i < n; i++)
        if (fabs((double)logits[i]) > largest) largest = fabs((double)logits[i]);
    if (set->temperature > 0) largest /= (double)set->temperature;
    if (c.lead < 1e-6 * (largest + 20)) return false;
    for (int i = -1; i <= 1; i += 2) {
        hw_sampling other = *set;
        if (set->top_p > 0 && set->top_p < 1) other.top_p = fmaxf(other.top_p + (float)i * 1e-5f, 1e-9f);
        if (set->min_p > 0 && set->min_p < 1) other.min_p *= 1 + (float)i * 1e-5f;
        if (naive_sample(logits, n, history, n_history, &other, step).token != c.token) return false;
    }
    return true;
}

#endif
