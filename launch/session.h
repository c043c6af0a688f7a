/* What most subcommands begin with: ranks, tokenizer, prompt, engine. */
#ifndef HW_LAUNCH_SESSION_H
#define HW_LAUNCH_SESSION_H

#include "launch/report/devices.h"
#include "launch/settings/args.h"
#include "runtime/generate.h"
#include "runtime/models/generation_config.h"
#include "runtime/tokenizer/tokenizer.h"

typedef struct hw_session {
    /* Given by hw_session_start; borrowed. */
    const hw_options *options;
    const hw_model_settings *model;
    const hw_prompt_settings *prompt_settings; /* NULL: the subcommand has no prompt */
    bool counts_messages; /* set before hw_session_start: collectives are those that Open MPI can count */

    hw_config *config; /* -c: owns texts in the options; NULL without */
    hw_comm *started;  /* what MPI was begun with, where the file asks for another backend; else NULL */
    hw_comm *comm;
    hw_watch *watch; /* NULL without headway launch; ends with the process */
    int rank;
    bool warned;             /* of more threads than cores */
    bool warned_of_ignored;  /* generation settings of the model */
    bool told;               /* what the ranks compute with */
    hw_tokenizer *tokenizer; /* NULL when the folder has none and ids were given */
    hw_engine *engine;
    hw_paths_text paths; /* of the engine, on all ranks */
    hw_generation_config generation;
    hw_tokens prompt;
} hw_session;

/* Collective, and first. The ranks; and the settings of the file that -c names, where the command line leaves
 * them open: rank 0 reads it and sends it to the others, which need not have it. `o` has a model and an engine, and
 * outlives the session. After an error every rank has the same status and message. hw_session_close in any case. */
hw_status hw_session_start(hw_session *s, hw_options *o, hw_error *err);

/* Local. The settings alone, for subcommands of one process. hw_session_close in any case. */
hw_status hw_session_start_alone(hw_session *s, hw_options *o, hw_error *err);

/* Collective, after hw_session_start. Gives each rank the tokenizer and the settings of generation_config.json. After an
 * error every rank has the same status and message. */
hw_status hw_session_open_tokenizer(hw_session *s, hw_error *err);

/* Collective. The same, and the prompt's tokens, which rank 0 reads. After an error every rank has the same status and message. */
hw_status hw_session_open_prompt(hw_session *s, hw_error *err);

/* Collective. hw_comm_agree after something that only rank 0 does and that can take any time, such as reading a prompt from
 * a pipe: the other ranks sleep until then. */
hw_status hw_session_agree_idle(hw_session *s, hw_status mine, hw_error *err);

/* Collective. An engine with these settings, with a line on how far loading is. */
hw_status hw_session_open_engine(hw_session *s, const hw_engine_settings *e, hw_error *err);

void hw_session_close(hw_session *s);

/* Collective. What hw_session_close does, but for the texts of the configuration: arguments can still be
 * looked at. MPI has ended afterwards. hw_session_close in any case. */
void hw_session_leave_ranks(hw_session *s);

/* Local. hw_tokenizer_open for a folder that may not be there. The caller owns *out. */
hw_status hw_open_tokenizer(hw_tokenizer **out, const char *folder, hw_error *err);

/* Local. Reads "1,2,3". Errors: HW_ERR_INVALID. */
hw_status hw_parse_token_list(hw_tokens *out, const char *text, hw_error *err);

/* Local. The text of -p, -f or -, in memory; the caller frees *text. */
hw_status hw_read_prompt_text(const hw_prompt_settings *p, char **text, size_t *n_bytes, hw_error *err);

/* Local. Positions that the prompt and the new tokens of `o` take, INT_MAX when they are more. */
int hw_session_length(const hw_session *s, const hw_generate_options *o);

/* Local. A request's options, but for how it is sampled; `on_text` and `user` as in them. Texts are borrowed from `r`. */
typedef hw_status hw_text_function(void *user, const char *text, size_t n_bytes, hw_error *err);
hw_generate_options hw_session_generate_options(const hw_session *s, const hw_request_settings *r,
                                                int prefill_chunk, hw_text_function *on_text, void *user);

/* Local. How a request is sampled: what its settings give, over what generation_config.json recommends. Rank 0 names once, on
 * standard error, what that asks for and Headway does not have. Errors: HW_ERR_INVALID. */
hw_status hw_session_sampling(hw_session *s, const hw_request_settings *r, hw_sampling *out, hw_error *err);

/* Ends the job when an error of this rank came up that the other ranks cannot know of (a device, MPI or memory
 * failing in the middle of a step); they would wait for ever. Returns when it is another kind of error, or
 * another rank's. */
void hw_session_end_if_alone(hw_session *s, hw_status st, const hw_error *err);

#endif
