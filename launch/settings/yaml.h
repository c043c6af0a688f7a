/* A YAML text as a small tree that knows where everything stands, so that whoever finds a mistake in it can
 * say file:line:column. It takes the part of YAML that a configuration needs and refuses the rest by name:
 * anchors and aliases (a few lines of them can stand for gigabytes), tags, several documents, keys that are
 * no plain words, the same key twice. All functions are Local. */
#ifndef HW_LAUNCH_SETTINGS_YAML_H
#define HW_LAUNCH_SETTINGS_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"

/* What a text may have at most. A configuration has a few hundred lines. */
enum { HW_YAML_MAX_BYTES = 1 << 18, HW_YAML_MAX_DEPTH = 16 };

typedef enum hw_yaml_kind { HW_YAML_SCALAR, HW_YAML_SEQUENCE, HW_YAML_MAPPING } hw_yaml_kind;

/* Plain, read only. Borrowed from the document. */
typedef struct hw_yaml_node {
    hw_yaml_kind kind;
    int line, column; /* from 1; columns count characters */
    bool plain; /* a scalar without quotes, whose look says whether it is a number, a truth value or a text */
    char *text; /* of a scalar, zero-terminated; holds no zero */
    char *key;  /* of a child of a mapping, and where it stands; else NULL */
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

/* What a word without quotes is to readers of YAML. */

/* "Nothing": empty, ~ or null. */
bool hw_yaml_is_null(const char *word);

/* A truth value to some of them: true, false, yes, no, on, off, y or n, in any letter case. */
bool hw_yaml_is_truth(const char *word);

/* Begins as numbers do and only has their characters: 12, -1.5, 0x1f, 1_000, 1e9. */
bool hw_yaml_is_number(const char *word);

#endif
