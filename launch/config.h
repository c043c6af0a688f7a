/* One YAML file for a whole run: what the model is, how it is run, and where. The settings are rows of one
 * table, hw_settings; it says for each how it is written, in which range, what it is without being written,
 * and where it goes. configs/reference.yaml explains them. */
#ifndef HW_LAUNCH_CONFIG_H
#define HW_LAUNCH_CONFIG_H

#include "launch/args.h"
#include "launch/cluster.h"
#include "launch/yaml.h"

/* What a configuration fills in. Plain. */
typedef struct hw_config {
    hw_args args;
    hw_cluster cluster;
    hw_yaml *document; /* owns the texts in both; hw_config_free */
} hw_config;

typedef enum hw_setting_type {
    HW_SETTING_TEXT,      /* const char * */
    HW_SETTING_WORD,      /* const char *, one of the choices */
    HW_SETTING_CHOICE,    /* int, the value of the choice */
    HW_SETTING_FLAG,      /* bool */
    HW_SETTING_WHOLE,     /* int */
    HW_SETTING_SEED,      /* uint64_t */
    HW_SETTING_BYTES,     /* uint64_t, also 512M or 2G */
    HW_SETTING_NUMBER,    /* float */
    HW_SETTING_TEXTS,     /* const char *[], and how many */
    HW_SETTING_VARIABLES, /* the same, each NAME or NAME=VALUE */
    HW_SETTING_HOSTS, /* hw_host[], and how many; each is a mapping of the settings "cluster.hosts[]...." */
} hw_setting_type;

typedef struct hw_named_value {
    const char *name;
    int value;
} hw_named_value;

/* A row of the table. Offsets are those in hw_config, or in hw_host for settings of a host. */
typedef struct hw_setting {
    const char *path; /* "cache.policy" */
    hw_setting_type type;
    const char *unit;              /* "tokens"; NULL: a pure number, or no number */
    const char *fallback;          /* what it is without being written, as YAML writes it */
    bool has_auto;                 /* "auto" may be written, and leaves the default in place */
    double min, max;               /* of numbers and of how many texts */
    const hw_named_value *choices; /* end with a NULL name */
    size_t offset;
    size_t given; /* offset of a bool that says that it was written, or of the int of how many; 0: none */
} hw_setting;

extern const hw_setting hw_settings[];
extern const int hw_n_settings;

/* Local. What may be written, in words: "auto, or tokens, 1 to 1024". Returns `text` [size]. */
char *hw_setting_wanted(const hw_setting *s, char *text, size_t size);

/* Everything at its default. */
hw_config hw_config_defaults(void);

/* Local. Reads a file whole. On HW_OK the caller frees *text. Errors: HW_ERR_INVALID (not there, not a file,
 * too large), HW_ERR_NO_MEMORY. */
hw_status hw_config_read(char **text, size_t *n_bytes, const char *path, hw_error *err);

/* Local. Writes the settings of text [n_bytes] over what *c holds; the same text gives the same everywhere.
 * Once for a *c. `name` is what messages call the text. Errors: HW_ERR_INVALID that begins "name:line:column:
 * ", HW_ERR_NO_MEMORY. */
hw_status hw_config_parse(hw_config *c, const char *text, size_t n_bytes, const char *name, hw_error *err);

void hw_config_free(hw_config *c); /* the texts; {0} is fine */

#endif
