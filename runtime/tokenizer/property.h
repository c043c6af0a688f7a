/* What an expression asks of characters by \p{...}: a general category or a script, of Unicode 16.0, as Hugging Face's
 * tokenizers know them (unicode_tables.def). PCRE2 has tables of its own, of an older or newer Unicode by its version. */
#ifndef HW_RUNTIME_TOKENIZER_PROPERTY_H
#define HW_RUNTIME_TOKENIZER_PROPERTY_H

#include <stdbool.h>

#include "runtime/tokenizer/bytes.h"

/* Plain. */
typedef struct hw_property {
    uint32_t categories; /* bit i: category i of unicode_tables.def; 0: a script */
    int script;
    const char *pcre2[2]; /* how PCRE2 calls it, the better name first; static */
} hw_property;

/* Local. By a name as Oniguruma takes it: "L", "Letter", "Lu", "Han"; case, blanks, - and _ do not matter. False for others,
 * as for binary properties ("Emoji"). */
bool hw_property_find(hw_property *out, const char *name, size_t n);

/* Local. Whether upper and lower case of a character can differ in it. */
bool hw_property_depends_on_case(const hw_property *p);

/* Local. Appends what stands for the property between [ and ] of a PCRE2 class: its own \p{...} and what that lacks, or
 * all ranges where it has too much. `negated`: for all other characters. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_property_write(hw_bytes *out, const hw_property *p, bool negated, hw_error *err);

#endif
