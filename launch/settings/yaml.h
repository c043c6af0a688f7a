/* A YAML text as a small tree with source positions, so that messages can name file:line:column. It supports the subset
 * of YAML that a configuration needs and refuses the rest by name: anchors and aliases (a few lines of them can expand
 * to gigabytes), tags, several documents, keys that are not plain words, duplicate keys. All functions are Local. */
#ifndef HW_LAUNCH_SETTINGS_YAML_H
#define HW_LAUNCH_SETTINGS_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"

/* Limits of a text. A configuration has a few hundred lines. */
enum { HW_YAML_MAX_BYTES = 1 << 18, HW_YAML_MAX_DEPTH = 16 };

typedef enum hw_yaml_kind { HW_YAML_SCALAR, HW_YAML_SEQUENCE, HW_YAML_MAPPING } hw_yaml_kind;

/* Plain, read only. Borrowed from the document. */
typedef struct hw_yaml_node {
    hw_yaml_kind kind;
    int line, column; /* from 1; columns count characters */
    bool plain;       /* a scalar without quotes, which may be a number, a boolean or a text */
    char *text;       /* of a scalar, zero-terminated; contains no zero */
    char *key;        /* of a child of a mapping, with its position; else NULL */
    int key_line, key_column;
    struct hw_yaml_node *first, *next; /* children, and the next child of the same parent */
} hw_yaml_node;

typedef struct hw_yaml hw_yaml;

/* Reads text [n_bytes]; `name` is what messages call it. On HW_OK the caller owns *out (hw_yaml_close).
 * Errors: HW_ERR_INVALID that begins "name:line:column: ", HW_ERR_NO_MEMORY. */
hw_status hw_yaml_parse(hw_yaml **out, const char *text, size_t n_bytes, const char *name, hw_error *err);
void hw_yaml_close(hw_yaml *y); /* NULL is fine */

/* The outermost node; NULL when the text is empty or nothing but comments. */
const hw_yaml_node *hw_yaml_root(const hw_yaml *y);
const char *hw_yaml_name(const hw_yaml *y);

/* ---- how YAML parsers read a word without quotes */

/* null: empty, ~ or null. */
bool hw_yaml_is_null(const char *word);

/* A boolean to some parsers: true, false, yes, no, on, off, y or n, in any letter case. */
bool hw_yaml_is_truth(const char *word);

/* Looks like a number: 12, -1.5, 0x1f, 1_000, 1e9. */
bool hw_yaml_is_number(const char *word);

#endif
