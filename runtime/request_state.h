/* The insides of a request, for request.c, scheduler.c and generate.c. All functions are Local. */
#ifndef HW_RUNTIME_REQUEST_STATE_H
#define HW_RUNTIME_REQUEST_STATE_H

#include "runtime/request.h"
#include "runtime/stop.h"

struct hw_request {
    hw_generate_options options; /* its stop strings are in `stop` */
    int32_t *eos;                /* what options.eos points to */
    hw_tokens tokens;            /* the prompt, and what was chosen after it */
    int n_prompt, most_new;      /* tokens; the second with the context in mind */
    hw_sequence *seq;            /* NULL while it waits */
    const hw_tokenizer *tokenizer;
    hw_text_stream *stream; /* NULL without a tokenizer */
    hw_stop *stop;
    int n_scored; /* rows of the prompt whose logits were told */
    uint64_t start_ns, first_token_ns;
    bool cancelled, ended;
    bool in_step;               /* has rows in the step that is being made */
    int first_row;              /* position of the first of them */
    int first_logits, n_logits; /* where its logits are in it */
    hw_generate_result result;
    hw_status status;
    hw_error error;
};

/* Copies prompt [n_prompt] and options, but not what functions and `user` point to. `tokenizer` is borrowed; NULL: no text
 * is made, and stop strings are refused. On HW_OK the caller owns *out. Errors: HW_ERR_INVALID (empty prompt, longer than the
 * context, settings), HW_ERR_NO_MEMORY. */
hw_status hw_request_create(hw_request **out, const hw_engine *e, const hw_tokenizer *tokenizer,
                            const int32_t *prompt, int n_prompt, const hw_generate_options *options,
                            hw_error *err);

/* How many of its tokens no step has been given. */
int hw_request_n_pending(const hw_request *r);

/* Text that is certain. */
typedef struct hw_text {
    const char *bytes; /* borrowed until the next call for the request */
    size_t n;
} hw_text;

/* A token was chosen: it is kept, and *text is what it made certain. *done when it was the last one; `result.finish` says
 * why. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_request_take(hw_request *r, int32_t token, hw_text *text, bool *done, hw_error *err);

/* No token comes any more. What a decoder and a search for stop strings held back, in up to two pieces. */
hw_status hw_request_flush(hw_request *r, hw_text text[2], hw_error *err);

/* It ends: how is in result.finish unless `status` says that it failed. Gives its blocks back. */
void hw_request_end(hw_request *r, hw_engine *e, hw_status status, const hw_error *why);

/* Gives its blocks back, to be computed again from its tokens. */
void hw_request_preempt(hw_request *r);

#endif
