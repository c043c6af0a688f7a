/* One prompt with its settings, state and result. Every rank holds the same requests; a scheduler (scheduler.h) runs
 * them. An error that concerns one request (NaN in its logits, no room for it in the cache) ends only that request, on
 * all ranks alike. */
#ifndef HW_RUNTIME_REQUEST_H
#define HW_RUNTIME_REQUEST_H

#include "runtime/engine.h"
#include "runtime/tokenizer/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hw_request hw_request;

typedef enum hw_finish {
    HW_FINISH_LENGTH, /* max_new_tokens reached, or context full */
    HW_FINISH_EOS,
    HW_FINISH_STOP, /* a stop string */
    HW_FINISH_CANCELLED,
    HW_FINISH_FAILED,
} hw_finish;

const char *hw_finish_name(hw_finish f); /* "length", "eos", "stop", "cancelled", "failed" */

/* Plain; all zero is greedy without stop strings. Equal on all ranks, except for the functions and `user`. */
typedef struct hw_generate_options {
    int max_new_tokens; /* 0: until the context is full */
    hw_sampling sampling;
    const int32_t *eos; /* tokens that end the text [n_eos] */
    int n_eos;
    bool ignore_eos;
    const char *const *stops; /* stop strings [n_stops]; never part of the text */
    int n_stops;
    int prefill_chunk; /* rows of one prefill step; 0: as many as a step takes */
    bool prompt_only;  /* runs the prompt and samples nothing */
    bool keep;         /* with prompt_only: the prompt stays in the cache until the request is destroyed */
    /* A request that has ended and was kept. The prompt continues its tokens, which are not computed again. Any number of
     * requests may share a prefix. Borrowed until they have ended. NULL: no prefix. */
    const hw_request *prefix;
    /* The last new token may be the first that the context cannot hold: it is sampled, and never run. */
    bool past_context;
    /* Called with every piece of new text, on every rank (a rank that does not print ignores it). Any result but
     * HW_OK ends the run on all ranks. May be NULL. */
    hw_status (*on_text)(void *user, const char *text, size_t n_bytes, hw_error *err);
    /* Called with the logits [vocab_size] after each token of the prompt behind its prefix, on every rank; `row` is the
     * token's position. Any result but HW_OK, on any rank, ends the run on all. May be NULL. */
    hw_status (*on_logits)(void *user, int row, const float *logits, int vocab_size, hw_error *err);
    void *user;
} hw_generate_options;

/* Plain; the owner frees `tokens` (hw_tokens_free). Times are this rank's. */
typedef struct hw_generate_result {
    hw_tokens tokens; /* the new ones, without the end-of-sequence token */
    int n_prompt;
    int n_steps; /* decode steps: sampled tokens after the first */
    int n_discarded_steps; /* launched before the end of the text was known: 0, or 1 with a device loop (device_loop.h) */
    int n_cached;      /* prompt tokens found in the cache, the prefix included */
    int n_preemptions; /* how often it lost its cache blocks and was recomputed */
    hw_kv_usage kv;    /* of this rank, before the sequence released its blocks */
    hw_finish finish;
    double prefill_seconds; /* admission to first token */
    double decode_seconds;  /* all later tokens */
} hw_generate_result;

/* Local. Borrowed, with its tokens, until the request is destroyed. */
const hw_generate_result *hw_request_result(const hw_request *r);

/* Local. HW_OK, or why the request failed or was cancelled; writes the message to `err` (may be NULL). */
hw_status hw_request_status(const hw_request *r, hw_error *err);

/* Local; all ranks must call it between the same two steps. The request ends before the next step. No-op for a request
 * that has ended. */
void hw_request_cancel(hw_request *r);

/* Local, before the engine is destroyed. Only for requests that hw_scheduler_poll has returned; NULL is fine. */
void hw_request_destroy(hw_request *r);

#ifdef __cplusplus
}
#endif
#endif
