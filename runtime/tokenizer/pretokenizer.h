/* The "pre_tokenizer" of tokenizer.json: ByteLevel, Split, Digits, Metaspace and Sequences of them,
 * flattened into a list of steps that each change a piece of text or cut it into smaller ones. */
#ifndef HW_RUNTIME_TOKENIZER_PRETOKENIZER_H
#define HW_RUNTIME_TOKENIZER_PRETOKENIZER_H

#include "runtime/tokenizer/normalizer.h"

typedef enum hw_split_behavior {
    HW_SPLIT_REMOVED,
    HW_SPLIT_ISOLATED,
    HW_SPLIT_MERGED_WITH_PREVIOUS,
    HW_SPLIT_MERGED_WITH_NEXT,
    HW_SPLIT_CONTIGUOUS,
} hw_split_behavior;

typedef enum hw_prepend_scheme { HW_PREPEND_ALWAYS, HW_PREPEND_FIRST, HW_PREPEND_NEVER } hw_prepend_scheme;

typedef struct hw_pretokenizer_step {
    enum {
        HW_PIECE_SPLIT,
        HW_PIECE_PREFIX_SPACE, /* a blank in front of a piece that has none */
        HW_PIECE_METASPACE,    /* blanks become `mark`, and one is put in front */
    } kind;
    hw_pattern pattern;
    hw_split_behavior behavior;
    bool invert;
    hw_bytes mark;
    hw_prepend_scheme scheme;
} hw_pretokenizer_step;

/* Read-only once loaded. */
typedef struct hw_pretokenizer {
    hw_pretokenizer_step steps[HW_MAX_STEPS];
    size_t n_steps;
    bool of_bytes; /* ends with ByteLevel: the model is given the bytes of a piece */
} hw_pretokenizer;

/* Local. `value` may be NULL or null: then a text is one piece. */
hw_status hw_pretokenizer_load(hw_pretokenizer *out, const hw_node *parent, const json_t *value);
void hw_pretokenizer_free(hw_pretokenizer *p);

/* Local. The fields of a Metaspace node, which is a pre-tokenizer and a decoder. *split keeps its value
 * when the key is missing. */
hw_status hw_metaspace_read(const hw_node *node, hw_bytes *mark, hw_prepend_scheme *scheme, bool *split);

/* One run over one text; belongs to one thread. `piece` is called for every piece in order, none of them
 * empty. */
typedef struct hw_pretokenizer_run {
    const hw_pretokenizer *pretokenizer;
    pcre2_match_data *scratch;
    hw_bytes buffers[HW_MAX_STEPS]; /* of the step with that index */
    hw_status (*piece)(void *context, const char *text, size_t n, hw_error *err);
    void *context;
} hw_pretokenizer_run;

/* Local. `first` says that the text begins where the whole input does. */
hw_status hw_pretokenize(hw_pretokenizer_run *run, const char *text, size_t n, bool first, hw_error *err);
void hw_pretokenizer_run_free(hw_pretokenizer_run *run);

#endif
