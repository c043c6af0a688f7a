#include "runtime/tokenizer/pattern.h"

#include "runtime/tokenizer/unicode.h"

void hw_pattern_free(hw_pattern *p)
{
    free(p->literal);
    pcre2_code_free(p->code);
    *p = (hw_pattern){0};
}

hw_status hw_pattern_literal(hw_pattern *out, const char *text, size_t n, hw_error *err)
{
    *out = (hw_pattern){.literal = malloc(n + 1), .n_literal = n};
    if (!out->literal) return hw_fail(err, HW_ERR_NO_MEMORY, "tokenizer: no memory for a pattern");
    memcpy(out->literal, text, n);
    return HW_OK;
}

hw_status hw_pattern_regex(hw_pattern *out, const char *regex, size_t n, const char *where, hw_error *err)
{
    hw_bytes translated = {0};
    hw_status st = hw_pattern_translate(&translated, regex, n, where, err);
    *out = (hw_pattern){0};
    if (!st) {
        int code = 0;
        PCRE2_SIZE at = 0;
        pcre2_compile_context *context = pcre2_compile_context_create(NULL);
        if (context) pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        out->code = pcre2_compile((PCRE2_SPTR)(translated.data ? translated.data : ""), translated.n,
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, context);
        pcre2_compile_context_free(context);
        if (!out->code) {
            PCRE2_UCHAR why[160] = "";
            pcre2_get_error_message(code, why, sizeof why);
            st = hw_fail(err, HW_ERR_MODEL, "%s: not a regular expression that PCRE2 reads: %s", where,
                         (char *)why);
        } else {
            out->jit = !pcre2_jit_compile(out->code, PCRE2_JIT_COMPLETE);
        }
    }
    hw_bytes_free(&translated);
    return st;
}

hw_status hw_pattern_read(hw_pattern *out, const hw_node *node, const char *key)
{
    hw_node inner;
    const char *text;
    size_t n;
    *out = (hw_pattern){0};
    hw_status st = hw_json_need(node->at, key);
    if (!st) st = hw_node_open(&inner, node, json_object_get(node->at.object, key), "%s", key);
    if (!st) st = hw_node_only(&inner, "String Regex");
    if (!st && json_object_size(inner.at.object) != 1)
        st = hw_fail(node->at.err, node->at.failure, "%s: wanted one of String and Regex", inner.name);
    if (!st) st = hw_node_text(&inner, "Regex", &text, &n);
    if (st) return st;
    if (text) return hw_pattern_regex(out, text, n, inner.name, node->at.err);
    if ((st = hw_node_text(&inner, "String", &text, &n))) return st;
    if (!n) return hw_fail(node->at.err, node->at.failure, "%s: an empty pattern", inner.name);
    return hw_pattern_literal(out, text, n, node->at.err);
}

static hw_status next_literal(hw_search *s, size_t *start, size_t *end, bool *found)
{
    const hw_pattern *p = s->pattern;
    const char *hit = memmem(s->text + s->at, s->n - s->at, p->literal, p->n_literal);
    *found = hit != NULL;
    if (hit) {
        *start = (size_t)(hit - s->text);
        s->at = *end = *start + p->n_literal;
    }
    return HW_OK;
}

/* PCRE2's count of matches, or its error code. */
static int match_here(const hw_search *s)
{
    const hw_pattern *p = s->pattern;
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (p->jit)
        rc = pcre2_jit_match(p->code, (PCRE2_SPTR)s->text, s->n, s->at, PCRE2_NO_UTF_CHECK, s->scratch, NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack on the heap */
        rc = pcre2_match(p->code, (PCRE2_SPTR)s->text, s->n, s->at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         s->scratch, NULL);
    return rc;
}

hw_status hw_search_next(hw_search *s, size_t *start, size_t *end, bool *found, hw_error *err)
{
    *found = false;
    if (s->pattern->literal) return next_literal(s, start, end, found);
    while (s->at <= s->n) {
        int rc = match_here(s);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc < 0) {
            PCRE2_UCHAR why[160] = "";
            pcre2_get_error_message(rc, why, sizeof why);
            return hw_fail(err, HW_ERR_FAILED, "tokenizer: a regular expression of the model gave up: %s",
                           (char *)why);
        }
        const PCRE2_SIZE *match = pcre2_get_ovector_pointer(s->scratch);
        *start = match[0];
        *end = match[1];
        if (*start == *end &&
            *end == s->last_end) { /* an empty match where the last one ended does not count */
            if (s->at >= s->n) break;
            s->at += hw_utf8_length(s->text[s->at]);
            continue;
        }
        s->at = s->last_end = *end;
        *found = true;
        return HW_OK;
    }
    s->at = s->n + 1;
    return HW_OK;
}
