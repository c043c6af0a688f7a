/* The command line of a subcommand: which groups of settings it takes as options, and what a configuration adds. Names
 * follow what users of Hugging Face, vLLM and llama.cpp type. All functions are Local. */
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
    const char *arguments; /* what --help puts behind the options; NULL: "[-]", where there is a prompt */
    const char *doc;       /* text before the options, \v, text behind them */
    unsigned takes;        /* HW_IF_CHUNKED, HW_IF_BATCHED */
    /* Groups, and the structs that their rows are about: settled in this order, so the subcommand's own options come
     * last. Ends with a NULL group. */
    struct {
        const hw_setting_group *group;
        void *values;
    } groups[HW_MAX_GROUPS + 1];
    /* Takes a word that is no option, for the last group. NULL: none but "-", where there is a prompt. With it,
     * options end where it sets state->next. */
    void (*argument)(void *values, char *word, struct argp_state *state);
    const char *subcommand; /* set by hw_options_parse */
} hw_options;

/* Sets all rows to their defaults (fields without a row stay as they are) and reads argv, whose first element is the subcommand. Without a configuration
 * (-c) the groups are settled too. Ends the process for --help (0) and for a mistake (2); only rank 0 prints. */
void hw_options_parse(hw_options *o, int argc, char **argv);

/* Gives the options what a configuration says and the command line does not, and settles the groups. Texts are borrowed
 * from the configuration. Errors: HW_ERR_INVALID for what is missing or contradicts itself. */
hw_status hw_options_inherit(hw_options *o, hw_config *c, hw_error *err);

/* The struct of a group; NULL: the subcommand does not take it. */
void *hw_options_values(const hw_options *o, const hw_setting_group *g);

/* A hash of the subcommand and of the settings that all ranks must have the same. */
uint64_t hw_options_hash(const hw_options *o);

#endif
