#include "runtime/tokenizer/internal.h"

/* One call of hw_tokenizer_encode: everything that changes while it runs. */
typedef struct encoding {
    const hw_tokenizer *t;
    hw_tokens *out;
    hw_bpe_scratch bpe;
    hw_pretokenizer_run pieces;
    hw_bytes normalized[2];
    pcre2_match_data *scratch;
} encoding;

static hw_status encode_piece(void *context, const char *text, size_t n, hw_error *err)
{
    encoding *e = context;
    return hw_bpe_encode(&e->t->bpe, &e->t->vocab, &e->bpe, text, n, e->out, err);
}

/* Text between added tokens. `first` says that it begins where the input does. */
typedef hw_status text_handler(encoding *e, const char *text, size_t n, bool first, hw_error *err);

static hw_status encode_normalized(encoding *e, const char *text, size_t n, bool first, hw_error *err)
{
    return n ? hw_pretokenize(&e->pieces, text, n, first, err) : HW_OK;
}

/* Cuts a text at the added tokens of a set. */
static hw_status cut_at_tokens(encoding *e, const hw_added_set *set, text_handler *handle, const char *text,
                               size_t n, bool first, hw_error *err)
{
    hw_added_search search = {.set = set, .text = text, .n = n};
    const hw_added_token *token;
    size_t between, start;
    hw_status st = HW_OK;
    while ((token = hw_added_next(&search, &between, &start))) {
        if (between < start) st = handle(e, text + between, start - between, first && between == 0, err);
        if (!st) st = hw_tokens_push(e->out, token->id, err);
        if (st) return st;
    }
    return handle(e, text + search.done, n - search.done, first && search.done == 0, err);
}

static hw_status encode_raw(encoding *e, const char *text, size_t n, bool first, hw_error *err)
{
    const hw_tokenizer *t = e->t;
    if (!n) return HW_OK;
    hw_status st = hw_normalizer_run(&t->normalizer, e->normalized, e->scratch, text, n, &text, &n, err);
    return st ? st : cut_at_tokens(e, &t->added.normalized, encode_normalized, text, n, first, err);
}

hw_status hw_tokenizer_encode(const hw_tokenizer *t, const char *text, size_t n_bytes, bool add_special,
                              hw_tokens *out, hw_error *err)
{
    if (!n_bytes) text = ""; /* NULL is fine then */
    if (n_bytes > HW_BYTES_MAX / 4)
        return hw_fail(err, HW_ERR_INVALID, "text of %zu bytes, at most %d can be encoded at once", n_bytes,
                       HW_BYTES_MAX / 4);
    size_t valid = hw_utf8_valid_prefix(text, n_bytes);
    if (valid != n_bytes)
        return hw_fail(err, HW_ERR_INVALID, "the text is not UTF-8: byte 0x%02x at offset %zu",
                       (unsigned char)text[valid], valid);
    encoding e = {.t = t, .out = out, .scratch = pcre2_match_data_create(1, NULL)};
    e.pieces = (hw_pretokenizer_run){
        .pretokenizer = &t->pretokenizer, .scratch = e.scratch, .piece = encode_piece, .context = &e};
    hw_status st = e.scratch ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "tokenizer: no memory to encode with");
    hw_bpe_scratch_init(&e.bpe, n_bytes);
    for (size_t i = 0; add_special && i < t->template.before.n && !st; i++)
        st = hw_tokens_push(out, t->template.before.ids[i], err);
    if (!st) st = cut_at_tokens(&e, &t->added.raw, encode_raw, text, n_bytes, true, err);
    for (size_t i = 0; add_special && i < t->template.after.n && !st; i++)
        st = hw_tokens_push(out, t->template.after.ids[i], err);
    hw_pretokenizer_run_free(&e.pieces);
    hw_bpe_scratch_free(&e.bpe);
    hw_bytes_free(&e.normalized[0]);
    hw_bytes_free(&e.normalized[1]);
    pcre2_match_data_free(e.scratch);
    return st;
}
