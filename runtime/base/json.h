/* Reading untrusted JSON: jansson with strict settings (duplicate keys, invalid UTF-8, numbers that do not fit
 * and anything after the value are refused), and getters whose messages say what was found and what was
 * expected. */
#ifndef HW_RUNTIME_BASE_JSON_H
#define HW_RUNTIME_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { HW_JSON_MAX_DEPTH = 128 }; /* nested arrays and objects; deeper is refused before jansson sees it */

/* Local. Parses one JSON value from memory. `name` is what messages call the text (a file name). On HW_OK the
 * caller owns *out (json_decref). Strings may hold U+0000: use json_string_length. Errors: `failure`
 * (HW_ERR_MODEL for model files) with line and column. */
hw_status hw_json_parse(json_t **out, const char *text, size_t n_bytes, const char *name, hw_status failure,
                        hw_error *err);

/* Local. The same, and the top must be an object. */
hw_status hw_json_parse_object(json_t **out, const char *text, size_t n_bytes, const char *name,
                               hw_status failure, hw_error *err);

/* Local. Reads a whole file of at most `max_bytes`, and parses it. The top must be an object. */
hw_status hw_json_load(json_t **out, const char *path, size_t max_bytes, hw_status failure, hw_error *err);

/* Local. The whole file in memory, zero-terminated for convenience; the caller frees *out. Refuses folders,
 * devices and files over `max_bytes`. */
hw_status hw_file_read(char **out, size_t *n_bytes, const char *path, size_t max_bytes, hw_status failure,
                       hw_error *err);

/* The object to read from, and its name in messages. */
typedef struct hw_json_at {
    const json_t *object;
    const char *name; /* file name, and the path to the object within it where that helps */
    hw_status failure;
    hw_error *err;
} hw_json_at;

/* Local. Each reads `key` into *out. A missing key, or null, leaves *out as the caller set it (its default)
 * and is HW_OK; a value of another type or outside [min, max] is an error. */
hw_status hw_json_int(hw_json_at at, const char *key, int64_t min, int64_t max, int64_t *out);
hw_status hw_json_size(hw_json_at at, const char *key, int min, int max,
                       int *out); /* the same, into an int */
hw_status hw_json_number(hw_json_at at, const char *key, double min, double max, double *out);
hw_status hw_json_bool(hw_json_at at, const char *key, bool *out);
hw_status hw_json_string(hw_json_at at, const char *key,
                         const char **out); /* borrowed from the object; no U+0000 inside */

/* Local. As above, but the key must be there. */
hw_status hw_json_need(hw_json_at at, const char *key);

#endif
