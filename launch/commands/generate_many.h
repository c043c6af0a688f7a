/* headway generate --prompts: every prompt of a file as a request of one continuous batch, and a JSON object per prompt, in
 * the order of the file. */
#ifndef HW_LAUNCH_COMMANDS_GENERATE_MANY_H
#define HW_LAUNCH_COMMANDS_GENERATE_MANY_H

#include "launch/session.h"

typedef struct hw_many_settings {
    const char *prompts; /* the file; NULL: one prompt from elsewhere */
    const char *output;  /* a file; NULL: standard output */
    bool skip_done;      /* prompts whose results the output has already */
    bool strict;         /* a line that is wrong keeps all from running */
} hw_many_settings;

/* Sequences at once where --max-num-seqs does not say. */
enum { HW_MANY_SEQS = 8 };

/* Collective, with a tokenizer and an engine. A prompt that is wrong or fails has its error in the output. Errors:
 * HW_ERR_FAILED when there was one, and those of the run. */
hw_status hw_generate_many(hw_session *s, const hw_many_settings *m, const hw_prompt_settings *p,
                           const hw_request_settings *r, int prefill_chunk, bool stats, hw_error *err);

#endif
