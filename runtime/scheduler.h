/* Many requests on one engine: each step takes a token of every decoding sequence, and fills up with rows of prompts
 * (continuous batching: Yu et al., "Orca", 2022). When a request ends, the next step can admit another.
 *
 *   create; submit requests; poll until it returns NULL; destroy
 *
 * All ranks hold the same requests and schedule alike, from tokens, the order of submission and the state of the cache,
 * without clocks, so scheduling sends nothing. The text of a request does not depend on other requests (on the CPU to
 * the bit), or on preemption.
 *
 *   order     first come, first served. Tokens of running requests first, then prompts in chunks (prefill_chunk) while the
 *             step has rows left
 *   admission when fewer than max_seqs requests run and the cache has room for the prompt plus one block
 *   preempt   when the cache is full, the newest request releases its blocks and waits to be recomputed; a request that has
 *             the cache to itself and still finds no room fails
 *
 * Requests with the same beginning: run that first as a request with `keep`, then submit the others with it as `prefix`.
 *
 * Steps run as a device loop (device_loop.h) where the device supports it and no waiting request could be admitted. */
#ifndef HW_RUNTIME_SCHEDULER_H
#define HW_RUNTIME_SCHEDULER_H

#include "runtime/request.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hw_scheduler hw_scheduler;

/* Plain; all zero is fine. Equal on all ranks. */
typedef struct hw_scheduler_options {
    const hw_tokenizer *tokenizer; /* borrowed; NULL: requests produce no text */
    bool no_device_loop;           /* the host reads every token before the next step */
} hw_scheduler_options;

/* Local. On HW_OK the caller owns *out (hw_scheduler_destroy, before the engine); until then only the scheduler runs
 * steps on the engine. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_scheduler_create(hw_scheduler **out, hw_engine *e, const hw_scheduler_options *options,
                              hw_error *err);
void hw_scheduler_destroy(hw_scheduler *s); /* and all requests not returned by poll; NULL is fine */

/* Local; all ranks must submit in the same order. Copies prompt [n_prompt] and options, but not what `user` and `prefix`
 * point to. The scheduler owns *out until hw_scheduler_poll returns it; `out` may be NULL. A failure on some ranks only
 * (no memory) must be agreed on by the caller before the next step. Errors: HW_ERR_INVALID (empty prompt, longer than the
 * context, settings, a prefix that was not kept), HW_ERR_NO_MEMORY. */
hw_status hw_scheduler_submit(hw_scheduler *s, hw_request **out, const int32_t *prompt, int n_prompt,
                              const hw_generate_options *options, hw_error *err);

/* Collective. Runs steps until a request has ended, and returns it; the caller owns *ended (hw_request_destroy). NULL when
 * no request is left. Requests may be submitted and cancelled between calls. Errors concern the run, not one request: the
 * status returned by on_text or on_logits (HW_ERR_CANCELLED on the other ranks), HW_ERR_NO_MEMORY, HW_ERR_DEVICE,
 * HW_ERR_RANK. */
hw_status hw_scheduler_poll(hw_scheduler *s, hw_request **ended, hw_error *err);

/* Local. Returns a request that has ended, like hw_scheduler_poll, but runs no step; NULL when there is none. */
hw_request *hw_scheduler_ended(hw_scheduler *s);

/* What a step did. Plain. */
typedef struct hw_step_report {
    int n_rows, n_prefill_rows; /* run through the layers */
    int n_sampled;              /* tokens chosen */
    int longest;                /* tokens of the longest sequence in the step */
    uint64_t sample_ns;         /* time that this rank took to choose tokens; 0 in a device loop */
} hw_step_report;

/* Collective. Runs one step, for callers that inspect each step; *report is all zero when there was nothing to run.
 * Errors: as hw_scheduler_poll. */
hw_status hw_scheduler_step(hw_scheduler *s, hw_step_report *report, hw_error *err);

/* Collective. Admits waiting requests, as the next step would: for callers that time steps without it. Errors: as
 * hw_scheduler_poll. */
hw_status hw_scheduler_admit(hw_scheduler *s, hw_error *err);

/* Local. */
int hw_scheduler_n_running(const hw_scheduler *s);
int hw_scheduler_n_waiting(const hw_scheduler *s);

#ifdef __cplusplus
}
#endif
#endif
