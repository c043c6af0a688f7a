/* One prompt in a batch among seven other sequences: what `headway check` compares with the prompt by itself.
 */
#ifndef HW_LAUNCH_COMMANDS_BATCH_INVARIANCE_H
#define HW_LAUNCH_COMMANDS_BATCH_INVARIANCE_H

#include "launch/commands/score.h"

/* Sequences of the batch, the prompt's included. */
enum { HW_BATCH_INVARIANCE_SEQS = 8 };

/* Collective. Every step has rows of all sequences; the others' prompts are this one in other orders. Hands on the logits of every token of `prompt` [n], then adds n_new greedy tokens to *greedy. Wants an
 * engine with max_seqs of HW_BATCH_INVARIANCE_SEQS and n + n_new positions. An error of `each` on any rank ends it on all. */
hw_status hw_batch_invariance_rows(hw_session *s, const int32_t *prompt, int n, int n_new,
                                   hw_row_function *each, void *user, hw_tokens *greedy, hw_error *err);

#endif
