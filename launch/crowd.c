#include "launch/crowd.h"

#include <stdlib.h>

enum { OURS = 3 }; /* neither the first nor the last of the batch */

typedef struct crowd {
    hw_session *s;
    const int32_t *prompt;
    int n; /* tokens of the prompt */
    hw_sequence *seqs[HW_CROWD];
    hw_batch *batch;
    float *logits;   /* [chunk, vocab_size] */
    int32_t *tokens; /* [chunk] */
    int chunk;
} crowd;

/* Token i of sequence j: each goes through the prompt with a step of its own. */
static int32_t token_of(const crowd *c, int j, int i)
{
    return j == OURS ? c->prompt[i] : c->prompt[((long)i * (j + 2) + 5 * j + 1) % c->n];
}

static hw_status make(crowd *c, hw_error *err)
{
    const hw_engine_info info = hw_engine_info_get(c->s->engine);
    c->chunk = info.max_batch_rows / HW_CROWD < info.max_logit_rows ? info.max_batch_rows / HW_CROWD
                                                                    : info.max_logit_rows;
    if (c->chunk < 1)
        return hw_fail(err, HW_ERR_INVALID, "check: a step of %d rows has no room for %d sequences",
                       info.max_batch_rows, HW_CROWD);
    c->logits = calloc((size_t)c->chunk * (size_t)info.vocab_size, sizeof *c->logits);
    c->tokens = calloc((size_t)c->chunk, sizeof *c->tokens);
    hw_status st = c->logits && c->tokens ? hw_batch_create(&c->batch, c->s->engine, err)
                                          : hw_fail(err, HW_ERR_NO_MEMORY, "check: no memory for logits");
    for (int j = 0; j < HW_CROWD && !st; j++) st = hw_sequence_create(&c->seqs[j], c->s->engine, 0, err);
    return st;
}

static void clean_up(crowd *c)
{
    hw_batch_destroy(c->batch);
    for (int j = 0; j < HW_CROWD; j++) hw_sequence_destroy(c->seqs[j]);
    free(c->logits);
    free(c->tokens);
}

/* Tokens i .. i + rows - 1 of all sequences; ours is `next` instead where that is given. */
static hw_status step(crowd *c, int i, int rows, const int32_t *next, hw_logits_wanted wanted, hw_error *err)
{
    hw_status st = HW_OK;
    hw_batch_clear(c->batch);
    for (int j = 0; j < HW_CROWD && !st; j++) {
        for (int r = 0; r < rows; r++) c->tokens[r] = j == OURS && next ? *next : token_of(c, j, i + r);
        st = hw_batch_add(c->batch, c->seqs[j], c->tokens, rows, j == OURS ? wanted : HW_LOGITS_NONE, err);
    }
    return st ? st : hw_engine_step(c->s->engine, c->batch, err);
}

/* The last token of the prompt has a step of its own, from which the first new one is sampled. */
static hw_status read_prompt(crowd *c, hw_row_function *each, void *user, hw_error *err)
{
    const size_t vocab = (size_t)hw_engine_info_get(c->s->engine).vocab_size;
    hw_status st = HW_OK, said = HW_OK;
    for (int i = 0, rows; i < c->n && !st; i += rows) {
        rows = c->n - 1 - i < c->chunk ? c->n - 1 - i : c->chunk;
        if (rows < 1) rows = 1;
        st = step(c, i, rows, NULL, i == c->n - 1 ? HW_LOGITS_LAST : HW_LOGITS_ALL, err);
        if (!st) st = hw_engine_logits(c->s->engine, c->logits, err);
        hw_session_end_if_alone(c->s, st, err);
        for (int r = 0; r < rows && !st && !said; r++)
            said = each(user, i + r, c->logits + (size_t)r * vocab, (int)vocab, err);
        if (!st) st = hw_comm_agree(c->s->comm, said, err);
    }
    return st;
}

static hw_status go_on(crowd *c, int n_new, hw_tokens *greedy, hw_error *err)
{
    const hw_sampling sampling = {.temperature = 0};
    hw_status st = HW_OK;
    for (int i = 0; i < n_new && !st; i++) {
        int32_t token;
        st = hw_engine_sample(c->s->engine, &sampling, 0, &token, err);
        if (!st) st = hw_tokens_push(greedy, token, err);
        if (!st && i + 1 < n_new) st = step(c, c->n + i, 1, &token, HW_LOGITS_LAST, err);
        hw_session_end_if_alone(c->s, st, err);
    }
    return st;
}

hw_status hw_in_crowd(hw_session *s, const int32_t *prompt, int n, int n_new, hw_row_function *each,
                      void *user, hw_tokens *greedy, hw_error *err)
{
    crowd c = {.s = s, .prompt = prompt, .n = n};
    hw_status st = hw_comm_agree(s->comm, make(&c, err), err);
    if (!st) st = read_prompt(&c, each, user, err);
    if (!st) st = go_on(&c, n_new, greedy, err);
    clean_up(&c);
    return st;
}
