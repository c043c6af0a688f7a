/* headway generate --prompts: runs the prompts of a file as one continuous batch, and writes a JSON object per prompt, in
 * the order of the file. */
#ifndef HW_LAUNCH_COMMANDS_GENERATE_MANY_H
#define HW_LAUNCH_COMMANDS_GENERATE_MANY_H

#include "launch/session.h"

typedef struct hw_many_settings {
    const char *prompts; /* the file; NULL: one prompt from elsewhere */
    const char *output;  /* a file; NULL: standard output */
    bool skip_done;      /* skip prompts that have results in the output */
    bool strict;         /* run nothing if a line is invalid */
} hw_many_settings;

/* Sequences at once if --max-num-seqs is not given. */
enum { HW_MANY_SEQS = 8 };

/* Collective, with a tokenizer and an engine. The output has the error of a prompt that is invalid or fails. Errors:
 * HW_ERR_FAILED if there was one, and those of the run. */
hw_status hw_generate_many(hw_session *s, const hw_many_settings *m, const hw_prompt_settings *p,
                           const hw_request_settings *r, int prefill_chunk, bool stats, hw_error *err);

#endif
