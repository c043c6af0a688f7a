#include "runtime/tokenizer/bpe.h"

#include "runtime/tokenizer/byte_level.h"
#include "runtime/tokenizer/unicode.h"

/* A piece that was encoded before, in the same text. One cache line; a newer piece takes the place of an
 * older one. */
enum { PIECE_BYTES = 22, PIECE_IDS = 10, CACHE_MIN_TEXT = 512, CACHE_MAX = 16384 };
typedef struct hw_piece {
    uint8_t n_bytes, n_ids; /* n_bytes 0: free */
    char bytes[PIECE_BYTES];
    int32_t ids[PIECE_IDS];
} hw_piece;

void hw_bpe_scratch_init(hw_bpe_scratch *s, size_t n_bytes)
{
    *s = (hw_bpe_scratch){0};
    if (n_bytes < CACHE_MIN_TEXT) return;
    size_t n_cache = 64;
    while (n_cache < CACHE_MAX && n_cache * 16 < n_bytes) n_cache *= 2;
    s->cache = calloc(n_cache, sizeof *s->cache);
    s->n_cache = s->cache ? n_cache : 0;
}

void hw_bpe_scratch_free(hw_bpe_scratch *s)
{
    free(s->ids);
    free(s->ranks);
    free(s->previous);
    free(s->next);
    free(s->heap);
    free(s->cache);
    *s = (hw_bpe_scratch){0};
}

static hw_status reserve_symbols(hw_bpe_scratch *s, size_t n, hw_error *err)
{
    if (n <= s->capacity) return HW_OK;
    size_t capacity = n + n / 2 + 64;
    void **arrays[] = {(void **)&s->ids, (void **)&s->ranks, (void **)&s->previous, (void **)&s->next};
    s->capacity = 0;
    for (int i = 0; i < 4; i++) {
        free(*arrays[i]);
        if (!(*arrays[i] = malloc(capacity * sizeof(int32_t))))
            return hw_fail(err, HW_ERR_NO_MEMORY, "tokenizer: no memory for a piece of %zu symbols", n);
    }
    s->capacity = capacity;
    return HW_OK;
}

/* An unknown character waits in *pending for what follows, because with fuse_unk its unknown neighbours
 * join it. */
static void flush_unknown(const hw_bpe *bpe, hw_bpe_scratch *s, bool *pending)
{
    if (*pending) s->ids[s->n++] = bpe->unk_id;
    *pending = false;
}

static hw_status add_unknown(const hw_bpe *bpe, hw_bpe_scratch *s, bool *pending, const char *text, size_t n,
                             hw_error *err)
{
    if (bpe->byte_fallback) {
        size_t known = 0;
        while (known < n && bpe->fallback[(unsigned char)text[known]] >= 0) known++;
        if (known == n) {
            /* A pending unknown is not flushed here: it comes after the bytes, as in Hugging Face's
             * encoder. */
            for (size_t i = 0; i < n; i++) s->ids[s->n++] = bpe->fallback[(unsigned char)text[i]];
            return HW_OK;
        }
    }
    if (!bpe->unk_token) return HW_OK; /* dropped */
    if (bpe->unk_id < 0)
        return hw_fail(err, HW_ERR_MODEL,
                       "tokenizer: the text needs unk_token \"%.60s\", which the vocab lacks",
                       bpe->unk_token);
    if (!bpe->fuse_unk) flush_unknown(bpe, s, pending);
    *pending = true;
    return HW_OK;
}

/* Added tokens are in the same table but unknown to the model. */
static int32_t model_token(const hw_vocab *vocab, const char *text, size_t n)
{
    int32_t id = hw_vocab_find(vocab, text, n);
    return id >= 0 && vocab->entries[id].flags & HW_TOKEN_MODEL ? id : -1;
}

static hw_status symbols_of_bytes(const hw_bpe *bpe, hw_bpe_scratch *s, const char *piece, size_t n,
                                  hw_error *err)
{
    bool pending = false;
    hw_status st = reserve_symbols(s, 2 * n + 1, err); /* a byte's character may fall back to two bytes */
    s->n = 0;
    for (size_t i = 0; i < n && !st; i++) {
        uint8_t byte = (uint8_t)piece[i];
        if (bpe->byte_ids[byte] >= 0) {
            flush_unknown(bpe, s, &pending);
            s->ids[s->n++] = bpe->byte_ids[byte];
        } else {
            char text[4];
            st = add_unknown(bpe, s, &pending, text, hw_utf8_encode(hw_byte_char(byte), text), err);
        }
    }
    flush_unknown(bpe, s, &pending);
    return st;
}

static hw_status symbols_of_chars(const hw_bpe *bpe, const hw_vocab *vocab, hw_bpe_scratch *s,
                                  const char *piece, size_t n, hw_error *err)
{
    bool pending = false;
    hw_status st = reserve_symbols(s, n + 1, err);
    s->n = 0;
    for (size_t i = 0; i < n && !st;) {
        uint32_t cp;
        size_t length = hw_utf8_first(piece + i, &cp);
        int32_t id = cp < 65536 ? bpe->char_ids[cp] : model_token(vocab, piece + i, length);
        if (id >= 0) {
            flush_unknown(bpe, s, &pending);
            s->ids[s->n++] = id;
        } else {
            st = add_unknown(bpe, s, &pending, piece + i, length, err);
        }
        i += length;
    }
    flush_unknown(bpe, s, &pending);
    return st;
}

static hw_status push_ids(hw_tokens *out, const int32_t *ids, size_t n, hw_error *err)
{
    if (!n) return HW_OK;
    if (n <= out->capacity - out->n) {
        memcpy(out->ids + out->n, ids, n * sizeof *ids);
        out->n += n;
        return HW_OK;
    }
    hw_status st = HW_OK;
    for (size_t i = 0; i < n && !st; i++) st = hw_tokens_push(out, ids[i], err);
    return st;
}

static hw_status encode_piece(const hw_bpe *bpe, const hw_vocab *vocab, hw_bpe_scratch *s, const char *piece,
                              size_t n, hw_tokens *out, hw_error *err)
{
    hw_piece *cached = NULL;
    if (s->cache && n <= PIECE_BYTES) {
        cached = &s->cache[hw_hash_bytes(piece, n) & (s->n_cache - 1)];
        if (cached->n_bytes == n && !memcmp(cached->bytes, piece, n))
            return push_ids(out, cached->ids, cached->n_ids, err);
    }
    hw_status st = bpe->of_bytes ? symbols_of_bytes(bpe, s, piece, n, err)
                                 : symbols_of_chars(bpe, vocab, s, piece, n, err);
    if (!st) st = hw_bpe_merge(bpe, s, err);
    if (!st) st = push_ids(out, s->ids, s->n, err);
    if (!st && cached && s->n <= PIECE_IDS) {
        cached->n_bytes = (uint8_t)n;
        cached->n_ids = (uint8_t)s->n;
        memcpy(cached->bytes, piece, n);
        memcpy(cached->ids, s->ids, s->n * sizeof *s->ids);
    }
    return st;
}

/* Where the next word begins: at a word mark that does not follow another one. */
static size_t next_word(const char *piece, size_t n, size_t at)
{
    size_t i = at;
    while (n - i >= 3 && !memcmp(piece + i, HW_WORD_MARK, 3)) i += 3;
    const char *mark = memmem(piece + i, n - i, HW_WORD_MARK, 3);
    return mark ? (size_t)(mark - piece) : n;
}

hw_status hw_bpe_encode(const hw_bpe *bpe, const hw_vocab *vocab, hw_bpe_scratch *s, const char *piece,
                        size_t n, hw_tokens *out, hw_error *err)
{
    hw_status st = HW_OK;
    if (bpe->ignore_merges) {
        int32_t id = bpe->of_bytes ? hw_vocab_find(&bpe->whole, piece, n) : model_token(vocab, piece, n);
        if (id >= 0) return hw_tokens_push(out, id, err);
    }
    if (!bpe->cut_words) return encode_piece(bpe, vocab, s, piece, n, out, err);
    for (size_t i = 0; i < n && !st;) {
        size_t end = next_word(piece, n, i);
        st = encode_piece(bpe, vocab, s, piece + i, end - i, out, err);
        i = end;
    }
    return st;
}
