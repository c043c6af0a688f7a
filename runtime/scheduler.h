/* Many requests on one engine: each step takes a token of every sequence that is being continued, and fills up with rows of
 * prompts (continuous batching: Yu et al., "Orca", 2022). A request that ends makes room for the next one in the next step.
 *
 *   create; submit what there is; poll until it gives back NULL; destroy
 *
 * All ranks hold the same requests and schedule alike, from tokens, the order of submission and the state of the cache,
 * without clocks: nothing is sent that a step of the same rows does not send. What a request's text is does not depend on the
 * others (on the CPU to the bit), nor on its having been preempted.
 *
 *   order     first come, first served. Tokens of running requests first, then prompts in chunks (prefill_chunk) while a step
 *             has rows
 *   admission when there is a place (max_seqs) and the cache has room for the prompt and a block more
 *   preempt   when the cache is full, the newest request gives its blocks back and waits, to be computed again; one that has the
 *             cache to itself and still finds no room fails
 *
 * Where the device can (device_loop.h) and nobody waits for a place that is free, steps follow one another on it. */
#ifndef HW_RUNTIME_SCHEDULER_H
#define HW_RUNTIME_SCHEDULER_H

#include "runtime/request.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hw_scheduler hw_scheduler;

/* Plain; all zero is fine. Equal on all ranks. */
typedef struct hw_scheduler_options {
    const hw_tokenizer *tokenizer; /* borrowed; NULL: requests make no text */
    bool no_device_loop;           /* every token comes to the host before the next step */
} hw_scheduler_options;

/* Local. On HW_OK the caller owns *out (hw_scheduler_destroy, before the engine); the engine takes steps of nobody else
 * until then. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_scheduler_create(hw_scheduler **out, hw_engine *e, const hw_scheduler_options *options,
                              hw_error *err);
void hw_scheduler_destroy(hw_scheduler *s); /* with all requests that were not given back; NULL is fine */

/* Local, by all ranks in the same order. Copies prompt [n_prompt] and options, but not what functions and `user` point to.
 * *out is the scheduler's until hw_scheduler_poll gives it back; `out` may be NULL. A failure that is not on all ranks (no
 * memory) is for the caller to agree on before the next step. Errors: HW_ERR_INVALID (empty prompt, longer than the context,
 * settings), HW_ERR_NO_MEMORY. */
hw_status hw_scheduler_submit(hw_scheduler *s, hw_request **out, const int32_t *prompt, int n_prompt,
                              const hw_generate_options *options, hw_error *err);

/* Collective. Runs steps until a request has ended, and gives it back, in the order in which they end: *ended is the
 * caller's (hw_request_destroy), NULL when none is left. Requests may be submitted and cancelled between calls. Errors are
 * those of the run, not of one request: what on_text or on_logits returned, HW_ERR_CANCELLED on the other ranks then,
 * HW_ERR_NO_MEMORY, HW_ERR_DEVICE, HW_ERR_RANK. */
hw_status hw_scheduler_poll(hw_scheduler *s, hw_request **ended, hw_error *err);

/* Local. A request that has ended and was not given back yet, as hw_scheduler_poll gives it; NULL when there is none. */
hw_request *hw_scheduler_ended(hw_scheduler *s);

/* What a step did. Plain. */
typedef struct hw_step_report {
    int n_rows, n_prefill_rows; /* that went through the layers */
    int n_sampled;              /* tokens chosen */
    int longest;                /* tokens of the longest sequence in it */
} hw_step_report;

/* Collective. One step, for whoever wants to look at each; *report is all zero when there was nothing to run. Errors: as of
 * hw_scheduler_poll. */
hw_status hw_scheduler_step(hw_scheduler *s, hw_step_report *report, hw_error *err);

/* Local. */
int hw_scheduler_n_running(const hw_scheduler *s);
int hw_scheduler_n_waiting(const hw_scheduler *s);

#ifdef __cplusplus
}
#endif
#endif
