/* The "post_processor" of tokenizer.json as far as it concerns ids: the tokens that stand before and after
 * a text. */
#ifndef HW_RUNTIME_TOKENIZER_TEMPLATE_H
#define HW_RUNTIME_TOKENIZER_TEMPLATE_H

#include "runtime/tokenizer/node.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/vocab.h"

/* Read-only once loaded. */
typedef struct hw_template {
    hw_tokens before, after;
    bool loaded; /* a template was read; there is no meaning for a second one */
} hw_template;

/* Local. TemplateProcessing, ByteLevel (which only moves offsets) and Sequences of them, with one template
 * at most. `value` may be NULL or null. */
hw_status hw_template_load(hw_template *out, const hw_vocab *vocab, const hw_node *parent,
                           const json_t *value);
void hw_template_free(hw_template *t);

#endif
