/* One prompt to its continuation: prefill in chunks, then a token at a time, text given out as soon as it is
 * certain. Where the device can (feed.h), a step begins before the token of the one before it is read. */
#ifndef HW_RUNTIME_GENERATE_H
#define HW_RUNTIME_GENERATE_H

#include "runtime/engine.h"
#include "runtime/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum hw_finish { HW_FINISH_LENGTH, HW_FINISH_EOS, HW_FINISH_STOP } hw_finish;

/* Plain; zero is greedy without stops. Equal on all ranks. */
typedef struct hw_generate_options {
    int max_new_tokens; /* 0: until the context is full */
    hw_sampling sampling;
    const int32_t *eos; /* tokens that end the text [n_eos] */
    int n_eos;
    bool ignore_eos;
    const char *const *stops; /* stop strings [n_stops]; never part of the text */
    int n_stops;
    int prefill_chunk; /* rows of one prefill step; 0: as many as a step takes */
    /* Told every piece of new text, on every rank (a rank that does not print ignores it). Anything but HW_OK
     * ends the generation on all ranks. May be NULL. */
    hw_status (*on_text)(void *user, const char *text, size_t n_bytes, hw_error *err);
    void *user;
} hw_generate_options;

/* Plain; the caller frees `tokens` (hw_tokens_free). Times are this rank's. */
typedef struct hw_generate_result {
    hw_tokens tokens; /* the new ones, without the end-of-sequence token */
    int n_prompt;
    int n_steps;      /* decode steps: sampled tokens after the first */
    int n_vain_steps; /* begun before it was known that the text was over: 0, or 1 with a feed (feed.h) */
    int n_cached;     /* prompt tokens found in the cache */
    hw_kv_usage kv;   /* of this rank, before the sequence gave its blocks back */
    hw_finish finish;
    double prefill_seconds; /* prompt to first token */
    double decode_seconds;  /* all later tokens */
} hw_generate_result;

/* Collective. Continues `prompt` [n_prompt]. `tokenizer` NULL: no text is made and stop strings are refused.
 * The result is valid, and to be freed, also after an error. Errors: HW_ERR_INVALID (empty prompt, longer
 * than the context, settings), HW_ERR_CACHE_FULL, HW_ERR_NO_MEMORY, HW_ERR_FAILED, and what on_text
 * returned. */
hw_status hw_generate(hw_engine *e, const hw_tokenizer *tokenizer, const int32_t *prompt, int n_prompt,
                      const hw_generate_options *options, hw_generate_result *result, hw_error *err);

#ifdef __cplusplus
}
#endif
#endif
