#include "runtime/tokenizer/normalizer.h"

void hw_normalizer_free(hw_normalizer *n)
{
    for (size_t i = 0; i < n->n_steps; i++) {
        hw_bytes_free(&n->steps[i].text);
        hw_pattern_free(&n->steps[i].pattern);
    }
    *n = (hw_normalizer){0};
}

static hw_status read_text(hw_bytes *out, const hw_node *node, const char *key)
{
    const char *text;
    size_t n;
    hw_status st = hw_json_need(node->at, key);
    if (!st) st = hw_node_text(node, key, &text, &n);
    return st ? st : hw_bytes_append(out, text, n, node->at.err);
}

static bool is_form(const char *type, hw_normal_form *form)
{
    static const char *const names[] = {"NFC", "NFD", "NFKC", "NFKD"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(type, names[i]) != 0) continue;
        *form = (hw_normal_form)i;
        return true;
    }
    return false;
}

static hw_status load_step(hw_normalizer *out, const hw_node *node, const char *type)
{
    if (out->n_steps == HW_MAX_STEPS)
        return hw_fail(node->at.err, node->at.failure, "%s: more than %d parts", node->name, HW_MAX_STEPS);
    hw_normalizer_step *step = &out->steps[out->n_steps++];
    *step = (hw_normalizer_step){0};
    if (is_form(type, &step->form)) return hw_node_only(node, "type");
    if (!strcmp(type, "Prepend")) {
        step->kind = HW_NORMALIZE_PREPEND;
        hw_status st = hw_node_only(node, "type prepend");
        return st ? st : read_text(&step->text, node, "prepend");
    }
    if (!strcmp(type, "Replace")) {
        step->kind = HW_NORMALIZE_REPLACE;
        hw_status st = hw_node_only(node, "type pattern content");
        if (!st) st = hw_pattern_read(&step->pattern, node, "pattern");
        return st ? st : read_text(&step->text, node, "content");
    }
    return hw_node_unsupported(node, type, "NFC NFD NFKC NFKD Prepend Replace Sequence");
}

static hw_status load_node(hw_normalizer *out, const hw_node *node)
{
    const char *type;
    const json_t *list;
    hw_status st = hw_node_type(node, &type);
    if (st) return st;
    if (strcmp(type, "Sequence") != 0) return load_step(out, node, type);
    st = hw_node_only(node, "type normalizers");
    if (!st) st = hw_node_list(node, "normalizers", &list);
    for (size_t i = 0; !st && i < json_array_size(list); i++) {
        hw_node child;
        st = hw_node_open(&child, node, json_array_get(list, i), "normalizers[%zu]", i);
        if (!st) st = load_node(out, &child);
    }
    return st;
}

hw_status hw_normalizer_load(hw_normalizer *out, const hw_node *parent, const json_t *value)
{
    hw_node node;
    *out = (hw_normalizer){0};
    if (!value || json_is_null(value)) return HW_OK;
    hw_status st = hw_node_open(&node, parent, value, "normalizer");
    return st ? st : load_node(out, &node);
}

hw_status hw_replace_all(hw_bytes *out, const hw_pattern *p, pcre2_match_data *scratch, const char *text,
                         size_t n_text, const hw_bytes *replacement, hw_error *err)
{
    hw_search search = hw_search_start(p, scratch, text, n_text);
    size_t start, end, copied = 0;
    bool found;
    hw_status st = hw_bytes_reserve(out, n_text, err);
    while (!st && !(st = hw_search_next(&search, &start, &end, &found, err)) && found) {
        st = hw_bytes_append(out, text + copied, start - copied, err);
        if (!st) st = hw_bytes_append(out, replacement->data, replacement->n, err);
        copied = end;
    }
    return st ? st : hw_bytes_append(out, text + copied, n_text - copied, err);
}

static hw_status run_step(const hw_normalizer_step *step, hw_bytes *out, pcre2_match_data *scratch,
                          const char *text, size_t n, hw_error *err)
{
    hw_status st = HW_OK;
    switch (step->kind) {
    case HW_NORMALIZE_FORM: return hw_normalize(out, text, n, step->form, err);
    case HW_NORMALIZE_REPLACE: return hw_replace_all(out, &step->pattern, scratch, text, n, &step->text, err);
    case HW_NORMALIZE_PREPEND:
        if (n) st = hw_bytes_append(out, step->text.data, step->text.n, err);
        return st ? st : hw_bytes_append(out, text, n, err);
    }
    return st;
}

hw_status hw_normalizer_run(const hw_normalizer *n, hw_bytes buffers[2], pcre2_match_data *scratch,
                            const char *text, size_t n_text, const char **result, size_t *n_result,
                            hw_error *err)
{
    hw_status st = HW_OK;
    for (size_t i = 0; i < n->n_steps && !st; i++) {
        hw_bytes *out = &buffers[i & 1];
        out->n = 0;
        st = run_step(&n->steps[i], out, scratch, text, n_text, err);
        text = out->data;
        n_text = out->n;
    }
    *result = text;
    *n_result = n_text;
    return st;
}
