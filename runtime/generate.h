/* One prompt to its continuation: a scheduler (scheduler.h) with one request. Text is given out as soon as it is
 * certain. */
#ifndef HW_RUNTIME_GENERATE_H
#define HW_RUNTIME_GENERATE_H

#include "runtime/request.h"

#ifdef __cplusplus
extern "C" {
#endif

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
