#include "runtime/tokenizer/decoder.h"

void hw_decoder_free(hw_decoder *d)
{
    for (size_t i = 0; i < d->n_steps; i++) {
        hw_pattern_free(&d->steps[i].pattern);
        hw_bytes_free(&d->steps[i].text);
    }
    *d = (hw_decoder){0};
}

static hw_status refuse_fused(const hw_node *node, const char *type)
{
    return hw_fail(node->at.err, node->at.failure,
                   "%s: %s behind Fuse or ByteLevel would need the whole text before any of it can be shown",
                   node->name, type);
}

static hw_status load_replace(hw_decoder_step *step, const hw_node *node)
{
    const char *content;
    size_t n;
    hw_status st = hw_node_only(node, "type pattern content");
    if (!st) st = hw_pattern_read(&step->pattern, node, "pattern");
    if (!st) st = hw_json_need(node->at, "content");
    if (!st) st = hw_node_text(node, "content", &content, &n);
    if (!st) st = hw_bytes_append(&step->text, content, n, node->at.err);
    if (st || !step->fused) return st;
    /* A single character is never in two parts of a text. */
    const hw_pattern *p = &step->pattern;
    return p->literal && hw_utf8_length(*p->literal) == p->n_literal ? HW_OK : refuse_fused(node, "Replace");
}

static hw_status load_strip(hw_decoder_step *step, const hw_node *node)
{
    const char *content;
    size_t n;
    hw_status st = hw_node_only(node, "type content start stop");
    if (!st) st = hw_node_char(node, "content", &content, &n);
    if (!st) st = hw_bytes_append(&step->text, content, n, node->at.err);
    if (!st) st = hw_json_need(node->at, "start");
    if (!st) st = hw_json_size(node->at, "start", 0, 1 << 20, &step->strip_start);
    if (!st) st = hw_json_need(node->at, "stop");
    return st ? st : hw_json_size(node->at, "stop", 0, 1 << 20, &step->strip_stop);
}

static hw_status load_metaspace(hw_decoder_step *step, const hw_node *node)
{
    bool split = true; /* says nothing to a decoder */
    return hw_metaspace_read(node, &step->text, &step->scheme, &split);
}

static hw_status load_step(hw_decoder *out, const hw_node *node, const char *type)
{
    if (out->n_steps == HW_MAX_STEPS)
        return hw_fail(node->at.err, node->at.failure, "%s: more than %d parts", node->name, HW_MAX_STEPS);
    hw_decoder_step *step = &out->steps[out->n_steps];
    *step = (hw_decoder_step){0};
    for (size_t i = 0; i < out->n_steps; i++)
        if (out->steps[i].kind == HW_DECODE_FUSE || out->steps[i].kind == HW_DECODE_BYTE_LEVEL)
            step->fused = true;
    out->n_steps++;
    if (!strcmp(type, "Replace")) {
        step->kind = HW_DECODE_REPLACE;
        return load_replace(step, node);
    }
    if (!strcmp(type, "Strip")) {
        step->kind = HW_DECODE_STRIP;
        return load_strip(step, node);
    }
    if (!strcmp(type, "Metaspace")) {
        step->kind = HW_DECODE_METASPACE;
        return load_metaspace(step, node);
    }
    if (!strcmp(type, "Fuse")) {
        step->kind = HW_DECODE_FUSE;
        return hw_node_only(node, "type");
    }
    if (!strcmp(type, "ByteFallback")) {
        step->kind = HW_DECODE_BYTE_FALLBACK;
        return step->fused ? refuse_fused(node, type) : hw_node_only(node, "type");
    }
    if (!strcmp(type, "ByteLevel")) {
        step->kind = HW_DECODE_BYTE_LEVEL;
        return step->fused ? refuse_fused(node, type)
                           : hw_node_only(node, "type add_prefix_space trim_offsets use_regex");
    }
    return hw_node_unsupported(node, type, "Replace ByteFallback Fuse Strip Metaspace ByteLevel Sequence");
}

static hw_status load_node(hw_decoder *out, const hw_node *node)
{
    const char *type;
    const json_t *list;
    hw_status st = hw_node_type(node, &type);
    if (st) return st;
    if (strcmp(type, "Sequence") != 0) return load_step(out, node, type);
    st = hw_node_only(node, "type decoders");
    if (!st) st = hw_node_list(node, "decoders", &list);
    for (size_t i = 0; !st && i < json_array_size(list); i++) {
        hw_node child;
        st = hw_node_open(&child, node, json_array_get(list, i), "decoders[%zu]", i);
        if (!st) st = load_node(out, &child);
    }
    return st;
}

hw_status hw_decoder_load(hw_decoder *out, const hw_node *parent, const json_t *value)
{
    hw_node node;
    *out = (hw_decoder){0};
    if (!value || json_is_null(value)) {
        out->steps[0].kind = HW_DECODE_JOIN;
        out->n_steps = 1;
        return HW_OK;
    }
    hw_status st = hw_node_open(&node, parent, value, "decoder");
    return st ? st : load_node(out, &node);
}
