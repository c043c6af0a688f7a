/* One prompt with its settings, on its way to its end. Every rank holds the same requests; a scheduler (scheduler.h) runs
 * them. What goes wrong with one of them alone (a row of logits that is not a number, a cache in which it has no room) ends
 * that request, on all ranks alike. */
#ifndef HW_RUNTIME_REQUEST_H
#define HW_RUNTIME_REQUEST_H

#include "runtime/engine.h"
#include "runtime/tokenizer/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hw_request hw_request;

typedef enum hw_finish {
    HW_FINISH_LENGTH, /* as many tokens as were asked for, or as the context holds */
    HW_FINISH_EOS,
    HW_FINISH_STOP, /* a stop string */
    HW_FINISH_CANCELLED,
    HW_FINISH_FAILED,
} hw_finish;

const char *hw_finish_name(hw_finish f); /* "length", "eos", "stop", "cancelled", "failed" */

/* Plain; zero is greedy without stops. Equal on all ranks, but for the functions and `user`. */
typedef struct hw_generate_options {
    int max_new_tokens; /* 0: until the context is full */
    hw_sampling sampling;
    const int32_t *eos; /* tokens that end the text [n_eos] */
    int n_eos;
    bool ignore_eos;
    const char *const *stops; /* stop strings [n_stops]; never part of the text */
    int n_stops;
    int prefill_chunk; /* rows of one prefill step; 0: as many as a step takes */
    bool prompt_only;  /* runs the prompt and chooses nothing */
    /* Told every piece of new text, on every rank (a rank that does not print ignores it). Anything but HW_OK
     * ends the run on all ranks. May be NULL. */
    hw_status (*on_text)(void *user, const char *text, size_t n_bytes, hw_error *err);
    /* Told the logits [vocab_size] after each token of the prompt, on every rank; `row` counts from 0. Anything but
     * HW_OK, on any rank, ends the run on all. May be NULL. */
    hw_status (*on_logits)(void *user, int row, const float *logits, int vocab_size, hw_error *err);
    void *user;
} hw_generate_options;

/* Plain; whoever has it frees `tokens` (hw_tokens_free). Times are this rank's. */
typedef struct hw_generate_result {
    hw_tokens tokens; /* the new ones, without the end-of-sequence token */
    int n_prompt;
    int n_steps; /* decode steps: sampled tokens after the first */
    int n_discarded_steps; /* begun before it was known that the text was over: 0, or 1 with a device loop (device_loop.h) */
    int n_cached;      /* prompt tokens found in the cache */
    int n_preemptions; /* how often it gave its room in the cache away and was computed again */
    hw_kv_usage kv;    /* of this rank, before the sequence gave its blocks back */
    hw_finish finish;
    double prefill_seconds; /* admission to first token */
    double decode_seconds;  /* all later tokens */
} hw_generate_result;

/* Local. Borrowed, with the tokens in it, for as long as the request is there. */
const hw_generate_result *hw_request_result(const hw_request *r);

/* Local. HW_OK, or why the request failed or was cancelled; the message goes into `err` (may be NULL). */
hw_status hw_request_status(const hw_request *r, hw_error *err);

/* Local, by all ranks between the same two steps. The request ends before the next step; one that has ended stays what
 * it is. */
void hw_request_cancel(hw_request *r);

/* Local. For a request that hw_scheduler_poll has given back; NULL is fine. */
void hw_request_destroy(hw_request *r);

#ifdef __cplusplus
}
#endif
#endif
