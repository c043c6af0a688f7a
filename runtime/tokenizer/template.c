#include "runtime/tokenizer/template.h"

void hw_template_free(hw_template *t)
{
    hw_tokens_free(&t->before);
    hw_tokens_free(&t->after);
}

static hw_status only_key(const hw_node *node, const char **key)
{
    *key = json_object_size(node->at.object) == 1
               ? json_object_iter_key(json_object_iter((json_t *)node->at.object))
               : NULL;
    if (*key && (!strcmp(*key, "SpecialToken") || !strcmp(*key, "Sequence"))) return HW_OK;
    return hw_fail(node->at.err, node->at.failure, "%s: wanted one of SpecialToken and Sequence", node->name);
}

/* The ids of special token `name`, appended to *list. */
static hw_status add_special(hw_tokens *list, const hw_vocab *vocab, const hw_node *specials,
                             const char *name)
{
    hw_node node;
    const json_t *ids;
    hw_error *err = specials->at.err;
    const json_t *value = json_object_get(specials->at.object, name);
    if (!value)
        return hw_fail(err, specials->at.failure, "%s: \"%.60s\" is in the template but not here",
                       specials->name, name);
    hw_status st = hw_node_open(&node, specials, value, "%s", name);
    if (!st) st = hw_node_only(&node, "id ids tokens");
    if (!st) st = hw_node_list(&node, "ids", &ids);
    for (size_t i = 0; !st && i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || !hw_vocab_has(vocab, json_integer_value(id)))
            return hw_fail(err, node.at.failure, "%s: ids[%zu] is not the id of a token", node.name, i);
        st = hw_tokens_push(list, (int32_t)json_integer_value(id), err);
    }
    return st;
}

/* One element of "single": a special token, or the text itself. */
static hw_status load_piece(hw_template *out, bool *seen, const hw_vocab *vocab, const hw_node *piece,
                            const hw_node *specials)
{
    hw_node inner;
    const char *kind, *id = NULL;
    hw_status st = only_key(piece, &kind);
    if (!st) st = hw_node_open(&inner, piece, json_object_get(piece->at.object, kind), "%s", kind);
    if (!st) st = hw_node_only(&inner, "id type_id");
    if (!st) st = hw_json_need(inner.at, "id");
    if (!st) st = hw_json_string(inner.at, "id", &id);
    if (st) return st;
    if (!strcmp(kind, "SpecialToken"))
        return add_special(*seen ? &out->after : &out->before, vocab, specials, id);
    if (strcmp(id, "A") != 0 || *seen)
        return hw_fail(inner.at.err, inner.at.failure, "%s: wanted sequence A, once", inner.name);
    *seen = true;
    return HW_OK;
}

static hw_status load_template(hw_template *out, const hw_vocab *vocab, const hw_node *node)
{
    hw_node specials, piece;
    const json_t *single;
    bool seen = false;
    if (out->loaded)
        return hw_fail(node->at.err, node->at.failure, "%s: a second TemplateProcessing is not supported",
                       node->name);
    out->loaded = true;
    hw_status st = hw_node_only(node, "type single pair special_tokens");
    if (!st) st = hw_node_list(node, "single", &single);
    if (!st) st = hw_json_need(node->at, "special_tokens");
    if (!st)
        st = hw_node_open(&specials, node, json_object_get(node->at.object, "special_tokens"),
                          "special_tokens");
    for (size_t i = 0; !st && i < json_array_size(single); i++) {
        st = hw_node_open(&piece, node, json_array_get(single, i), "single[%zu]", i);
        if (!st) st = load_piece(out, &seen, vocab, &piece, &specials);
    }
    if (!st && !seen)
        st = hw_fail(node->at.err, node->at.failure, "%s: \"single\" leaves out sequence A, the text",
                     node->name);
    return st;
}

static hw_status load_node(hw_template *out, const hw_vocab *vocab, const hw_node *node)
{
    const char *type;
    const json_t *list;
    hw_status st = hw_node_type(node, &type);
    if (st) return st;
    if (!strcmp(type, "TemplateProcessing")) return load_template(out, vocab, node);
    if (!strcmp(type, "ByteLevel")) return hw_node_only(node, "type add_prefix_space trim_offsets use_regex");
    if (strcmp(type, "Sequence") != 0)
        return hw_node_unsupported(node, type, "TemplateProcessing ByteLevel Sequence");
    st = hw_node_only(node, "type processors");
    if (!st) st = hw_node_list(node, "processors", &list);
    for (size_t i = 0; !st && i < json_array_size(list); i++) {
        hw_node child;
        st = hw_node_open(&child, node, json_array_get(list, i), "processors[%zu]", i);
        if (!st) st = load_node(out, vocab, &child);
    }
    return st;
}

hw_status hw_template_load(hw_template *out, const hw_vocab *vocab, const hw_node *parent,
                           const json_t *value)
{
    hw_node node;
    *out = (hw_template){0};
    if (!value || json_is_null(value)) return HW_OK;
    hw_status st = hw_node_open(&node, parent, value, "post_processor");
    return st ? st : load_node(out, vocab, &node);
}
