/* One prompt in a batch with seven other sequences; `headway check` compares it with the prompt alone. */
#ifndef HW_LAUNCH_COMMANDS_BATCH_INVARIANCE_H
#define HW_LAUNCH_COMMANDS_BATCH_INVARIANCE_H

#include "launch/commands/score.h"

/* Sequences of the batch, including that of the prompt. */
enum { HW_BATCH_INVARIANCE_SEQS = 8 };

/* Collective. Every step has rows of all sequences; the other prompts have its tokens in other orders. Calls `each` with the
 * logits of every token of `prompt` [n], then appends n_new greedy tokens to *greedy. Requires an engine with max_seqs of
 * HW_BATCH_INVARIANCE_SEQS and n + n_new positions. An error of `each` on any rank ends it on all. */
hw_status hw_batch_invariance_rows(hw_session *s, const int32_t *prompt, int n, int n_new,
                                   hw_row_function *each, void *user, hw_tokens *greedy, hw_error *err);

#endif
