#include "runtime/tokenizer/internal.h"

struct hw_text_stream {
    const hw_tokenizer *t;
    bool skip_special;
    hw_decoding decoding;
};

hw_status hw_text_stream_create(hw_text_stream **out, const hw_tokenizer *t, bool skip_special, hw_error *err)
{
    *out = NULL;
    hw_text_stream *s = calloc(1, sizeof *s);
    pcre2_match_data *scratch = pcre2_match_data_create(1, NULL);
    if (!s || !scratch) {
        free(s);
        pcre2_match_data_free(scratch);
        return hw_fail(err, HW_ERR_NO_MEMORY, "tokenizer: no memory for a text stream");
    }
    s->t = t;
    s->skip_special = skip_special;
    s->decoding.decoder = &t->decoder;
    s->decoding.scratch = scratch;
    *out = s;
    return HW_OK;
}

void hw_text_stream_destroy(hw_text_stream *s)
{
    if (!s) return;
    pcre2_match_data_free(s->decoding.scratch);
    hw_decoding_free(&s->decoding);
    free(s);
}

static hw_status feed(hw_text_stream *s, int32_t id, hw_error *err)
{
    const hw_vocab *vocab = &s->t->vocab;
    if (!hw_vocab_has(vocab, id))
        return hw_fail(err, HW_ERR_INVALID, "token id %d is not one of the tokenizer's, which are below %zu",
                       id, vocab->n_ids);
    const hw_vocab_entry *entry = &vocab->entries[id];
    if (s->skip_special && entry->flags & HW_TOKEN_HIDDEN) return HW_OK;
    return hw_decoding_token(&s->decoding, vocab->strings.data + entry->shown_start, entry->n_shown_bytes,
                             err);
}

/* Hands out what has come out of the decoder; the next call writes over it. */
static void show(hw_text_stream *s, const char **text, size_t *n_bytes)
{
    *text = s->decoding.out.n ? s->decoding.out.data : "";
    *n_bytes = s->decoding.out.n;
}

hw_status hw_text_stream_push(hw_text_stream *s, int32_t id, const char **text, size_t *n_bytes,
                              hw_error *err)
{
    s->decoding.out.n = 0;
    hw_status st = feed(s, id, err);
    show(s, text, n_bytes);
    return st;
}

hw_status hw_text_stream_finish(hw_text_stream *s, const char **text, size_t *n_bytes, hw_error *err)
{
    s->decoding.out.n = 0;
    hw_status st = hw_decoding_finish(&s->decoding, err);
    show(s, text, n_bytes);
    return st;
}

hw_status hw_tokenizer_decode(const hw_tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                              char **text, size_t *n_bytes, hw_error *err)
{
    hw_text_stream *s;
    *text = NULL;
    *n_bytes = 0;
    hw_status st = hw_text_stream_create(&s, t, skip_special, err);
    if (st) return st;
    for (size_t i = 0; i < n && !st; i++) st = feed(s, ids[i], err);
    if (!st) st = hw_decoding_finish(&s->decoding, err);
    if (!st) st = hw_bytes_append(&s->decoding.out, "", 0, err); /* so that there is something to own */
    if (!st) {
        *text = s->decoding.out.data;
        *n_bytes = s->decoding.out.n;
        s->decoding.out = (hw_bytes){0};
    }
    hw_text_stream_destroy(s);
    return st;
}
