/* The internals of a request, for request.c, scheduler.c and generate.c. All functions are Local. */
#ifndef HW_RUNTIME_REQUEST_STATE_H
#define HW_RUNTIME_REQUEST_STATE_H

#include "runtime/request.h"
#include "runtime/stop.h"

struct hw_request {
    hw_generate_options options; /* its stop strings are copied into `stop` */
    int32_t *eos;                /* owned; options.eos points to it */
    hw_tokens tokens;            /* the prompt and the new tokens */
    int n_prompt, most_new; /* tokens; n_prompt includes the prefix, most_new is limited by the context */
    hw_sequence *seq;       /* NULL while it waits */
    const hw_tokenizer *tokenizer;
    hw_text_stream *stream; /* NULL without a tokenizer */
    hw_stop *stop;
    int n_scored; /* rows of the prompt whose logits were passed to on_logits */
    uint64_t start_ns, first_token_ns;
    bool cancelled, ended;
    bool in_step;               /* has rows in the current step */
    int first_row;              /* position of the first of them */
    int first_logits, n_logits; /* its rows of logits in the step */
    hw_generate_result result;
    hw_status status;
    hw_error error;
};

/* Copies prompt [n_prompt] and options, but not what `user` and `prefix` point to. `tokenizer` is borrowed; NULL:
 * no text is produced, and stop strings are refused. On HW_OK the caller owns *out. Errors: HW_ERR_INVALID (empty prompt,
 * longer than the context, settings, a prefix that was not kept), HW_ERR_NO_MEMORY. */
hw_status hw_request_create(hw_request **out, const hw_engine *e, const hw_tokenizer *tokenizer,
                            const int32_t *prompt, int n_prompt, const hw_generate_options *options,
                            hw_error *err);

/* Creates its sequence: a fork of its prefix, or an empty one. Errors: as hw_sequence_create. */
hw_status hw_request_open(hw_request *r, hw_engine *e, hw_error *err);

/* Tokens of its prefix; 0: it has none. */
int hw_request_n_prefix(const hw_request *r);

/* Number of its tokens that are not in a step yet. */
int hw_request_n_pending(const hw_request *r);

/* Whether on_logits still waits for rows of its prompt. */
bool hw_request_is_scored(const hw_request *r);

/* A piece of text. */
typedef struct hw_text {
    const char *bytes; /* borrowed until the next call for the request */
    size_t n;
} hw_text;

/* Appends a new token; *text is the text that it made certain. *done: it was the last one, and `result.finish` says why.
 * Errors: HW_ERR_NO_MEMORY. */
hw_status hw_request_take(hw_request *r, int32_t token, hw_text *text, bool *done, hw_error *err);

/* No more tokens follow. Returns the text held back by the decoder and the search for stop strings, in up to two
 * pieces. */
hw_status hw_request_flush(hw_request *r, hw_text text[2], hw_error *err);

/* Ends the request and releases its blocks, unless it is kept. `status` other than HW_OK: it failed; else result.finish says how it ended. */
void hw_request_end(hw_request *r, hw_engine *e, hw_status status, const hw_error *why);

/* Releases its blocks; its tokens will be recomputed. */
void hw_request_preempt(hw_request *r);

#endif
