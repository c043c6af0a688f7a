/* The command line of a subcommand: the groups of settings that it takes as options, and their values from a
 * configuration. Names follow Hugging Face, vLLM and llama.cpp. All functions are Local. */
#ifndef HW_LAUNCH_SETTINGS_ARGS_H
#define HW_LAUNCH_SETTINGS_ARGS_H

#include <argp.h>

#include "launch/settings/config.h"
#include "launch/settings/settings.h"

enum { HW_MAX_GROUPS = 8 };

/* An element of hw_options.groups: a shared group, whose struct is the member of its name in `settings`. */
#define HW_TAKES(settings, name)                                                                             \
    {                                                                                                        \
        &hw_##name##_group, &(settings).name                                                                 \
    }

/* The options of a subcommand. Plain. */
typedef struct hw_options {
    const char *arguments; /* shown after the options in --help; NULL: "[-]" if there is a prompt */
    const char *doc;       /* text before the options, \v, text after them */
    unsigned takes;        /* HW_IF_CHUNKED, HW_IF_BATCHED */
    /* Groups, and the structs that their rows set: settled in this order, so the subcommand's own options come last.
     * Ends with a NULL group. */
    struct {
        const hw_setting_group *group;
        void *values;
    } groups[HW_MAX_GROUPS + 1];
    /* Called with each word that is not an option, with the struct of the last group. NULL: only "-" is allowed, if
     * there is a prompt. It can end the options by setting state->next. */
    void (*argument)(void *values, char *word, struct argp_state *state);
    const char *subcommand; /* set by hw_options_parse */
} hw_options;

/* Sets all rows to their defaults (fields without a row keep their values) and reads argv, whose first element is the
 * subcommand. Without a configuration (-c) the groups are settled too. Exits for --help (0) and for a mistake (2); only
 * rank 0 prints. */
void hw_options_parse(hw_options *o, int argc, char **argv);

/* Copies settings that the command line leaves open from a configuration, and settles the groups. Texts are borrowed
 * from the configuration. Errors: HW_ERR_INVALID for missing or contradictory settings. */
hw_status hw_options_inherit(hw_options *o, hw_config *c, hw_error *err);

/* The struct of a group; NULL: the subcommand does not take it. */
void *hw_options_values(const hw_options *o, const hw_setting_group *g);

/* A hash of the subcommand and of the settings that must be the same on all ranks. */
uint64_t hw_options_hash(const hw_options *o);

#endif
