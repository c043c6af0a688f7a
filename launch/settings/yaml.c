#include "launch/settings/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

struct hw_yaml {
    char *name;
    hw_yaml_node *root;
};

typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the one being looked at */
    const char *name, *text;
    size_t n_bytes;
    hw_error *err;
} reader;

static void free_node(hw_yaml_node *n)
{
    while (n) {
        hw_yaml_node *next = n->next;
        free_node(n->first); /* as deep as HW_YAML_MAX_DEPTH */
        free(n->text);
        free(n->key);
        free(n);
        n = next;
    }
}

/* ---- mistakes */

static int line_of(yaml_mark_t m) { return (int)m.line + 1; }
static int column_of(yaml_mark_t m) { return (int)m.column + 1; }

static hw_status refuse(const reader *r, yaml_mark_t at, const char *what)
{
    return hw_fail(r->err, HW_ERR_INVALID, "%s:%d:%d: %s", r->name, line_of(at), column_of(at), what);
}

static hw_status no_memory(const reader *r)
{
    return hw_fail(r->err, HW_ERR_NO_MEMORY, "%s: no memory for its content", r->name);
}

/* libyaml says where a character cannot be read in bytes; people count lines and characters. */
static yaml_mark_t mark_of(const reader *r, size_t offset)
{
    yaml_mark_t m = {0};
    for (size_t i = 0; i < offset && i < r->n_bytes; i++) {
        if (r->text[i] == '\n') m.line++, m.column = 0;
        else if (((unsigned char)r->text[i] & 0xc0) != 0x80) m.column++;
    }
    return m;
}

static hw_status refuse_syntax(const reader *r)
{
    const yaml_parser_t *p = &r->parser;
    const char *problem = p->problem ? p->problem : "it cannot be read";
    yaml_mark_t at = p->problem_mark;
    if (p->error == YAML_MEMORY_ERROR) return no_memory(r);
    if (p->error == YAML_READER_ERROR) {
        at = mark_of(r, p->problem_offset);
        return hw_fail(r->err, HW_ERR_INVALID, "%s:%d:%d: not UTF-8 text: %s (%s%x)", r->name, line_of(at),
                       column_of(at), problem, "0x", (unsigned)p->problem_value);
    }
    return hw_fail(r->err, HW_ERR_INVALID, "%s:%d:%d: not YAML: %s%s%s", r->name, line_of(at), column_of(at),
                   problem, p->context ? " " : "", p->context ? p->context : "");
}

/* ---- reading */

static hw_status next_event(reader *r)
{
    yaml_event_delete(&r->event);
    return yaml_parser_parse(&r->parser, &r->event) ? HW_OK : refuse_syntax(r);
}

/* An anchor without an alias does no harm, but it is there for one. */
static hw_status check_properties(const reader *r, const yaml_char_t *anchor, const yaml_char_t *tag)
{
    if (anchor)
        return refuse(r, r->event.start_mark, "anchors and aliases are not supported; write the value out");
    if (tag) return refuse(r, r->event.start_mark, "tags are not supported; write the value alone");
    return HW_OK;
}

static hw_status copy_text(const reader *r, char **out)
{
    const size_t n = r->event.data.scalar.length;
    const char *text = (const char *)r->event.data.scalar.value;
    *out = NULL;
    if (memchr(text, 0, n)) return refuse(r, r->event.start_mark, "a text has a zero byte (\\0) in it");
    *out = malloc(n + 1);
    if (!*out) return no_memory(r);
    memcpy(*out, text, n);
    (*out)[n] = '\0';
    return HW_OK;
}

static hw_status read_node(reader *r, hw_yaml_node *n, int depth);

/* The event is the first one of the child. It joins its parent at once, so that it is freed with it after an
 * error. */
static hw_status read_child(reader *r, hw_yaml_node ***end, char *key, yaml_mark_t at, int depth)
{
    hw_yaml_node *child = calloc(1, sizeof *child);
    if (!child) {
        free(key);
        return no_memory(r);
    }
    child->key = key;
    child->key_line = line_of(at);
    child->key_column = column_of(at);
    **end = child;
    *end = &child->next;
    return read_node(r, child, depth);
}

static hw_status read_sequence(reader *r, hw_yaml_node *n, int depth)
{
    hw_yaml_node **end = &n->first;
    hw_status st = next_event(r);
    while (!st && r->event.type != YAML_SEQUENCE_END_EVENT)
        if (!(st = read_child(r, &end, NULL, r->event.start_mark, depth + 1))) st = next_event(r);
    return st;
}

static hw_status check_key(const reader *r, const hw_yaml_node *parent)
{
    if (r->event.type != YAML_SCALAR_EVENT)
        return refuse(r, r->event.start_mark, "a key must be a word, as in \"threads: 4\"");
    hw_status st = check_properties(r, r->event.data.scalar.anchor, r->event.data.scalar.tag);
    if (st) return st;
    for (const hw_yaml_node *c = parent->first; c; c = c->next)
        if (!strcmp(c->key, (const char *)r->event.data.scalar.value))
            return hw_fail(r->err, HW_ERR_INVALID,
                           "%s:%d:%d: duplicate key \"%.40s\"; the first is in line %d", r->name,
                           line_of(r->event.start_mark), column_of(r->event.start_mark), c->key, c->key_line);
    return HW_OK;
}

static hw_status read_mapping(reader *r, hw_yaml_node *n, int depth)
{
    enum { MAX_KEYS = 256 }; /* each is compared with those before it */
    hw_yaml_node **end = &n->first;
    int n_keys = 0;
    hw_status st = next_event(r);
    while (!st && r->event.type != YAML_MAPPING_END_EVENT) {
        char *key = NULL;
        const yaml_mark_t at = r->event.start_mark;
        if (++n_keys > MAX_KEYS) return refuse(r, at, "more than 256 keys in one mapping");
        st = check_key(r, n);
        if (!st) st = copy_text(r, &key);
        if (!st && (st = next_event(r))) free(key);
        else if (!st) st = read_child(r, &end, key, at, depth + 1);
        if (!st) st = next_event(r);
    }
    return st;
}

static hw_status read_node(reader *r, hw_yaml_node *n, int depth)
{
    const yaml_event_t *e = &r->event;
    hw_status st;
    n->line = line_of(e->start_mark);
    n->column = column_of(e->start_mark);
    if (depth > HW_YAML_MAX_DEPTH)
        return refuse(r, e->start_mark, "nested more than 16 deep; a configuration has three levels");
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        n->kind = HW_YAML_SCALAR;
        n->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        st = check_properties(r, e->data.scalar.anchor, e->data.scalar.tag);
        return st ? st : copy_text(r, &n->text);
    case YAML_SEQUENCE_START_EVENT:
        n->kind = HW_YAML_SEQUENCE;
        st = check_properties(r, e->data.sequence_start.anchor, e->data.sequence_start.tag);
        return st ? st : read_sequence(r, n, depth);
    case YAML_MAPPING_START_EVENT:
        n->kind = HW_YAML_MAPPING;
        st = check_properties(r, e->data.mapping_start.anchor, e->data.mapping_start.tag);
        return st ? st : read_mapping(r, n, depth);
    default: return refuse(r, e->start_mark, "anchors and aliases are not supported; write the value out");
    }
}

static hw_status read_stream(reader *r, hw_yaml *y)
{
    hw_status st = next_event(r); /* stream start */
    if (!st) st = next_event(r);
    if (st || r->event.type == YAML_STREAM_END_EVENT) return st;
    if ((st = next_event(r))) return st; /* past the document's start */
    y->root = calloc(1, sizeof *y->root);
    if (!y->root) return no_memory(r);
    st = read_node(r, y->root, 0);
    if (!st) st = next_event(r); /* the document's end */
    if (!st) st = next_event(r);
    if (!st && r->event.type != YAML_STREAM_END_EVENT)
        return refuse(r, r->event.start_mark,
                      "a second document begins here; a configuration is one document");
    return st;
}

hw_status hw_yaml_parse(hw_yaml **out, const char *text, size_t n_bytes, const char *name, hw_error *err)
{
    reader r = {.name = name, .text = text, .n_bytes = n_bytes, .err = err};
    *out = NULL;
    if (n_bytes > HW_YAML_MAX_BYTES)
        return hw_fail(err, HW_ERR_INVALID,
                       "%s:1:1: it has %zu bytes, and a configuration has at most %d; is it the right file?",
                       name, n_bytes, HW_YAML_MAX_BYTES);
    hw_yaml *y = calloc(1, sizeof *y);
    if (!y || !(y->name = strdup(name)) || !yaml_parser_initialize(&r.parser)) {
        hw_yaml_close(y);
        return no_memory(&r);
    }
    /* Without this a byte order mark would switch it to UTF-16, and offsets would no longer be ours. */
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n_bytes);
    hw_status st = read_stream(&r, y);
    yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    if (st) hw_yaml_close(y);
    else *out = y;
    return st;
}

void hw_yaml_close(hw_yaml *y)
{
    if (!y) return;
    free_node(y->root);
    free(y->name);
    free(y);
}

/* A text of comments has a root in libyaml's eyes: nothing, written as nothing. */
const hw_yaml_node *hw_yaml_root(const hw_yaml *y)
{
    const hw_yaml_node *n = y->root;
    const bool empty = n && n->kind == HW_YAML_SCALAR && n->plain && hw_yaml_is_null(n->text);
    return empty ? NULL : n;
}

const char *hw_yaml_name(const hw_yaml *y) { return y->name; }

/* ---- what a plain scalar looks like */

static bool is_one_of(const char *word, const char *const *words)
{
    while (*words && strcasecmp(word, *words)) words++;
    return *words != NULL;
}

bool hw_yaml_is_null(const char *word)
{
    return is_one_of(word, (const char *const[]){"", "~", "null", NULL});
}

bool hw_yaml_is_truth(const char *word)
{
    return is_one_of(word, (const char *const[]){"true", "false", "yes", "no", "on", "off", "y", "n", NULL});
}

bool hw_yaml_is_number(const char *word)
{
    const char *p = word + (*word == '-' || *word == '+');
    if (*p == '.') p++;
    if (*p < '0' || *p > '9') return false;
    char *end;
    strtod(word, &end);
    return !*end || !word[strspn(word, "+-0123456789_")];
}
