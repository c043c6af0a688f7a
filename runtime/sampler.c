/* Chooses the next token without gathering logits. Payload per sequence: 8 bytes for greedy and for plain
 * temperature, 16 with min-p, each rank's best few candidates with top-k and top-p. Every filter is exact, and
 * all ranks decide from the same numbers, so they choose the same token without a further exchange.
 *
 * The draw is an arg-max over logit / temperature + Gumbel noise (Gumbel 1954; Maddison et al. 2014),
 * which has the distribution of the softmax. The noise of a token depends on (seed, position, token id)
 * alone, so it does not matter which rank holds the token; a filter only removes candidates. */
#include "runtime/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/batch.h"
#include "runtime/engine_state.h"

static const float MIN_TEMPERATURE = 1e-6f, MAX_TEMPERATURE = 1e6f;

struct hw_sampler {
    uint64_t *keys;       /* [max_rows] one per row */
    int *all_rows;        /* [max_rows] 0, 1, 2, ... */
    uint64_t *candidates; /* [n_ranks, capacity]: gathered, then merged */
    uint64_t *other;      /* [n_ranks, capacity]: this rank's own, then the other side of the merge */
    size_t capacity;
    int n_ranks, vocab_size;
    int widest;        /* size of the largest slice of the vocabulary: no rank has more candidates */
    int32_t *distinct; /* [vocab_size] tokens of a sequence, each once */
    uint8_t *seen;     /* [vocab_size] */
};

hw_status hw_sampler_create(hw_sampler **out, int max_rows, int n_ranks, int vocab_size, hw_error *err)
{
    hw_sampler *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) return hw_fail(err, HW_ERR_NO_MEMORY, "sampler: no memory");
    s->n_ranks = n_ranks;
    s->vocab_size = vocab_size;
    s->widest = (int)hw_shard_widest((size_t)vocab_size, n_ranks);
    s->keys = calloc((size_t)max_rows, sizeof *s->keys);
    s->all_rows = calloc((size_t)max_rows, sizeof *s->all_rows);
    s->distinct = calloc((size_t)vocab_size, sizeof *s->distinct);
    s->seen = calloc((size_t)vocab_size, 1);
    s->capacity = HW_FIRST_CANDIDATES;
    s->candidates = calloc((size_t)n_ranks * s->capacity, sizeof *s->candidates);
    s->other = calloc((size_t)n_ranks * s->capacity, sizeof *s->other);
    if (!s->keys || !s->all_rows || !s->distinct || !s->seen || !s->candidates || !s->other) {
        hw_sampler_destroy(s);
        return hw_fail(err, HW_ERR_NO_MEMORY, "sampler: no memory for a vocabulary of %d", vocab_size);
    }
    for (int i = 0; i < max_rows; i++) s->all_rows[i] = i;
    *out = s;
    return HW_OK;
}

void hw_sampler_destroy(hw_sampler *s)
{
    if (!s) return;
    free(s->keys);
    free(s->all_rows);
    free(s->candidates);
    free(s->other);
    free(s->distinct);
    free(s->seen);
    free(s);
}

hw_status hw_sampling_check(const hw_sampling *s, hw_error *err)
{
    /* Below the least temperature a logit divided by it can be too large for a float. */
    if (s->temperature != 0 && !(s->temperature >= MIN_TEMPERATURE && s->temperature <= MAX_TEMPERATURE))
        return hw_fail(err, HW_ERR_INVALID, "temperature is %g, wanted 0 (greedy) or %g to %g",
                       (double)s->temperature, (double)MIN_TEMPERATURE, (double)MAX_TEMPERATURE);
    if (s->top_k < 0) return hw_fail(err, HW_ERR_INVALID, "top_k is %d, wanted 0 (off) or more", s->top_k);
    if (!(s->top_p >= 0 && s->top_p <= 1))
        return hw_fail(err, HW_ERR_INVALID, "top_p is %g, wanted above 0 up to 1 (off)", (double)s->top_p);
    if (!(s->min_p >= 0 && s->min_p <= 1))
        return hw_fail(err, HW_ERR_INVALID, "min_p is %g, wanted 0 (off) to 1", (double)s->min_p);
    if (!(s->repetition_penalty >= 0 && s->repetition_penalty <= 1e6f))
        return hw_fail(err, HW_ERR_INVALID, "repetition_penalty is %g, wanted above 0, 1 being off",
                       (double)s->repetition_penalty);
    return HW_OK;
}

static bool is_greedy(const hw_sampling *s) { return s->temperature == 0; }
static bool has_top_p(const hw_sampling *s) { return s->top_p > 0 && s->top_p < 1; }
static bool gathers(const hw_sampling *s) { return !is_greedy(s) && (s->top_k > 0 || has_top_p(s)); }
static bool draws_at_once(const hw_sampling *s) { return !is_greedy(s) && !gathers(s) && s->min_p == 0; }
static bool penalizes(const hw_sampling *s)
{
    return s->repetition_penalty != 0 && s->repetition_penalty != 1;
}

/* Greedy, or drawn without a filter. */
static bool takes_one_exchange(const hw_sampling *s) { return is_greedy(s) || draws_at_once(s); }

bool hw_sampling_is_plain(const hw_sampling *s) { return takes_one_exchange(s) && !penalizes(s); }

/* One row of the last step, with everything needed to choose its token. */
typedef struct row {
    hw_engine *e;
    const hw_sampling *set;
    float *logits; /* [n_local_vocab] on the device */
    int n_local, first_id, n_valid;
    uint64_t step; /* position of the next token */
    hw_tag tag;
    hw_error *err;
} row;

static hw_status reduce_max(row *r, uint64_t *key)
{
    return hw_comm_all_reduce(r->e->tensor, r->tag, key, 1, HW_U64, HW_MAX, r->err);
}

static hw_status draw_local(row *r, float floor, uint64_t *key)
{
    hw_device *d = r->e->device;
    return d->k->row_draw(d, key, r->logits, r->n_local, r->first_id, r->n_valid, floor, r->set->temperature,
                          r->set->seed, r->step);
}

static hw_status penalize(row *r, const hw_sequence *seq)
{
    hw_sampler *s = r->e->sampler;
    int n = 0;
    if (!penalizes(r->set)) return HW_OK;
    for (int i = 0; i < seq->n_tokens; i++) {
        int32_t t = seq->tokens[i];
        if (s->seen[t]) continue;
        s->seen[t] = 1;
        s->distinct[n++] = t;
    }
    for (int i = 0; i < n; i++) s->seen[s->distinct[i]] = 0;
    hw_device *d = r->e->device;
    return d->k->penalize(d, r->logits, r->n_local, r->first_id, s->distinct, n, r->set->repetition_penalty);
}

/* ---- top-k and top-p: the best candidates of all ranks, in order */

static hw_status reserve(hw_sampler *s, size_t per_rank, hw_error *err)
{
    if (per_rank <= s->capacity) return HW_OK;
    size_t n = (size_t)s->n_ranks * per_rank;
    uint64_t *candidates = calloc(n, sizeof *candidates), *other = calloc(n, sizeof *other);
    if (!candidates || !other) {
        free(candidates);
        free(other);
        return hw_fail(err, HW_ERR_NO_MEMORY, "sampler: no memory for %zu candidates", n);
    }
    free(s->candidates);
    free(s->other);
    s->candidates = candidates;
    s->other = other;
    s->capacity = per_rank;
    return HW_OK;
}

/* Merges a [n_a] and b [n_b] into out, all descending. */
static void merge(uint64_t *out, const uint64_t *a, size_t n_a, const uint64_t *b, size_t n_b)
{
    size_t i = 0, j = 0;
    while (i < n_a && j < n_b) *out++ = a[i] >= b[j] ? a[i++] : b[j++];
    while (i < n_a) *out++ = a[i++];
    while (j < n_b) *out++ = b[j++];
}

/* Merges the candidates of `n_ranks` ranks, `k` of each in descending order, into one descending list, pair by pair.
 * qsort is not used because it may allocate. */
static void merge_ranks(hw_sampler *s, size_t k)
{
    size_t total = (size_t)s->n_ranks * k;
    for (size_t run = k; run < total; run *= 2) {
        for (size_t at = 0; at < total; at += 2 * run) {
            size_t middle = at + run < total ? at + run : total,
                   end = middle + run < total ? middle + run : total;
            merge(s->other + at, s->candidates + at, middle - at, s->candidates + middle, end - middle);
        }
        uint64_t *merged = s->other;
        s->other = s->candidates;
        s->candidates = merged;
    }
}

/* Collective. Gathers the best `k` candidates of each rank in descending order into s->candidates; *n is their number.
 * *certain: how many of the first are known to be the best of all (a rank may hold others below its worst
 * candidate). k is at most s->widest. */
static hw_status gather_best(row *r, int k, int *n, int *certain)
{
    hw_sampler *s = r->e->sampler;
    hw_device *d = r->e->device;
    hw_status st = reserve(s, (size_t)k, r->err);
    uint64_t bound = 0;
    if (!st) st = d->k->row_best(d, s->other, r->logits, r->n_local, r->first_id, r->n_valid, k);
    if (!st)
        st = hw_comm_all_gather(r->e->tensor, r->tag, s->other, (size_t)k * sizeof *s->other, s->candidates,
                                r->err);
    if (st) return st;
    for (int i = 0; i < s->n_ranks && k < s->widest; i++) {
        uint64_t last = s->candidates[(size_t)i * (size_t)k + (size_t)k - 1]; /* 0: that rank has no more */
        if (last > bound) bound = last;
    }
    merge_ranks(s, (size_t)k);
    size_t total = (size_t)s->n_ranks * (size_t)k;
    *n = *certain = 0;
    while (*n < (int)total && s->candidates[*n]) (*n)++;
    while (*certain < *n && s->candidates[*certain] >= bound) (*certain)++;
    return HW_OK;
}

/* exp((logit - max) / temperature) in the fixed point of row_mass. */
static uint64_t candidate_mass(const row *r, uint64_t key, float max)
{
    double x = ((double)hw_key_logit(key) - (double)max) / (double)r->set->temperature;
    return (uint64_t)llrint(exp(x) * HW_MASS_ONE);
}

/* How many of the first `n` candidates are needed to reach top_p of `total`; n + 1 if they do not reach it. */
static int nucleus(const row *r, int n, uint64_t total)
{
    const uint64_t *c = r->e->sampler->candidates;
    float max = hw_key_logit(c[0]);
    double wanted = (double)r->set->top_p * (double)total, kept = 0;
    for (int i = 0; i < n; i++) {
        kept += (double)candidate_mass(r, c[i], max);
        if (kept >= wanted) return i + 1;
    }
    return n + 1;
}

static hw_status keep_top_k(row *r, int *n)
{
    int certain;
    int k = r->set->top_k, widest = r->e->sampler->widest;
    hw_status st = gather_best(r, k < widest ? k : widest, n, &certain);
    if (st) return st;
    if (*n > k) *n = k; /* the k best of all are among the k best of each rank */
    if (has_top_p(r->set)) {
        uint64_t total = 0;
        for (int i = 0; i < *n; i++)
            total +=
                candidate_mass(r, r->e->sampler->candidates[i], hw_key_logit(r->e->sampler->candidates[0]));
        int kept = nucleus(r, *n, total);
        if (kept < *n) *n = kept;
    }
    return HW_OK;
}

/* Collective. `max`: the largest logit of all ranks. */
static hw_status keep_top_p(row *r, float max, int *n)
{
    hw_device *d = r->e->device;
    uint64_t total = 0;
    int certain;
    hw_status st =
        d->k->row_mass(d, &total, r->logits, r->n_local, r->first_id, r->n_valid, max, r->set->temperature);
    if (!st) st = hw_comm_all_reduce(r->e->tensor, r->tag, &total, 1, HW_U64, HW_SUM, r->err);
    for (int k = HW_FIRST_CANDIDATES; !st; k *= 4) {
        if (k > r->e->sampler->widest) k = r->e->sampler->widest;
        if ((st = gather_best(r, k, n, &certain))) break;
        int kept = nucleus(r, certain, total);
        if (kept <= certain || k == r->e->sampler->widest) {
            if (kept < *n) *n = kept;
            break;
        }
    }
    return st;
}

/* The same draw as row_draw, over candidates: applies min-p to them, then takes the largest logit / temperature +
 * noise. */
static uint64_t draw_candidate(const row *r, int n)
{
    const uint64_t *c = r->e->sampler->candidates;
    float max = hw_key_logit(c[0]);
    float floor = r->set->min_p > 0 ? max + r->set->temperature * logf(r->set->min_p) : -INFINITY;
    uint64_t best = 0;
    for (int i = 0; i < n; i++) {
        int32_t token = hw_key_token(c[i]);
        float logit = hw_key_logit(c[i]);
        if (logit < floor) break;
        uint64_t key =
            hw_key(logit / r->set->temperature + hw_gumbel(r->set->seed, r->step, (uint32_t)token), token);
        if (key > best) best = key;
    }
    return best;
}

/* Collective. Rows whose filters need more than one exchange. `best` is the greedy key of all ranks. */
static hw_status choose_filtered(row *r, uint64_t best, uint64_t *key)
{
    float max = hw_key_logit(best);
    hw_status st;
    if (!gathers(r->set)) { /* min-p alone: a floor under the logits */
        st = draw_local(r, max + r->set->temperature * logf(r->set->min_p), key);
        return st ? st : reduce_max(r, key);
    }
    int n;
    st = r->set->top_k > 0 ? keep_top_k(r, &n) : keep_top_p(r, max, &n);
    if (!st) *key = draw_candidate(r, n);
    return st;
}

hw_status hw_sampler_check_key(uint64_t key, hw_error *err)
{
    if (key == HW_KEY_NAN)
        return hw_fail(err, HW_ERR_FAILED,
                       "a logit is not a number: the weights are damaged, or too large for their type");
    if (key == HW_KEY_CANCEL) return hw_fail(err, HW_ERR_CANCELLED, "cancelled");
    if (key == 0) return hw_fail(err, HW_ERR_FAILED, "no token can be chosen: none is valid");
    if (isinf(hw_key_logit(key)))
        return hw_fail(err, HW_ERR_FAILED,
                       "the largest logit is infinite: the weights are damaged, or too large for their type");
    return HW_OK;
}

static row make_row(hw_engine *e, const hw_batch *b, const hw_sampling *set, int i, int n_valid,
                    hw_error *err)
{
    int n_local = (int)hw_range_size(e->shard.vocab);
    return (row){.e = e,
                 .set = set,
                 .logits = e->buffers.logits + (size_t)i * (size_t)n_local,
                 .n_local = n_local,
                 .first_id = (int)e->shard.vocab.begin,
                 .n_valid = n_valid > 0 && n_valid < e->model.vocab_size ? n_valid : e->model.vocab_size,
                 .step = (uint64_t)b->logit_seqs[i]->n_tokens,
                 .tag = hw_batch_tag(b, HW_SITE_SAMPLE, 0),
                 .err = err};
}

hw_status hw_sampler_choose(hw_engine *e, const hw_batch *b, const int *rows, const hw_sampling *settings,
                            int n, int n_valid, uint64_t *keys, hw_error *err)
{
    hw_device *d = e->device;
    hw_status st = hw_batch_check_logits(b, err);
    if (st) return st;
    for (int i = 0; i < n && !st; i++) {
        row r = make_row(e, b, &settings[i], rows[i], n_valid, err);
        st = penalize(&r, b->logit_seqs[rows[i]]);
        if (!st && draws_at_once(r.set)) st = draw_local(&r, -INFINITY, &keys[i]);
        else if (!st) st = d->k->row_best(d, &keys[i], r.logits, r.n_local, r.first_id, r.n_valid, 1);
        if (e->cancelled && keys[i] != HW_KEY_NAN) keys[i] = HW_KEY_CANCEL;
    }
    /* One exchange for all rows: it gives the token of plain rows, and the largest logit of the others. */
    if (!st)
        st = hw_comm_all_reduce(e->tensor, hw_batch_tag(b, HW_SITE_SAMPLE, 0), keys, (size_t)n, HW_U64,
                                HW_MAX, err);
    for (int i = 0; i < n && !st; i++) {
        row r = make_row(e, b, &settings[i], rows[i], n_valid, err);
        if (!takes_one_exchange(r.set) && !hw_sampler_check_key(keys[i], NULL))
            st = choose_filtered(&r, keys[i], &keys[i]);
    }
    return st ? hw_engine_wait(e, st, err) : HW_OK;
}

hw_status hw_engine_sample(hw_engine *e, const hw_batch *b, const hw_sampling *settings, int n_valid,
                           int32_t *tokens, hw_error *err)
{
    uint64_t *const keys = e->sampler->keys;
    hw_status st = hw_sampler_choose(e, b, e->sampler->all_rows, settings, b->n_logits, n_valid, keys, err);
    for (int i = 0; i < b->n_logits && !st; i++) {
        st = hw_sampler_check_key(keys[i], err);
        if (!st) tokens[i] = hw_key_token(keys[i]);
    }
    return st;
}
