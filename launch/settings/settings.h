/* Settings, from any source. A setting is one row of a table (table.c; options of a single subcommand are rows of the
 * same type in its own file) and the field that it sets. Three sources read the rows: the command line (args.h), a YAML
 * file (config.h) and a JSON object (hw_setting_from_json). Defaults, --help and the check that all ranks were started
 * alike are derived from them too.
 *
 * Each source fills in its own structs, and a nearer source inherits what it leaves open from a farther one. All
 * functions are Local. */
#ifndef HW_LAUNCH_SETTINGS_SETTINGS_H
#define HW_LAUNCH_SETTINGS_SETTINGS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/engine.h"

/* ---- rows */

/* The kind of value, and the type of its field. */
typedef enum hw_setting_type {
    HW_SETTING_TEXT,   /* const char *, borrowed from the source */
    HW_SETTING_FOLDER, /* the same; the command line drops trailing slashes, which completion adds */
    HW_SETTING_WORD, /* const char *, one of the choices; on the command line any word: its user checks it */
    HW_SETTING_CHOICE,    /* int, the value of the choice */
    HW_SETTING_FLAG,      /* bool */
    HW_SETTING_WHOLE,     /* int */
    HW_SETTING_SEED,      /* uint64_t; a negative number wraps */
    HW_SETTING_BYTES,     /* uint64_t, also 512M or 2G */
    HW_SETTING_FLOAT,     /* float */
    HW_SETTING_DOUBLE,    /* double */
    HW_SETTING_TEXTS,     /* const char *[max], followed by an int with their number */
    HW_SETTING_VARIABLES, /* the same, each NAME or NAME=VALUE */
    HW_SETTING_HOSTS,     /* hw_host[max], followed by an int; each has the settings of hw_host_group */
} hw_setting_type;

typedef struct hw_named_value {
    const char *name;
    int value;
} hw_named_value;

enum {
    HW_SAME = 1,       /* must be the same on all ranks, because it affects collective steps */
    HW_IF_CHUNKED = 2, /* only for subcommands that prefill in chunks (this bit in hw_options.takes) */
    HW_IF_BATCHED = 4, /* only for subcommands with several sequences at once */
    HW_ALIAS = 8,      /* another flag for the setting of the previous row */
};

/* One setting. */
typedef struct hw_setting {
    const char *path;     /* in YAML: "cache.policy"; in JSON its last word. NULL: neither */
    const char *flag;     /* "kv-cache" for --kv-cache; NULL: YAML only */
    int letter;           /* 't' for -t; 0: none */
    const char *argument; /* name of the value in --help; NULL: a switch, which inverts the default */
    hw_setting_type type;
    const char *unit; /* "tokens"; NULL: a pure number, or no number */
    double min, max;  /* of numbers; minimum length of a text; maximum length of a list */
    const hw_named_value
        *choices; /* end with a NULL name; an alias follows the first name of its value, and is not listed */
    const char *fallback; /* the default in YAML syntax; "auto" is stored as zero */
    unsigned traits;      /* HW_SAME and the others above */
    size_t offset;        /* of the field in the struct of its group */
    const char *help;     /* for --help, which adds the default; NULL: not listed */
} hw_setting;

/* The columns from type to choices. */
#define HW_TEXT                   HW_SETTING_TEXT, NULL, 1, 0, NULL
#define HW_TEXT_OR_NONE           HW_SETTING_TEXT, NULL, 0, 0, NULL
#define HW_FOLDER                 HW_SETTING_FOLDER, NULL, 1, 0, NULL
#define HW_WORD(choices)          HW_SETTING_WORD, NULL, 1, 0, choices
#define HW_CHOICE(choices)        HW_SETTING_CHOICE, NULL, 0, 0, choices
#define HW_FLAG                   HW_SETTING_FLAG, NULL, 0, 0, NULL
#define HW_WHOLE(unit, min, max)  HW_SETTING_WHOLE, unit, min, max, NULL
#define HW_SEED(min)              HW_SETTING_SEED, NULL, (double)(min), (double)INT64_MAX, NULL
#define HW_BYTES                  HW_SETTING_BYTES, "bytes", 1, 0, NULL
#define HW_FLOAT(unit, min, max)  HW_SETTING_FLOAT, unit, min, max, NULL
#define HW_DOUBLE(unit, min, max) HW_SETTING_DOUBLE, unit, min, max, NULL
#define HW_TEXTS(max)             HW_SETTING_TEXTS, NULL, 1, max, NULL
#define HW_VARIABLES(max)         HW_SETTING_VARIABLES, NULL, 1, max, NULL
#define HW_HOSTS(max)             HW_SETTING_HOSTS, NULL, 1, max, NULL

/* The rows of a group that a source sets: bit i is row i. */
typedef struct hw_given {
    uint64_t value;
    uint64_t automatic; /* set to "auto" */
} hw_given;

/* Rows whose fields are in one struct. A subcommand has all of them or none. */
typedef struct hw_setting_group {
    const char *title; /* heading in --help; NULL: none, or that of another group with the same place */
    int place;         /* order of the headings */
    const hw_setting *rows;
    int n;         /* at most 64 */
    bool recorded; /* the struct begins with an hw_given */
    /* Called after all sources have been read, to derive fields that no row sets. Returns a message if settings of this
     * group contradict each other, else NULL. May be NULL. */
    const char *(*settle)(void *values);
} hw_setting_group;

/* Initialisers: HW_GROUP of a shared group, HW_OWN_GROUP of the options of one subcommand, which set fields of its own
 * struct. */
#define HW_GROUP(title, place, rows, settle)                                                                 \
    {                                                                                                        \
        title, place, rows, HW_N_ROWS(rows), true, settle                                                    \
    }
#define HW_OWN_GROUP(title, place, rows, settle)                                                             \
    {                                                                                                        \
        title, place, rows, HW_N_ROWS(rows), false, settle                                                   \
    }
#define HW_N_ROWS(rows) ((int)(sizeof(rows) / sizeof *(rows)))

/* ---- shared groups and their structs */

enum { HW_MAX_STOPS = 16 };

typedef enum hw_load_format { HW_LOAD_AUTO, HW_LOAD_SAFETENSORS, HW_LOAD_DUMMY } hw_load_format;

typedef struct hw_model_settings {
    hw_given given;
    const char *config; /* the YAML file; NULL: none */
    const char *folder;
} hw_model_settings;

/* At most one of text, file, tokens and from_stdin. */
typedef struct hw_prompt_settings {
    hw_given given;
    const char *text, *file, *tokens;
    bool from_stdin; /* the argument "-" */
    bool no_special; /* do not add the tokenizer's special tokens */
} hw_prompt_settings;

/* Settings of one request. Those not in `given` come from generation_config.json. */
typedef struct hw_request_settings {
    hw_given given;
    int max_tokens; /* 0: until the context is full */
    hw_sampling sampling;
    const char *stops[HW_MAX_STOPS];
    int n_stops;
    bool ignore_eos;
} hw_request_settings;

/* How the ranks compute. */
typedef struct hw_engine_settings {
    hw_given given;
    hw_engine_options options;
    hw_load_format load_format;
    const char *comm;
    float stuck_after; /* seconds */
    int prefill_chunk; /* rows; 0: as many as a step takes */
    bool verbose;
    bool quiet; /* no progress bar */
} hw_engine_settings;

typedef struct hw_report_settings {
    hw_given given;
    bool json;
} hw_report_settings;

extern const hw_setting_group hw_model_group;   /* -m, -c */
extern const hw_setting_group hw_prompt_group;  /* -p, -f, --tokens, - */
extern const hw_setting_group hw_request_group; /* temperature and friends, -n, stops */
extern const hw_setting_group hw_engine_group;  /* device, types, cache, limits, collectives */
extern const hw_setting_group hw_report_group;  /* --json */
extern const hw_setting_group hw_cluster_group; /* hw_cluster: YAML only */
extern const hw_setting_group hw_host_group;    /* hw_host: an element of cluster.hosts */

/* ---- sources */

/* The origin of a word, which affects its meaning: "4" in quotes is not a number, and the command line has no quotes. */
typedef enum hw_word_kind { HW_WORD_ARGUMENT, HW_WORD_PLAIN, HW_WORD_QUOTED } hw_word_kind;

/* Sets every row to its default, and clears `given`. */
void hw_settings_defaults(const hw_setting_group *g, void *values);

/* Sets one row from a word, or appends it if the row is a list. False if the word is not valid for the row. */
bool hw_setting_take(const hw_setting_group *g, const hw_setting *s, void *values, const char *word,
                     hw_word_kind kind);

/* Sets the row whose name in JSON is `name`; "top_k" is sampling.top_k. null counts as absent, and a list may be a single
 * text. Texts are borrowed from `value`. Errors: HW_ERR_INVALID that names the setting, what was found and what is
 * wanted; or, for an unknown name, the closest known one. */
hw_status hw_setting_from_json(const hw_setting_group *g, void *values, const char *name, const json_t *value,
                               hw_error *err);

/* Copies to `nearer` what it leaves open and `farther` sets. Temperature 0 in a nearer request keeps top_k, top_p and
 * min_p open, because greedy decoding does not use them. */
void hw_settings_inherit(const hw_setting_group *g, void *nearer, const void *farther);

/* Whether a source sets the field at `offset`. */
bool hw_setting_is_given(const hw_setting_group *g, const void *values, size_t offset);

/* ---- messages about settings */

/* The valid values, in words: "auto, or 1 to 1024 tokens". Returns `text` [size]. */
char *hw_setting_wanted(const hw_setting *s, hw_word_kind kind, char *text, size_t size);

/* Returns HW_ERR_INVALID with the message "`where``name` is FOUND, wanted WANTED", with a hint for common mistakes; or
 * a message that the list in `values` is full. `word` NULL: `found` describes what was found instead ("a list"). */
hw_status hw_setting_refuse(const hw_setting *s, void *values, const char *where, const char *name,
                            const char *word, hw_word_kind kind, const char *found, hw_error *err);

/* Continues `hash`, that of the previous groups, with the rows that must be the same on all ranks. */
uint64_t hw_settings_hash(const hw_setting_group *g, const void *values, uint64_t hash);

/* FNV-1a over n bytes: detects mistakes, not attacks. Starts with HW_HASH_START. */
#define HW_HASH_START 14695981039346656037u
uint64_t hw_hash(uint64_t hash, const void *bytes, size_t n);

#endif
