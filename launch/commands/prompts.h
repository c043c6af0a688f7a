/* A file of prompts: one prompt per line; or, if its name ends in .jsonl, one JSON object per line with "prompt" (a text)
 * or "tokens" (ids), and any setting of a request by name ("max_tokens", "temperature", "stop"). All functions are Local. */
#ifndef HW_LAUNCH_COMMANDS_PROMPTS_H
#define HW_LAUNCH_COMMANDS_PROMPTS_H

#include "launch/settings/settings.h"
#include "runtime/tokenizer/tokenizer.h"

typedef struct hw_prompt_line {
    hw_tokens tokens;
    hw_request_settings settings; /* of the line, which override those of the command */
    json_t *object;               /* owns texts in the settings; NULL: a line of text */
    hw_status status;             /* of the line; the message names file and line */
    hw_error error;
} hw_prompt_line;

/* Plain; hw_prompts_free. */
typedef struct hw_prompts {
    hw_prompt_line *at; /* [n] */
    int n;
} hw_prompts;

/* Parses the content of a file; `name` is used in messages. `tokenizer` NULL: only "tokens" is allowed. An invalid line
 * has an error status, and does not affect the others. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_prompts_parse(hw_prompts *out, const char *text, size_t n_bytes, const char *name,
                           const hw_tokenizer *tokenizer, bool add_special,
                           const hw_request_settings *settings, hw_error *err);
void hw_prompts_free(hw_prompts *p); /* {0} is fine */

#endif
