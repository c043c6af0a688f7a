/* The "normalizer" of tokenizer.json: NFC, NFD, NFKC, NFKD, Prepend, Replace and Sequences of them. */
#ifndef HW_RUNTIME_TOKENIZER_NORMALIZER_H
#define HW_RUNTIME_TOKENIZER_NORMALIZER_H

#include "runtime/tokenizer/pattern.h"
#include "runtime/tokenizer/unicode.h"

enum { HW_MAX_STEPS = 32 }; /* parts of one normalizer, pre-tokenizer or decoder */

typedef struct hw_normalizer_step {
    enum { HW_NORMALIZE_FORM, HW_NORMALIZE_PREPEND, HW_NORMALIZE_REPLACE } kind;
    hw_normal_form form;
    hw_bytes text; /* what to prepend, or to put in place of a match */
    hw_pattern pattern;
} hw_normalizer_step;

/* Read-only once loaded. */
typedef struct hw_normalizer {
    hw_normalizer_step steps[HW_MAX_STEPS];
    size_t n_steps;
} hw_normalizer;

/* Local. `value` may be NULL or null: then texts stay as they are. */
hw_status hw_normalizer_load(hw_normalizer *out, const hw_node *parent, const json_t *value);
void hw_normalizer_free(hw_normalizer *n);

/* Local. *result points to the text itself when there is nothing to do, else into buffers[0] or
 * buffers[1]. */
hw_status hw_normalizer_run(const hw_normalizer *n, hw_bytes buffers[2], pcre2_match_data *scratch,
                            const char *text, size_t n_text, const char **result, size_t *n_result,
                            hw_error *err);

/* Local. Appends the text to *out with every match of the pattern replaced. */
hw_status hw_replace_all(hw_bytes *out, const hw_pattern *p, pcre2_match_data *scratch, const char *text,
                         size_t n_text, const hw_bytes *replacement, hw_error *err);

#endif
