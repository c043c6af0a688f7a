#include "runtime/generate.h"

#include "runtime/request_state.h"
#include "runtime/scheduler.h"

/* Up to here a rank can fail alone. From the first step on, an error that is not on all ranks ends the job. */
static hw_status begin(hw_scheduler **s, hw_request **r, hw_engine *e, const hw_tokenizer *tokenizer,
                       const int32_t *prompt, int n_prompt, const hw_generate_options *options, hw_error *err)
{
    const hw_scheduler_options o = {.tokenizer = tokenizer};
    hw_status st = hw_scheduler_create(s, e, &o, err);
    if (!st) st = hw_scheduler_submit(*s, r, prompt, n_prompt, options, err);
    return hw_comm_agree(hw_engine_comm(e), st, err);
}

hw_status hw_generate(hw_engine *e, const hw_tokenizer *tokenizer, const int32_t *prompt, int n_prompt,
                      const hw_generate_options *options, hw_generate_result *result, hw_error *err)
{
    hw_scheduler *s = NULL;
    hw_request *r = NULL, *ended = NULL;
    *result = (hw_generate_result){.n_prompt = n_prompt};
    hw_status st = begin(&s, &r, e, tokenizer, prompt, n_prompt, options, err);
    if (!st) st = hw_scheduler_poll(s, &ended, err);
    if (!st) st = hw_request_status(r, err);
    if (r) {
        if (!r->ended) hw_request_end(r, e, st, err);
        *result = r->result;
        r->result.tokens = (hw_tokens){NULL, 0, 0};
    }
    hw_request_destroy(ended);
    hw_scheduler_destroy(s);
    return st;
}
