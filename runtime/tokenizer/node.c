#include "runtime/tokenizer/node.h"

#include <stdio.h>
#include <string.h>

#include "runtime/tokenizer/unicode.h"

hw_status hw_node_open(hw_node *out, const hw_node *parent, const json_t *value, const char *format, ...)
{
    char part[80];
    va_list args;
    va_start(args, format);
    vsnprintf(part, sizeof part, format, args);
    va_end(args);
    snprintf(out->name, sizeof out->name, "%.100s%s%.50s", parent->name,
             strchr(parent->name, ' ') ? "." : ": ", part);
    out->at = (hw_json_at){value, out->name, parent->at.failure, parent->at.err};
    if (json_is_object(value)) return HW_OK;
    return hw_fail(parent->at.err, parent->at.failure, "%s: not an object", out->name);
}

static bool is_word_of(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; *p; p += strspn(p, " ")) {
        size_t length = strcspn(p, " ");
        if (length == n && !memcmp(p, word, n)) return true;
        p += length;
    }
    return false;
}

hw_status hw_node_only(const hw_node *node, const char *known)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)node->at.object, key, value)
    {
        if (!is_word_of(known, key))
            return hw_fail(node->at.err, node->at.failure, "%s: key \"%.60s\" is not known; known are: %s",
                           node->name, key, known);
    }
    return HW_OK;
}

hw_status hw_node_type(const hw_node *node, const char **type)
{
    hw_status st = hw_json_need(node->at, "type");
    return st ? st : hw_json_string(node->at, "type", type);
}

hw_status hw_node_text(const hw_node *node, const char *key, const char **text, size_t *n_bytes)
{
    const json_t *v = json_object_get(node->at.object, key);
    *text = NULL;
    *n_bytes = 0;
    if (!v || json_is_null(v)) return HW_OK;
    if (!json_is_string(v))
        return hw_fail(node->at.err, node->at.failure, "%s: \"%s\" is not a string", node->name, key);
    *text = json_string_value(v);
    *n_bytes = json_string_length(v);
    return HW_OK;
}

hw_status hw_node_char(const hw_node *node, const char *key, const char **text, size_t *n_bytes)
{
    hw_status st = hw_json_need(node->at, key);
    if (!st) st = hw_node_text(node, key, text, n_bytes);
    if (!st && (!*n_bytes || hw_utf8_length(**text) != *n_bytes))
        st = hw_fail(node->at.err, node->at.failure, "%s: \"%s\" is %zu bytes, wanted one character",
                     node->name, key, *n_bytes);
    return st;
}

hw_status hw_node_list(const hw_node *node, const char *key, const json_t **list)
{
    *list = json_object_get(node->at.object, key);
    if (json_is_array(*list)) return HW_OK;
    return hw_fail(node->at.err, node->at.failure, "%s: \"%s\" is %s, wanted a list", node->name, key,
                   *list ? "something else" : "missing");
}

hw_status hw_node_flag(const hw_node *node, const char *key, bool *out)
{
    hw_status st = hw_json_need(node->at, key);
    return st ? st : hw_json_bool(node->at, key, out);
}

hw_status hw_node_unsupported(const hw_node *node, const char *type, const char *supported)
{
    return hw_fail(node->at.err, node->at.failure, "%s: type \"%.60s\" is not supported; supported are: %s",
                   node->name, type, supported);
}
