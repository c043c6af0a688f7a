#include "launch/commands/batch_invariance.h"

#include <stdlib.h>

#include "runtime/scheduler.h"

enum { OURS = 3 }; /* neither the first nor the last of the batch */

/* The other prompts take tokens of this one, each with its own stride. */
static int32_t token_of(const int32_t *prompt, int n, int j, int i)
{
    return j == OURS ? prompt[i] : prompt[((long)i * (j + 2) + 5 * j + 1) % n];
}

/* All sequences run their prompts in chunks, small enough that a step has room for one chunk of each. */
static hw_status submit(hw_scheduler *s, hw_request **ours, const hw_engine_info *info, const int32_t *prompt,
                        int n, hw_generate_options o, hw_error *err)
{
    const hw_generate_options theirs = {.max_new_tokens = o.max_new_tokens,
                                        .prefill_chunk = o.prefill_chunk =
                                            info->max_batch_rows / HW_BATCH_INVARIANCE_SEQS};
    int32_t *tokens = calloc((size_t)n, sizeof *tokens);
    hw_status st = tokens ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "check: no memory for %d tokens", n);
    if (!st && o.prefill_chunk < 1)
        st = hw_fail(err, HW_ERR_INVALID, "check: a step of %d rows has no room for %d sequences",
                     info->max_batch_rows, HW_BATCH_INVARIANCE_SEQS);
    for (int j = 0; j < HW_BATCH_INVARIANCE_SEQS && !st; j++) {
        for (int i = 0; i < n; i++) tokens[i] = token_of(prompt, n, j, i);
        st = hw_scheduler_submit(s, j == OURS ? ours : NULL, tokens, n, j == OURS ? &o : &theirs, err);
    }
    free(tokens);
    return st;
}

/* Appends the tokens of our sequence to *greedy. */
static hw_status run(hw_scheduler *s, const hw_request *ours, hw_tokens *greedy, hw_error *err)
{
    hw_request *ended;
    hw_status st;
    while (!(st = hw_scheduler_poll(s, &ended, err)) && ended) {
        const hw_tokens *made = &hw_request_result(ended)->tokens;
        st = hw_request_status(ended, err);
        for (size_t i = 0; i < made->n && ended == ours && !st; i++)
            st = hw_tokens_push(greedy, made->ids[i], err);
        hw_request_destroy(ended);
        if (st) break;
    }
    return st;
}

hw_status hw_batch_invariance_rows(hw_session *s, const int32_t *prompt, int n, int n_new,
                                   hw_row_function *each, void *user, hw_tokens *greedy, hw_error *err)
{
    const hw_generate_options o = {.max_new_tokens = n_new, .on_logits = each, .user = user};
    const hw_engine_info info = hw_engine_info_get(s->engine);
    hw_scheduler *scheduler = NULL;
    hw_request *ours = NULL;
    hw_status st = hw_scheduler_create(&scheduler, s->engine, &(hw_scheduler_options){NULL, false}, err);
    if (!st) st = submit(scheduler, &ours, &info, prompt, n, o, err);
    st = hw_comm_agree(s->comm, st, err);
    if (!st) st = run(scheduler, ours, greedy, err);
    hw_session_end_if_alone(s, st, err);
    hw_scheduler_destroy(scheduler);
    return st;
}
