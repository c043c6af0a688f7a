/* A file of prompts: a prompt on each line; or, where its name ends in .jsonl, on each line a JSON object with "prompt" (a
 * text) or "tokens" (ids), and any setting of a request under its name ("max_tokens", "temperature", "stop"). All functions
 * are Local. */
#ifndef HW_LAUNCH_COMMANDS_PROMPTS_H
#define HW_LAUNCH_COMMANDS_PROMPTS_H

#include "launch/settings/settings.h"
#include "runtime/tokenizer/tokenizer.h"

typedef struct hw_prompt_line {
    hw_tokens tokens;
    hw_request_settings settings; /* what the line gives, over what the command gives */
    json_t *object;               /* owns texts in the settings; NULL: a line of text */
    hw_status status;             /* of the line; the message names file and line */
    hw_error error;
} hw_prompt_line;

/* Plain; hw_prompts_free. */
typedef struct hw_prompts {
    hw_prompt_line *at; /* [n] */
    int n;
} hw_prompts;

/* From the bytes of the file, whose `name` stands in messages. `tokenizer` NULL: "tokens" alone can be given. A line that is
 * wrong has a status; the others are there all the same. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_prompts_parse(hw_prompts *out, const char *text, size_t n_bytes, const char *name,
                           const hw_tokenizer *tokenizer, bool add_special,
                           const hw_request_settings *settings, hw_error *err);
void hw_prompts_free(hw_prompts *p); /* {0} is fine */

#endif
