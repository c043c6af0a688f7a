/* The "decoder" of tokenizer.json: Replace, ByteFallback, Fuse, Strip, Metaspace, ByteLevel and Sequences
 * of them, as a chain that tokens run through one by one.
 *
 * Hugging Face's decoders take the whole list of tokens; these keep the little that they must know of the
 * past, and hold back text while a later token could still change it. So a stream costs the same per token
 * however long it is, and decoding a list is a stream that nobody watches. */
#ifndef HW_RUNTIME_TOKENIZER_DECODER_H
#define HW_RUNTIME_TOKENIZER_DECODER_H

#include "runtime/tokenizer/pretokenizer.h"

typedef struct hw_decoder_step {
    enum {
        HW_DECODE_JOIN, /* no decoder: tokens with a blank between them */
        HW_DECODE_REPLACE,
        HW_DECODE_BYTE_FALLBACK,
        HW_DECODE_FUSE,
        HW_DECODE_STRIP,
        HW_DECODE_METASPACE,
        HW_DECODE_BYTE_LEVEL,
    } kind;
    bool fused; /* an earlier step has made one token of them all; what arrives are parts of it */
    hw_pattern pattern;
    hw_bytes text; /* the replacement, the character to strip, the mark of Metaspace */
    int strip_start, strip_stop;
    hw_prepend_scheme scheme;
} hw_decoder_step;

/* Read-only once loaded. */
typedef struct hw_decoder {
    hw_decoder_step steps[HW_MAX_STEPS];
    size_t n_steps;
} hw_decoder;

/* Local. `value` may be NULL or null. */
hw_status hw_decoder_load(hw_decoder *out, const hw_node *parent, const json_t *value);
void hw_decoder_free(hw_decoder *d);

/* One text on its way through the chain; belongs to one thread. Zero but for the first two and free with
 * hw_decoding_free. */
typedef struct hw_decoding {
    const hw_decoder *decoder;
    pcre2_match_data *scratch;
    hw_bytes out; /* what came out so far; the caller empties it */
    struct hw_decoding_step {
        size_t n_tokens; /* that reached this step */
        hw_bytes held;   /* ByteFallback: a run of bytes; ByteLevel: the beginning of a character */
        hw_bytes work;
        size_t n_stripped; /* Strip on a fused text: so many at the start, */
        bool started;      /* until something else came, */
        size_t n_trailing; /* and so many at the end that may yet have to go */
    } steps[HW_MAX_STEPS];
} hw_decoding;

/* Local. One more token, by what the vocabulary shows for it. Appends to d->out what has become certain. */
hw_status hw_decoding_token(hw_decoding *d, const char *text, size_t n, hw_error *err);

/* Local. There are no more tokens: appends what was held back. */
hw_status hw_decoding_finish(hw_decoding *d, hw_error *err);
void hw_decoding_free(hw_decoding *d);

#endif
