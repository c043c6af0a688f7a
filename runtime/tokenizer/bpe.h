/* Byte-pair encoding: one piece of text to token ids, by merging neighbours in the order of the merge
 * list. */
#ifndef HW_RUNTIME_TOKENIZER_BPE_H
#define HW_RUNTIME_TOKENIZER_BPE_H

#include "runtime/tokenizer/node.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/vocab.h"

#define HW_NO_RANK UINT32_MAX

/* Read-only once loaded. */
typedef struct hw_bpe {
    struct hw_merge_slot {
        uint64_t pair; /* left id << 32 | right id; UINT64_MAX for a free slot */
        uint32_t rank; /* its line in the merge list: smaller merges first */
    } * merges;        /* [n_slots], a power of two, at most half full */
    size_t n_slots;
    int32_t *merged; /* [n_merges] by rank: the token that the pair becomes */
    size_t n_merges;
    bool of_bytes;         /* pieces are raw bytes that stand for characters of the byte-level alphabet */
    int32_t byte_ids[256]; /* of_bytes: the token of each byte, -1 when the vocabulary lacks it */
    hw_vocab whole;        /* of_bytes and ignore_merges: the tokens by the bytes they stand for */
    int32_t *char_ids;     /* [65536] else: the token of each character of the basic plane, or -1 */
    int32_t fallback[256]; /* byte_fallback: <0x00> to <0xFF>, -1 when the vocabulary lacks it */
    bool byte_fallback, fuse_unk, ignore_merges;
    bool cut_words;  /* no merge reaches over the beginning of a word, so words are encoded one by one */
    char *unk_token; /* NULL when there is none */
    int32_t unk_id;  /* -1 when the vocabulary lacks it */
} hw_bpe;

/* Local. Reads "model" into *bpe and its vocabulary into *vocab (created here). `of_bytes` says that the
 * last pre-tokenizer is ByteLevel. Errors: HW_ERR_MODEL, HW_ERR_NO_MEMORY. */
hw_status hw_bpe_load(hw_bpe *bpe, hw_vocab *vocab, const hw_node *model, bool of_bytes);
void hw_bpe_free(hw_bpe *bpe);

/* What encoding one text needs; belongs to one thread. */
typedef struct hw_bpe_scratch {
    int32_t *ids;       /* [capacity] the symbols of a piece */
    uint32_t *ranks;    /* [capacity] of the pair that begins at each symbol */
    uint32_t *previous; /* [capacity] neighbours, when symbols are linked */
    uint32_t *next;     /* [capacity] */
    size_t n, capacity;
    uint64_t *heap; /* [heap_capacity] rank << 32 | position */
    size_t n_heap, heap_capacity;
    struct hw_piece *cache; /* [n_cache], a power of two; NULL when the text is short */
    size_t n_cache;
} hw_bpe_scratch;

/* Local. The cache is sized for a text of n_bytes; without memory for it there is none. */
void hw_bpe_scratch_init(hw_bpe_scratch *s, size_t n_bytes);
void hw_bpe_scratch_free(hw_bpe_scratch *s);

/* Local. Appends the tokens of one piece. */
hw_status hw_bpe_encode(const hw_bpe *bpe, const hw_vocab *vocab, hw_bpe_scratch *s, const char *piece,
                        size_t n, hw_tokens *out, hw_error *err);

/* Local. Merges s->ids[0..s->n) until no pair of neighbours is in the list: lowest rank first, leftmost
 * among equals. Takes time n log n. */
hw_status hw_bpe_merge(const hw_bpe *bpe, hw_bpe_scratch *s, hw_error *err);

/* Local. The rank of a pair, or HW_NO_RANK. */
static inline uint32_t hw_bpe_rank(const hw_bpe *bpe, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint64_t h = pair * 0x9E3779B97F4A7C15u;
    size_t at = (h ^ h >> 32) & (bpe->n_slots - 1);
    while (bpe->merges[at].pair != pair) {
        if (bpe->merges[at].pair == UINT64_MAX) return HW_NO_RANK;
        at = (at + 1) & (bpe->n_slots - 1);
    }
    return bpe->merges[at].rank;
}

#endif
