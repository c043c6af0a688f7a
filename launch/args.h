/* Command-line arguments: one struct for all subcommands, and groups of options that a subcommand puts
 * together. Names follow what users of Hugging Face, vLLM and llama.cpp type. */
#ifndef HW_LAUNCH_ARGS_H
#define HW_LAUNCH_ARGS_H

#include <argp.h>
#include <stdbool.h>

#include "runtime/engine.h"
#include "runtime/plan.h"

enum { HW_MAX_STOPS = 16 };

/* The command line, for reading it a second time over what a configuration says. */
typedef struct hw_args_line {
    const struct argp *own;
    const struct argp *const *groups;
    int argc;
    char **argv;
} hw_args_line;

typedef struct hw_args {
    hw_args_line line;
    /* model and engine */
    const char *config; /* -c; then checks that the file may decide wait for hw_args_override */
    const char *model, *comm, *load_format;
    hw_engine_options engine;
    float stuck_after; /* limits.stuck_after, seconds */
    bool has_dummy_seed;
    /* prompt: at most one of them */
    const char *prompt, *file, *token_list;
    bool read_stdin; /* the argument "-" */
    bool no_special; /* do not add the tokenizer's special tokens */
    int prefill_chunk;
    /* generation; the flags say which settings were given, the rest come from generation_config.json */
    int max_tokens;
    bool has_temperature, has_top_k, has_top_p, has_min_p, has_penalty;
    hw_sampling sampling;
    const char *stops[HW_MAX_STOPS];
    int n_stops;
    bool ignore_eos;
    /* reports */
    bool json, stats, verbose;
    const char *output;
    bool quiet; /* no progress bar */
    /* bench */
    const char *pp, *tg, *batches, *depths; /* lists of numbers */
    int repeats;
    bool anchors, markdown;
    /* inspect */
    int ranks;
    /* plan */
    const char *rank_list;
    hw_plan_limits limits;
    /* traffic */
    bool verify, compare_kv, layers, csv;
    const char *plot;
    /* check */
    bool all;
} hw_args;

/* Groups for a subcommand's argp children. */
extern const struct argp hw_args_model;    /* -m, -c */
extern const struct argp hw_args_engine;   /* device, types, cache, collectives */
extern const struct argp hw_args_prompt;   /* -p, -f, --tokens, - */
extern const struct argp hw_args_prefill;  /* --prefill-chunk */
extern const struct argp hw_args_sampling; /* temperature and friends, -n, stops */
extern const struct argp hw_args_report;   /* --json */

/* Everything at its default. */
hw_args hw_args_defaults(void);

/* Parses argv, whose first element is the subcommand, into *out. `own` has the subcommand's own options
 * and documentation; its children are the NULL-terminated `groups`. Ends the process for --help (0) and
 * for a mistake (2); only rank 0 prints. */
void hw_args_parse(hw_args *out, const struct argp *own, const struct argp *const *groups, int argc,
                   char **argv);

/* Local. Reads the command line of `given`, what hw_args_parse made, again, over the settings of a file
 * that *a has by now. Errors: HW_ERR_INVALID for what is missing or contradicts itself even so. */
hw_status hw_args_override(hw_args *a, const hw_args *given, hw_error *err);

/* For parsers: reads an integer of [min, max] or ends with a usage message. */
long hw_args_int(const char *name, const char *text, long min, long max, struct argp_state *state);

/* For parsers: the same for a number. */
float hw_args_number(const char *name, const char *text, double min, double max, struct argp_state *state);

/* For parsers: "auto" is 0; else bytes, or K, M, G or T of them, in powers of 1024 as memory is counted. */
uint64_t hw_args_memory(const char *name, const char *text, struct argp_state *state);

#endif
