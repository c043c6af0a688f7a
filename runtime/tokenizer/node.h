/* Reading one object of tokenizer.json: its place in the file for messages, and the refusal of what is not
 * known. A key that nobody looked at could change what every later token is, so keys that are not listed
 * are errors. */
#ifndef HW_RUNTIME_TOKENIZER_NODE_H
#define HW_RUNTIME_TOKENIZER_NODE_H

#include "runtime/base/json.h"

typedef struct hw_node {
    hw_json_at at;
    char name[160]; /* "tokenizer.json: pre_tokenizer.pretokenizers[1]"; at.name points here */
} hw_node;

/* Local. Makes *out the node for `value`, which must be an object. `format` names it within `parent`; the
 * name is cut if long. */
hw_status hw_node_open(hw_node *out, const hw_node *parent, const json_t *value, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Local. Refuses every key that is not in `known`, a list of words separated by blanks. */
hw_status hw_node_only(const hw_node *node, const char *known);

/* Local. The "type" of the node; it must be there. */
hw_status hw_node_type(const hw_node *node, const char **type);

/* Local. A string that may hold any character. *text is NULL when the key is missing or null, else
 * borrowed. */
hw_status hw_node_text(const hw_node *node, const char *key, const char **text, size_t *n_bytes);

/* Local. As above, but the string must be there and be a single character. */
hw_status hw_node_char(const hw_node *node, const char *key, const char **text, size_t *n_bytes);

/* Local. A list that must be there. */
hw_status hw_node_list(const hw_node *node, const char *key, const json_t **list);

/* Local. A value that must be there and be true or false. */
hw_status hw_node_flag(const hw_node *node, const char *key, bool *out);

hw_status hw_node_unsupported(const hw_node *node, const char *type, const char *supported);

#endif
