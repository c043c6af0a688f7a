#include "launch/settings/args.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "parallel/comm.h"

enum { MAX_OPTIONS = 128, MAX_PLACES = 8, FIRST_KEY = 256, GROUP_KEYS = 64 };

void *hw_options_values(const hw_options *o, const hw_setting_group *g)
{
    for (int i = 0; o->groups[i].group; i++)
        if (o->groups[i].group == g) return o->groups[i].values;
    return NULL;
}

/* ---- rows as argp has them */

static bool is_shown(const hw_options *o, const hw_setting *s)
{
    const unsigned condition = s->traits & (HW_IF_CHUNKED | HW_IF_BATCHED);
    return s->flag && (!condition || (condition & o->takes));
}

static int key_of(int group, const hw_setting_group *g, const hw_setting *s)
{
    const hw_setting *of = s->traits & HW_ALIAS ? s - 1 : s;
    return of->letter ? of->letter : FIRST_KEY + GROUP_KEYS * group + (int)(of - g->rows);
}

/* The row of a key, and its group; NULL: the key is one of argp's own. */
static const hw_setting *find_row(const hw_options *o, int key, int *group)
{
    for (*group = 0; o->groups[*group].group; ++*group) {
        const hw_setting_group *g = o->groups[*group].group;
        for (int i = 0; i < g->n; i++)
            if (is_shown(o, &g->rows[i]) && key_of(*group, g, &g->rows[i]) == key) return &g->rows[i];
    }
    return NULL;
}

/* In the order of their places: argp takes a 0 behind others for the place of the one before. */
static void list_options(const hw_options *o, struct argp_option *out)
{
    int n = 0;
    for (int place = 0; place < MAX_PLACES; place++)
        for (int k = 0; o->groups[k].group; k++) {
            const hw_setting_group *g = o->groups[k].group;
            if (g->place != place) continue;
            if (g->title) out[n++] = (struct argp_option){0, 0, 0, 0, g->title, place};
            for (int i = 0; i < g->n && n < MAX_OPTIONS; i++) {
                const hw_setting *s = &g->rows[i];
                const int flags = s->traits & HW_ALIAS ? OPTION_ALIAS : s->help ? 0 : OPTION_HIDDEN;
                if (is_shown(o, s))
                    out[n++] =
                        (struct argp_option){s->flag, key_of(k, g, s), s->argument, flags, s->help, place};
            }
        }
    out[n] = (struct argp_option){0};
}

/* Puts the default behind what an option does. What it returns argp frees, where it is not `text`. */
static char *add_default(int key, const char *text, void *input)
{
    int group;
    char *longer = NULL;
    const hw_setting *s = find_row(input, key, &group);
    const bool shown = s && text && s->fallback && s->argument && s->type < HW_SETTING_TEXTS &&
                       (s->type > HW_SETTING_FOLDER || strcmp(s->fallback, "auto"));
    if (!shown) return (char *)(uintptr_t)text;
    const char *word = s->type != HW_SETTING_FLAG ? s->fallback : strcmp(s->fallback, "true") ? "off" : "on";
    return asprintf(&longer, "%s (%s)", text, word) < 0 ? (char *)(uintptr_t)text : longer;
}

/* ---- reading */

static void take(const hw_options *o, int group, const hw_setting *s, char *arg, struct argp_state *state)
{
    const hw_setting_group *g = o->groups[group].group;
    void *values = o->groups[group].values;
    const char *word = s->argument ? arg : strcmp(s->fallback, "true") ? "true" : "false";
    char name[64];
    hw_error err = {.rank = -1};
    if (s->type == HW_SETTING_FOLDER)
        for (size_t n = strlen(arg); n > 1 && arg[n - 1] == '/';) arg[--n] = '\0';
    snprintf(name, sizeof name, "--%s", s->flag);
    if (hw_setting_take(g, s, values, word, HW_WORD_ARGUMENT)) return;
    hw_setting_refuse(s, values, "", name, word, HW_WORD_ARGUMENT, NULL, &err);
    argp_error(state, "%s", err.message);
}

static void take_argument(const hw_options *o, char *word, struct argp_state *state)
{
    hw_prompt_settings *prompt = hw_options_values(o, &hw_prompt_group);
    int last = 0;
    while (o->groups[last + 1].group) last++;
    if (o->argument) o->argument(o->groups[last].values, word, state);
    else if (prompt && !strcmp(word, "-")) prompt->from_stdin = true;
    else argp_error(state, "unexpected argument '%s'; put a text of several words in quotes", word);
}

/* What does not fit together, or NULL. */
static const char *settle(const hw_options *o)
{
    const char *problem = NULL;
    for (int i = 0; o->groups[i].group && !problem; i++)
        if (o->groups[i].group->settle) problem = o->groups[i].group->settle(o->groups[i].values);
    return problem;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    const hw_options *o = state->input;
    const hw_model_settings *model = hw_options_values(o, &hw_model_group);
    const char *problem;
    int group;
    const hw_setting *s = find_row(o, key, &group);
    if (s) take(o, group, s, arg, state);
    else if (key == ARGP_KEY_ARG) take_argument(o, arg, state);
    else if (key == ARGP_KEY_END && !(model && model->config) && (problem = settle(o)))
        argp_error(state, "%s", problem);
    else if (key != ARGP_KEY_END) return ARGP_ERR_UNKNOWN;
    return 0;
}

void hw_options_parse(hw_options *o, int argc, char **argv)
{
    struct argp_option options[MAX_OPTIONS + MAX_PLACES + 1];
    char name[64];
    for (int i = 0; o->groups[i].group; i++) hw_settings_defaults(o->groups[i].group, o->groups[i].values);
    const void *prompt = hw_options_values(o, &hw_prompt_group);
    list_options(o, options);
    const struct argp parser = {.options = options,
                                .parser = parse_option,
                                .args_doc = o->arguments || !prompt ? o->arguments : "[-]",
                                .doc = o->doc,
                                .help_filter = add_default};
    o->subcommand = argv[0];
    snprintf(name, sizeof name, "headway %s", o->subcommand);
    argv[0] = name;
    /* All ranks read the same arguments and come to the same end; rank 0 alone prints it and has the exit code
     * (main.c). */
    int silenced = hw_comm_launched_rank() > 0, kept[2] = {-1, -1};
    argp_err_exit_status = silenced ? 0 : 2;
    if (silenced) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        for (int fd = 1; fd <= 2; fd++) kept[fd - 1] = dup(fd), dup2(null, fd);
        close(null);
    }
    argp_parse(&parser, argc, argv, o->argument ? ARGP_IN_ORDER : 0, NULL, o);
    if (silenced)
        for (int fd = 1; fd <= 2; fd++) dup2(kept[fd - 1], fd), close(kept[fd - 1]);
    argv[0] = (char *)(uintptr_t)o->subcommand;
}

hw_status hw_options_inherit(hw_options *o, hw_config *c, hw_error *err)
{
    for (int i = 0; o->groups[i].group; i++) {
        const void *farther = hw_config_values(c, o->groups[i].group);
        if (farther) hw_settings_inherit(o->groups[i].group, o->groups[i].values, farther);
    }
    const char *problem = settle(o);
    return problem ? hw_fail(err, HW_ERR_INVALID, "%s", problem) : HW_OK;
}

uint64_t hw_options_hash(const hw_options *o)
{
    uint64_t hash = hw_hash(HW_HASH_START, o->subcommand, strlen(o->subcommand) + 1);
    for (int i = 0; o->groups[i].group; i++)
        hash = hw_settings_hash(o->groups[i].group, o->groups[i].values, hash);
    return hash;
}
