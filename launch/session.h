/* The common start of most subcommands: ranks, tokenizer, prompt, engine. */
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
    bool counts_messages; /* set before hw_session_start: use collectives that Open MPI can count */

    hw_config *config; /* -c: owns texts in the options; NULL without */
    hw_comm *started;  /* the communicator that started MPI, if the file sets another backend; else NULL */
    hw_comm *comm;
    hw_watch *watch; /* NULL without headway launch; ends with the process */
    int rank;
    bool warned;             /* the warning of more threads than cores was printed */
    bool warned_of_ignored;  /* the warning of ignored generation settings of the model was printed */
    bool told;               /* the devices of the ranks were printed */
    hw_tokenizer *tokenizer; /* NULL when the folder has none and ids were given */
    hw_engine *engine;
    hw_paths_text paths; /* of the devices of all ranks */
    hw_generation_config generation;
    hw_tokens prompt;
} hw_session;

/* Collective, and first. Starts the ranks, and reads settings that the command line leaves open from the file of -c: rank
 * 0 reads it and sends it to the others, which need not have it. `o` has a model and an engine, and outlives the session.
 * After an error every rank has the same status and message. Call hw_session_close in any case. */
hw_status hw_session_start(hw_session *s, hw_options *o, hw_error *err);

/* Local. Only the settings, for subcommands of one process. Call hw_session_close in any case. */
hw_status hw_session_start_alone(hw_session *s, hw_options *o, hw_error *err);

/* Collective, after hw_session_start. Opens the tokenizer and reads generation_config.json on every rank. After an error
 * every rank has the same status and message. */
hw_status hw_session_open_tokenizer(hw_session *s, hw_error *err);

/* Collective. The same, and the prompt's tokens, which rank 0 reads. After an error every rank has the same status and message. */
hw_status hw_session_open_prompt(hw_session *s, hw_error *err);

/* Collective. hw_comm_agree after something that only rank 0 does and that can take any time, such as reading a prompt from
 * a pipe: the other ranks sleep until then. */
hw_status hw_session_agree_idle(hw_session *s, hw_status mine, hw_error *err);

/* Collective. Creates an engine with these settings, and shows a progress bar while loading. */
hw_status hw_session_open_engine(hw_session *s, const hw_engine_settings *e, hw_error *err);

void hw_session_close(hw_session *s);

/* Collective. Like hw_session_close, but keeps the texts of the configuration, so that arguments stay valid. MPI has
 * ended afterwards. Call hw_session_close in any case. */
void hw_session_leave_ranks(hw_session *s);

/* Local. hw_tokenizer_open for a folder that may not exist. The caller owns *out. */
hw_status hw_open_tokenizer(hw_tokenizer **out, const char *folder, hw_error *err);

/* Local. Reads "1,2,3". Errors: HW_ERR_INVALID. */
hw_status hw_parse_token_list(hw_tokens *out, const char *text, hw_error *err);

/* Local. The text of -p, -f or -, in memory; the caller frees *text. */
hw_status hw_read_prompt_text(const hw_prompt_settings *p, char **text, size_t *n_bytes, hw_error *err);

/* Local. Number of positions of the prompt and the new tokens of `o`, at most INT_MAX. */
int hw_session_length(const hw_session *s, const hw_generate_options *o);

/* Local. A request's options, except for sampling; `on_text` and `user` are copied into them. Texts are borrowed from
 * `r`. */
typedef hw_status hw_text_function(void *user, const char *text, size_t n_bytes, hw_error *err);
hw_generate_options hw_session_generate_options(const hw_session *s, const hw_request_settings *r,
                                                int prefill_chunk, hw_text_function *on_text, void *user);

/* Local. The sampling of a request: its settings, which override those of generation_config.json. Rank 0 names once, on
 * standard error, the settings of that file that Headway does not support. Errors: HW_ERR_INVALID. */
hw_status hw_session_sampling(hw_session *s, const hw_request_settings *r, hw_sampling *out, hw_error *err);

/* Ends the job after an error of this rank that the other ranks do not know of (a device, MPI or memory failing in the
 * middle of a step): they would wait for ever. Returns for other kinds of errors, and errors of other ranks. */
void hw_session_end_if_alone(hw_session *s, hw_status st, const hw_error *err);

#endif
