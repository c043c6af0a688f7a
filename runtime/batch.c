#include "runtime/batch.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/engine_state.h"

/* A sequence without blocks. NULL: out of memory, with a message. */
static hw_sequence *new_sequence(hw_engine *e, int max_tokens, hw_error *err)
{
    hw_sequence *s = calloc(1, sizeof *s);
    if (s) s->tokens = calloc((size_t)max_tokens, sizeof *s->tokens);
    if (!s || !s->tokens) {
        free(s);
        hw_fail(err, HW_ERR_NO_MEMORY, "sequence: no memory for %d tokens", max_tokens);
        return NULL;
    }
    s->engine = e;
    s->max_tokens = max_tokens;
    return s;
}

hw_status hw_sequence_create(hw_sequence **out, hw_engine *e, int max_tokens, hw_error *err)
{
    *out = NULL;
    if (!max_tokens) max_tokens = e->options.max_seq_len;
    if (max_tokens < 1 || max_tokens > e->options.max_seq_len)
        return hw_fail(err, HW_ERR_INVALID,
                       "a sequence of %d tokens was asked for, 1 to %d fit in the context", max_tokens,
                       e->options.max_seq_len);
    hw_sequence *s = new_sequence(e, max_tokens, err);
    hw_status st = s ? hw_kv_open(e->kv, &s->table, err) : HW_ERR_NO_MEMORY;
    if (st) {
        hw_sequence_destroy(s);
        return st;
    }
    *out = s;
    return HW_OK;
}

hw_status hw_sequence_fork(hw_sequence **out, const hw_sequence *src, hw_error *err)
{
    *out = NULL;
    if (src->n_computed < src->n_tokens)
        return hw_fail(err, HW_ERR_INVALID,
                       "a sequence of %d tokens was forked while %d of them wait for a step", src->n_tokens,
                       src->n_tokens - src->n_computed);
    hw_sequence *s = new_sequence(src->engine, src->max_tokens, err);
    hw_status st = s ? hw_kv_fork(s->engine->kv, &s->table, &src->table, err) : HW_ERR_NO_MEMORY;
    if (st) {
        hw_sequence_destroy(s);
        return st;
    }
    memcpy(s->tokens, src->tokens, (size_t)src->n_tokens * sizeof *s->tokens);
    s->n_tokens = s->n_computed = src->n_tokens;
    *out = s;
    return HW_OK;
}

void hw_sequence_destroy(hw_sequence *s)
{
    if (!s) return;
    hw_kv_release(s->engine->kv, &s->table);
    free(s->tokens);
    free(s);
}

int hw_sequence_n_tokens(const hw_sequence *s) { return s->n_tokens; }
const int32_t *hw_sequence_tokens(const hw_sequence *s) { return s->tokens; }
int hw_sequence_n_cached(const hw_sequence *s) { return s->n_cached; }

hw_status hw_batch_create(hw_batch **out, hw_engine *e, hw_error *err)
{
    *out = NULL;
    size_t rows = (size_t)e->options.max_batch_rows, logits = (size_t)e->options.max_logit_rows;
    size_t seqs = (size_t)e->options.max_seqs;
    hw_batch *b = calloc(1, sizeof *b);
    if (!b) return hw_fail(err, HW_ERR_NO_MEMORY, "batch: no memory");
    b->engine = e;
    b->tokens = calloc(rows, sizeof *b->tokens);
    b->positions = calloc(rows, sizeof *b->positions);
    b->seqs = calloc(rows, sizeof *b->seqs);
    b->logit_rows = calloc(logits, sizeof *b->logit_rows);
    b->logit_seqs = calloc(logits, sizeof *b->logit_seqs);
    b->sequences = calloc(seqs, sizeof *b->sequences);
    b->block_tables = calloc(seqs * (size_t)e->shape.seq_blocks, sizeof *b->block_tables);
    if (!b->tokens || !b->positions || !b->seqs || !b->logit_rows || !b->logit_seqs || !b->sequences ||
        !b->block_tables) {
        hw_batch_destroy(b);
        return hw_fail(err, HW_ERR_NO_MEMORY, "batch: no memory for %zu rows", rows);
    }
    *out = b;
    return HW_OK;
}

void hw_batch_destroy(hw_batch *b)
{
    if (!b) return;
    free(b->tokens);
    free(b->positions);
    free(b->seqs);
    free(b->logit_rows);
    free(b->logit_seqs);
    free(b->sequences);
    free(b->block_tables);
    free(b);
}

void hw_batch_clear(hw_batch *b)
{
    b->n_rows = b->n_seqs = b->n_logits = 0;
    b->n_prefill_rows = b->n_decode_rows = 0;
    b->max_position = 0;
    b->step = 0;
}

int hw_batch_n_rows(const hw_batch *b) { return b->n_rows; }
int hw_batch_n_logits(const hw_batch *b) { return b->n_logits; }

/* Whether the tokens can follow the sequence's, and the sequence can join the batch. */
static hw_status check_tokens(const hw_batch *b, const hw_sequence *s, const int32_t *tokens, int n,
                              hw_error *err)
{
    if (n < 1)
        return hw_fail(err, HW_ERR_INVALID, "a step was given %d tokens of a sequence, at least 1 is needed",
                       n);
    for (int i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= b->engine->model.vocab_size)
            return hw_fail(err, HW_ERR_INVALID, "token %d (number %d) is outside the vocabulary of %d",
                           tokens[i], s->n_tokens + i, b->engine->model.vocab_size);
    if (n > s->max_tokens - s->n_tokens)
        return hw_fail(err, HW_ERR_INVALID,
                       "%d tokens are longer than the context: the sequence holds %d of at most %d", n,
                       s->n_tokens, s->max_tokens);
    for (int i = 0; i < b->n_seqs; i++)
        if (b->sequences[i] == s)
            return hw_fail(err, HW_ERR_INVALID, "a sequence was added to the batch twice");
    /* Without a cache all tokens run again. */
    if (s->n_computed < s->n_tokens && b->engine->options.kv_policy != HW_KV_OFF)
        return hw_fail(err, HW_ERR_INVALID,
                       "tokens were added to a sequence of %d while %d of them wait for a step", s->n_tokens,
                       s->n_tokens - s->n_computed);
    return HW_OK;
}

static hw_status check_room(const hw_batch *b, int n_rows, int n_logits, hw_error *err)
{
    const hw_engine_options *o = &b->engine->options;
    if (n_rows <= o->max_batch_rows - b->n_rows && n_logits <= o->max_logit_rows - b->n_logits &&
        b->n_seqs < o->max_seqs)
        return HW_OK;
    return hw_fail(err, HW_ERR_INVALID,
                   "the batch is full: %d rows, %d of logits and 1 sequence more than %d, %d and %d "
                   "would pass %d, %d and %d",
                   n_rows, n_logits, b->n_rows, b->n_logits, b->n_seqs, o->max_batch_rows, o->max_logit_rows,
                   o->max_seqs);
}

static void add_rows(hw_batch *b, hw_sequence *s, int first, int n_logits)
{
    for (int p = first; p < s->n_tokens; p++) {
        int row = b->n_rows++;
        b->tokens[row] = s->tokens[p];
        b->positions[row] = p;
        b->seqs[row] = b->n_seqs;
        if (p >= s->n_tokens - n_logits) {
            b->logit_rows[b->n_logits] = row;
            b->logit_seqs[b->n_logits++] = s;
        }
    }
    memcpy(b->block_tables + (size_t)b->n_seqs * (size_t)b->engine->shape.seq_blocks, s->table.blocks,
           (size_t)s->table.n_blocks * sizeof *s->table.blocks);
    b->sequences[b->n_seqs++] = s;
    if (s->n_tokens - 1 > b->max_position) b->max_position = s->n_tokens - 1;
}

hw_status hw_batch_add(hw_batch *b, hw_sequence *s, const int32_t *tokens, int n, hw_logits_wanted wanted,
                       hw_error *err)
{
    hw_engine *e = b->engine;
    const int n_known = s->n_tokens, n_logits = wanted == HW_LOGITS_ALL ? n : wanted == HW_LOGITS_LAST;
    hw_status st = check_tokens(b, s, tokens, n, err);
    if (st) return st;
    const int n_tokens = n_known + n, most_cached = n_tokens - (n_logits ? n_logits : 1);
    memcpy(s->tokens + n_known, tokens, (size_t)n * sizeof *tokens); /* valid once n_tokens is increased */
    /* Without a cache the whole prefix runs again. Its keys and values are written to the blocks as usual
     * (so they are rounded alike), and nothing from an earlier step is read. */
    int first = e->options.kv_policy == HW_KV_OFF
                    ? 0
                    : hw_kv_lookup(e->kv, &s->table, s->tokens, n_known, n_tokens, most_cached);
    st = check_room(b, n_tokens - first, n_logits, err);
    if (!st) st = hw_kv_extend(e->kv, &s->table, s->tokens, first, n_tokens, err);
    if (st) return st;
    if (first > n_known) {
        s->n_cached += first - n_known;
        s->n_computed += first - n_known;
    }
    s->n_tokens = n_tokens;
    b->step = 0;
    add_rows(b, s, first, n_logits);
    *(n_known > 0 && n == 1 ? &b->n_decode_rows : &b->n_prefill_rows) += n_tokens - first;
    return HW_OK;
}

void hw_batch_done(hw_batch *b)
{
    b->step = b->engine->n_steps;
    for (int row = 0; row < b->n_rows; row++) {
        hw_sequence *s = b->sequences[b->seqs[row]];
        if (b->positions[row] == s->n_computed) s->n_computed++;
    }
    for (int i = 0; i < b->n_seqs; i++) {
        hw_sequence *s = b->sequences[i];
        hw_kv_publish(s->engine->kv, &s->table, s->tokens, s->n_computed);
    }
}

hw_status hw_batch_check_logits(const hw_batch *b, hw_error *err)
{
    if (b->step && b->step == b->engine->n_steps) return HW_OK;
    return hw_fail(err, HW_ERR_INVALID, "logits of a batch were asked for %s",
                   b->step ? "after another step" : "before a step");
}
