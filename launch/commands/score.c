#include "launch/commands/score.h"

hw_status hw_score_rows(hw_session *s, const int32_t *tokens, int n, int chunk, hw_row_function *each,
                        void *user, hw_error *err)
{
    const hw_generate_options o = {
        .prefill_chunk = chunk, .prompt_only = true, .on_logits = each, .user = user};
    hw_generate_result none;
    hw_status st = hw_generate(s->engine, NULL, tokens, n, &o, &none, err);
    hw_tokens_free(&none.tokens);
    hw_session_end_if_alone(s, st, err);
    return st;
}
