/* Added tokens: strings that are found in a text before anything else happens to it and become one token
 * each.
 *
 * They are looked for twice: those that are not `normalized` in the text as it came, the others in what
 * the normalizer made of the text between the first ones. At each place the longest one wins. */
#ifndef HW_RUNTIME_TOKENIZER_ADDED_H
#define HW_RUNTIME_TOKENIZER_ADDED_H

#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/vocab.h"

typedef struct hw_added_token {
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
    char *text; /* [n_text] what is looked for: the content, normalised if `normalized` */
    size_t n_text;
} hw_added_token;

/* The tokens of one of the two searches, sorted by text. */
typedef struct hw_added_set {
    const hw_added_token **tokens; /* [n] */
    size_t n;
    uint32_t first[257]; /* tokens that begin with byte b are first[b] to first[b + 1] */
} hw_added_set;

/* Read-only once loaded. */
typedef struct hw_added {
    hw_added_token *tokens; /* [n] */
    size_t n;
    hw_added_set raw, normalized;
} hw_added;

/* Local. Reads "added_tokens" and adds them to *vocab. */
hw_status hw_added_load(hw_added *out, hw_vocab *vocab, const hw_normalizer *normalizer, const hw_node *top);
void hw_added_free(hw_added *a);

/* One search through one text. */
typedef struct hw_added_search {
    const hw_added_set *set;
    const char *text;
    size_t n, at;
    size_t done; /* text before it belongs to what was found */
} hw_added_search;

/* Local. The next token: the text from *between to *start stands before it (nothing if they are equal),
 * and what it covers ends at search->done. NULL when there is none; then the rest of the text begins at
 * search->done. */
const hw_added_token *hw_added_next(hw_added_search *search, size_t *between, size_t *start);

#endif
