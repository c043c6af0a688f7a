/* One YAML file for a whole run: the model, how it runs, and where. Its settings are the rows with a `path` in the tables
 * of settings.h; configs/reference.yaml explains them. */
#ifndef HW_LAUNCH_SETTINGS_CONFIG_H
#define HW_LAUNCH_SETTINGS_CONFIG_H

#include "launch/cluster/cluster.h"
#include "launch/settings/settings.h"
#include "launch/settings/yaml.h"

/* What a configuration fills in. Plain. */
typedef struct hw_config {
    hw_model_settings model;
    hw_engine_settings engine;
    hw_request_settings request;
    hw_cluster cluster;
    hw_yaml *document; /* owns the texts in all of them; hw_config_free */
} hw_config;

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

/* Local. The part of *c that a group's rows are written to; NULL: a file has nothing of the group. */
void *hw_config_values(hw_config *c, const hw_setting_group *g);

/* Local. The i-th setting that a file can have, those of an element of cluster.hosts among them, and its group; NULL
 * behind the last one. */
const hw_setting *hw_config_setting(int i, const hw_setting_group **g);

#endif
