#include "runtime/tokenizer/pretokenizer.h"

static const char GPT2_REGEX[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

void hw_pretokenizer_free(hw_pretokenizer *p)
{
    for (size_t i = 0; i < p->n_steps; i++) {
        hw_pattern_free(&p->steps[i].pattern);
        hw_bytes_free(&p->steps[i].mark);
    }
    *p = (hw_pretokenizer){0};
}

static hw_status new_step(hw_pretokenizer_step **step, hw_pretokenizer *p, const hw_node *node)
{
    if (p->n_steps == HW_MAX_STEPS)
        return hw_fail(node->at.err, node->at.failure, "%s: more than %d parts", node->name, HW_MAX_STEPS);
    *step = &p->steps[p->n_steps++];
    **step = (hw_pretokenizer_step){0};
    return HW_OK;
}

static hw_status add_regex(hw_pretokenizer *p, const hw_node *node, const char *regex,
                           hw_split_behavior behavior)
{
    hw_pretokenizer_step *step = NULL;
    hw_status st = new_step(&step, p, node);
    if (st) return st;
    step->behavior = behavior;
    return hw_pattern_regex(&step->pattern, regex, strlen(regex), node->name, node->at.err);
}

static hw_status load_byte_level(hw_pretokenizer *p, const hw_node *node)
{
    bool prefix = true, trim = true, regex = true;
    hw_pretokenizer_step *step = NULL;
    hw_status st = hw_node_only(node, "type add_prefix_space trim_offsets use_regex");
    if (!st) st = hw_node_flag(node, "add_prefix_space", &prefix);
    if (!st) st = hw_json_bool(node->at, "trim_offsets", &trim); /* offsets are not computed here */
    if (!st) st = hw_json_bool(node->at, "use_regex", &regex);
    if (!st && prefix && !(st = new_step(&step, p, node))) step->kind = HW_PIECE_PREFIX_SPACE;
    if (!st && regex) st = add_regex(p, node, GPT2_REGEX, HW_SPLIT_ISOLATED);
    p->of_bytes = true;
    return st;
}

static hw_status load_split(hw_pretokenizer *p, const hw_node *node)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                        "Contiguous"};
    const char *behavior = NULL;
    hw_pretokenizer_step *step = NULL;
    hw_status st = new_step(&step, p, node);
    if (!st) st = hw_node_only(node, "type pattern behavior invert");
    if (!st) st = hw_pattern_read(&step->pattern, node, "pattern");
    if (!st) st = hw_node_flag(node, "invert", &step->invert);
    if (!st) st = hw_json_need(node->at, "behavior");
    if (!st) st = hw_json_string(node->at, "behavior", &behavior);
    if (st) return st;
    for (int i = 0; i < 5; i++) {
        if (strcmp(behavior, names[i]) != 0) continue;
        step->behavior = (hw_split_behavior)i;
        return HW_OK;
    }
    return hw_fail(node->at.err, node->at.failure, "%s: behavior \"%.40s\" is not known", node->name,
                   behavior);
}

static hw_status load_digits(hw_pretokenizer *p, const hw_node *node)
{
    bool individual = false;
    hw_status st = hw_node_only(node, "type individual_digits");
    if (!st) st = hw_node_flag(node, "individual_digits", &individual);
    return st ? st : add_regex(p, node, "\\p{N}", individual ? HW_SPLIT_ISOLATED : HW_SPLIT_CONTIGUOUS);
}

hw_status hw_metaspace_read(const hw_node *node, hw_bytes *mark, hw_prepend_scheme *scheme, bool *split)
{
    static const char *const names[] = {"always", "first", "never"};
    const char *text, *name = "always";
    size_t n;
    bool add_prefix = true, known = false;
    hw_status st = hw_node_only(node, "type replacement str_rep add_prefix_space prepend_scheme split");
    if (!st) st = hw_node_char(node, "replacement", &text, &n);
    if (!st) st = hw_bytes_append(mark, text, n, node->at.err);
    if (!st) st = hw_json_bool(node->at, "add_prefix_space", &add_prefix);
    if (!st) st = hw_json_string(node->at, "prepend_scheme", &name);
    if (!st) st = hw_json_bool(node->at, "split", split);
    if (st) return st;
    for (int i = 0; i < 3; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *scheme = (hw_prepend_scheme)i;
        known = true;
    }
    if (!known)
        return hw_fail(node->at.err, node->at.failure, "%s: prepend_scheme \"%.40s\" is not known",
                       node->name, name);
    /* Older files say it with add_prefix_space alone. */
    if (!add_prefix && *scheme != HW_PREPEND_NEVER && json_object_get(node->at.object, "prepend_scheme"))
        return hw_fail(node->at.err, node->at.failure,
                       "%s: add_prefix_space is false, but prepend_scheme is \"%s\"", node->name, name);
    if (!add_prefix) *scheme = HW_PREPEND_NEVER;
    return HW_OK;
}

static hw_status load_metaspace(hw_pretokenizer *p, const hw_node *node)
{
    hw_pretokenizer_step *step = NULL, *cut = NULL;
    bool split = true;
    hw_status st = new_step(&step, p, node);
    if (st) return st;
    step->kind = HW_PIECE_METASPACE;
    st = hw_metaspace_read(node, &step->mark, &step->scheme, &split);
    if (st || !split || (st = new_step(&cut, p, node))) return st;
    cut->behavior = HW_SPLIT_MERGED_WITH_NEXT;
    return hw_pattern_literal(&cut->pattern, step->mark.data, step->mark.n, node->at.err);
}

static hw_status load_node(hw_pretokenizer *p, const hw_node *node)
{
    const char *type;
    const json_t *list;
    hw_status st = hw_node_type(node, &type);
    if (st) return st;
    if (!strcmp(type, "Sequence")) {
        st = hw_node_only(node, "type pretokenizers");
        if (!st) st = hw_node_list(node, "pretokenizers", &list);
        for (size_t i = 0; !st && i < json_array_size(list); i++) {
            hw_node child;
            st = hw_node_open(&child, node, json_array_get(list, i), "pretokenizers[%zu]", i);
            if (!st) st = load_node(p, &child);
        }
        return st;
    }
    if (p->of_bytes)
        return hw_fail(node->at.err, node->at.failure,
                       "%s: \"%.40s\" after ByteLevel; ByteLevel must come last", node->name, type);
    if (!strcmp(type, "ByteLevel")) return load_byte_level(p, node);
    if (!strcmp(type, "Split")) return load_split(p, node);
    if (!strcmp(type, "Digits")) return load_digits(p, node);
    if (!strcmp(type, "Metaspace")) return load_metaspace(p, node);
    return hw_node_unsupported(node, type, "ByteLevel Split Digits Metaspace Sequence");
}

hw_status hw_pretokenizer_load(hw_pretokenizer *out, const hw_node *parent, const json_t *value)
{
    hw_node node;
    *out = (hw_pretokenizer){0};
    if (!value || json_is_null(value)) return HW_OK;
    hw_status st = hw_node_open(&node, parent, value, "pre_tokenizer");
    return st ? st : load_node(out, &node);
}
