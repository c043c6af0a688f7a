/* What Split and Replace look for: a literal string or a regular expression.
 *
 * Hugging Face runs these expressions with Oniguruma in its Ruby dialect; here PCRE2 runs them. The two
 * read most of the language alike, and an expression that uses a part which they read differently is
 * refused when the tokenizer is loaded. Classes of characters are those of the reference, whatever Unicode PCRE2 knows
 * (property.h). */
#ifndef HW_RUNTIME_TOKENIZER_PATTERN_H
#define HW_RUNTIME_TOKENIZER_PATTERN_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "runtime/tokenizer/bytes.h"
#include "runtime/tokenizer/node.h"

/* Read-only after creation, so any number of threads may search with it. */
typedef struct hw_pattern {
    char *literal; /* [n_literal]; NULL for an expression */
    size_t n_literal;
    pcre2_code *code;
    bool jit;
} hw_pattern;

/* Local. The pattern {"String": ...} or {"Regex": ...} under `key`. Errors name the node. */
hw_status hw_pattern_read(hw_pattern *out, const hw_node *node, const char *key);

/* Local. From an expression, or from a literal string that is not empty. `where` names it in messages. */
hw_status hw_pattern_regex(hw_pattern *out, const char *regex, size_t n, const char *where, hw_error *err);
hw_status hw_pattern_literal(hw_pattern *out, const char *text, size_t n, hw_error *err);
void hw_pattern_free(hw_pattern *p);

/* One search through one text. The text is valid UTF-8 and stays where it is. `scratch` is not shared
 * between threads; two searches may use it in turn, because nothing is kept in it from one call to the
 * next. */
typedef struct hw_search {
    const hw_pattern *pattern;
    pcre2_match_data *scratch;
    const char *text;
    size_t n, at;
    size_t last_end; /* of the latest match; SIZE_MAX before the first */
} hw_search;

static inline hw_search hw_search_start(const hw_pattern *p, pcre2_match_data *scratch, const char *text,
                                        size_t n)
{
    return (hw_search){p, scratch, text, n, 0, SIZE_MAX};
}

/* Local. The next match from left to right; *found is false when there is none. A match may be empty, but
 * not directly behind another. Errors: HW_ERR_FAILED when the expression needs more memory or steps than
 * PCRE2 allows. */
hw_status hw_search_next(hw_search *s, size_t *start, size_t *end, bool *found, hw_error *err);

/* Local. Rewrites a Ruby expression for PCRE2 into *out, or refuses it. */
hw_status hw_pattern_translate(hw_bytes *out, const char *regex, size_t n, const char *where, hw_error *err);

#endif
