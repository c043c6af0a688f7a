/* The token table: id to content and content to id. Contents are byte strings with a length; they may hold
 * zeros. */
#ifndef HW_RUNTIME_TOKENIZER_VOCAB_H
#define HW_RUNTIME_TOKENIZER_VOCAB_H

#include <stdbool.h>

#include "runtime/tokenizer/bytes.h"

enum {
    HW_TOKEN_MODEL = 1,   /* in the BPE model's vocabulary */
    HW_TOKEN_ADDED = 2,   /* in the list of added tokens */
    HW_TOKEN_SPECIAL = 4, /* its content is that of a special token */
    HW_TOKEN_HIDDEN = 8,  /* left out of a text that is decoded without special tokens */
};
enum { HW_VOCAB_MAX_IDS = 1 << 22 }; /* ids beyond it are refused: the table is as long as the largest id */

typedef struct hw_vocab_entry {
    uint32_t start, n_bytes; /* content */
    uint32_t shown_start,
        n_shown_bytes; /* what the decoder is given: the content, but for some added tokens */
    uint32_t flags;    /* 0 for an id that is not there */
} hw_vocab_entry;

typedef struct hw_vocab {
    hw_bytes strings;
    hw_vocab_entry *entries; /* [n_ids] */
    size_t n_ids, capacity;
    struct hw_vocab_slot {
        uint32_t hash;
        int32_t id; /* -1 for a free slot */
    } * slots;      /* [n_slots], a power of two, at most half full */
    size_t n_slots, n_tokens;
} hw_vocab;

/* Local. An empty table with room for n_tokens; it grows. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_vocab_create(hw_vocab *v, size_t n_tokens, hw_error *err);
void hw_vocab_free(hw_vocab *v);

/* Local. Adds a token. Errors: HW_ERR_MODEL when the id is out of range or taken, or the content is there
 * already; HW_ERR_NO_MEMORY. */
hw_status hw_vocab_add(hw_vocab *v, int64_t id, const char *text, size_t n, uint32_t flags, hw_error *err);

/* Local. The id of a content, or -1. */
int32_t hw_vocab_find(const hw_vocab *v, const char *text, size_t n);

static inline bool hw_vocab_has(const hw_vocab *v, int64_t id)
{
    return id >= 0 && (uint64_t)id < v->n_ids && v->entries[id].flags;
}

/* Local. Of an id that is there. Valid until the next hw_vocab_add. */
static inline const char *hw_vocab_text(const hw_vocab *v, int32_t id, size_t *n)
{
    *n = v->entries[id].n_bytes;
    return v->strings.data + v->entries[id].start;
}

/* Local. A hash of n bytes; also what the piece cache uses. */
uint32_t hw_hash_bytes(const char *text, size_t n);

#endif
