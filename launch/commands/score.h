/* Scoring a text: the logits of every token, gathered from all ranks. */
#ifndef HW_LAUNCH_COMMANDS_SCORE_H
#define HW_LAUNCH_COMMANDS_SCORE_H

#include "launch/session.h"

/* Rows of logits per step: the value that hw_engine_options.max_logit_rows must have. */
enum { HW_SCORE_ROWS = 64 };

/* Called with row i of the logits, [vocab_size], on every rank. */
typedef hw_status hw_row_function(void *user, int i, const float *logits, int vocab_size, hw_error *err);

/* Collective. Runs tokens [n] as one sequence, `chunk` at a time (0: as many as fit in a step), and calls `each` with
 * every row of logits. An error of `each` on any rank ends it on all. */
hw_status hw_score_rows(hw_session *s, const int32_t *tokens, int n, int chunk, hw_row_function *each,
                        void *user, hw_error *err);

#endif
