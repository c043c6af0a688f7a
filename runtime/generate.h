/* Continues one prompt: a scheduler (scheduler.h) with one request. Text is passed on as soon as it is certain. */
#ifndef HW_RUNTIME_GENERATE_H
#define HW_RUNTIME_GENERATE_H

#include "runtime/request.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective. Continues `prompt` [n_prompt]. `tokenizer` NULL: no text is produced and stop strings are refused.
 * The result is valid after an error too, and the caller frees it. Errors: HW_ERR_INVALID (empty prompt, longer
 * than the context, settings), HW_ERR_CACHE_FULL, HW_ERR_NO_MEMORY, HW_ERR_FAILED, and the status returned by
 * on_text. */
hw_status hw_generate(hw_engine *e, const hw_tokenizer *tokenizer, const int32_t *prompt, int n_prompt,
                      const hw_generate_options *options, hw_generate_result *result, hw_error *err);

#ifdef __cplusplus
}
#endif
#endif
