#include "runtime/tokenizer/decoder.h"

#include "runtime/tokenizer/byte_level.h"

void hw_decoding_free(hw_decoding *d)
{
    for (size_t i = 0; i < HW_MAX_STEPS; i++) {
        hw_bytes_free(&d->steps[i].held);
        hw_bytes_free(&d->steps[i].work);
    }
    hw_bytes_free(&d->out);
}

static hw_status take(hw_decoding *d, size_t i, const char *text, size_t n, hw_error *err);

/* ---- ByteFallback: a run of tokens <0xNN> is text if all of it is UTF-8, and one U+FFFD per byte if not */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte of <0xNN>, or -1. Rust's parser, which Hugging Face calls here, reads "+N" as a number too. */
static int byte_of_token(const char *text, size_t n)
{
    if (n != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    int high = text[3] == '+' ? 0 : hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static hw_status end_byte_run(hw_decoding *d, size_t i, hw_error *err)
{
    hw_bytes *run = &d->steps[i].held;
    size_t n = run->n;
    hw_status st = HW_OK;
    if (!n) return HW_OK;
    if (hw_utf8_valid_prefix(run->data, n) == n) st = take(d, i + 1, run->data, n, err);
    else
        for (size_t k = 0; k < n && !st; k++) st = take(d, i + 1, HW_UTF8_REPLACEMENT, 3, err);
    run->n = 0;
    return st;
}

static hw_status byte_fallback(hw_decoding *d, size_t i, const char *text, size_t n, hw_error *err)
{
    int byte = byte_of_token(text, n);
    if (byte >= 0) return hw_bytes_append(&d->steps[i].held, &(char){(char)byte}, 1, err);
    hw_status st = end_byte_run(d, i, err);
    return st ? st : take(d, i + 1, text, n, err);
}

/* ---- ByteLevel: characters of the alphabet are bytes; a token with any other character is taken as it is */

static hw_status append_bytes(hw_bytes *raw, const char *text, size_t n, hw_error *err)
{
    hw_status st = hw_bytes_reserve(raw, n, err);
    size_t before = raw->n;
    for (size_t i = 0; i < n && !st;) {
        uint32_t cp;
        i += hw_utf8_first(text + i, &cp);
        int byte = hw_byte_of_char(cp);
        if (byte < 0) {
            raw->n = before;
            return hw_bytes_append(raw, text, n, err);
        }
        raw->data[raw->n++] = (char)byte;
    }
    return st;
}

/* Passes on the characters that are complete; each maximal part of a broken one is one U+FFFD. */
static hw_status pass_characters(hw_decoding *d, size_t i, bool at_end, hw_error *err)
{
    hw_bytes *raw = &d->steps[i].held, *work = &d->steps[i].work;
    hw_status st = HW_OK;
    size_t done = 0;
    if (!raw->n) return HW_OK;
    work->n = 0;
    while (done < raw->n && !st) {
        size_t valid = hw_utf8_valid_prefix(raw->data + done, raw->n - done);
        st = hw_bytes_append(work, raw->data + done, valid, err);
        done += valid;
        if (st || done == raw->n) break;
        uint32_t cp;
        int step = hw_utf8_step(raw->data + done, raw->n - done, &cp);
        if (step == 0 && !at_end) break;
        done = step == 0 ? raw->n : done + (size_t)-step;
        st = hw_bytes_append(work, HW_UTF8_REPLACEMENT, 3, err);
    }
    if (st) return st;
    memmove(raw->data, raw->data + done, raw->n - done);
    raw->n -= done;
    return work->n ? take(d, i + 1, work->data, work->n, err) : HW_OK;
}

static hw_status byte_level(hw_decoding *d, size_t i, const char *text, size_t n, hw_error *err)
{
    if (!n) return HW_OK;
    hw_status st = append_bytes(&d->steps[i].held, text, n, err);
    return st ? st : pass_characters(d, i, false, err);
}

/* ---- Metaspace: marks are blanks, but the first token has none where encoding has put one in front */

static hw_status metaspace(hw_decoding *d, size_t i, const char *text, size_t n, hw_error *err)
{
    const hw_decoder_step *step = &d->decoder->steps[i];
    struct hw_decoding_step *state = &d->steps[i];
    bool first = step->fused || state->n_tokens == 0;
    hw_bytes blank = {.data = (char[]){" "}, .n = first && step->scheme != HW_PREPEND_NEVER ? 0 : 1};
    hw_pattern mark = {.literal = step->text.data, .n_literal = step->text.n};
    state->n_tokens++;
    state->work.n = 0;
    hw_status st = hw_replace_all(&state->work, &mark, NULL, text, n, &blank, err);
    return st ? st : take(d, i + 1, state->work.data, state->work.n, err);
}

/* ---- Strip: up to so many of a character at the start and at the end of each token, or of the whole text
 * once fused */

static bool begins_with(const char *text, size_t n, const hw_bytes *with)
{
    return n >= with->n && !memcmp(text, with->data, with->n);
}

static hw_status strip_token(hw_decoding *d, size_t i, const char *text, size_t n, hw_error *err)
{
    const hw_decoder_step *step = &d->decoder->steps[i];
    size_t length = step->text.n;
    for (int k = 0; k < step->strip_start && begins_with(text, n, &step->text); k++)
        text += length, n -= length;
    for (int k = 0;
         k < step->strip_stop && n >= length && begins_with(text + n - length, length, &step->text); k++)
        n -= length;
    return take(d, i + 1, text, n, err);
}

static hw_status put_trailing(hw_decoding *d, size_t i, size_t keep, hw_error *err)
{
    const hw_bytes *c = &d->decoder->steps[i].text;
    hw_status st = HW_OK;
    for (; d->steps[i].n_trailing > keep && !st; d->steps[i].n_trailing--)
        st = take(d, i + 1, c->data, c->n, err);
    return st;
}

static hw_status strip_fused(hw_decoding *d, size_t i, const char *text, size_t n, hw_error *err)
{
    const hw_decoder_step *step = &d->decoder->steps[i];
    struct hw_decoding_step *state = &d->steps[i];
    hw_status st = HW_OK;
    while (n && !state->started && state->n_stripped < (size_t)step->strip_start) {
        if (!begins_with(text, n, &step->text)) break;
        text += step->text.n;
        n -= step->text.n;
        state->n_stripped++;
    }
    if (n) state->started = true;
    size_t end = n;
    while (step->strip_stop && end >= step->text.n &&
           begins_with(text + end - step->text.n, step->text.n, &step->text))
        end -= step->text.n;
    if (end) {
        st = put_trailing(d, i, 0, err);
        if (!st) st = take(d, i + 1, text, end, err);
    }
    state->n_trailing += (n - end) / step->text.n;
    return st ? st : put_trailing(d, i, (size_t)step->strip_stop, err);
}

/* ---- the chain */

static hw_status join(hw_decoding *d, size_t i, const char *text, size_t n, hw_error *err)
{
    hw_status st = d->steps[i].n_tokens++ ? take(d, i + 1, " ", 1, err) : HW_OK;
    return st ? st : take(d, i + 1, text, n, err);
}

static hw_status replace(hw_decoding *d, size_t i, const char *text, size_t n, hw_error *err)
{
    const hw_decoder_step *step = &d->decoder->steps[i];
    hw_bytes *work = &d->steps[i].work;
    work->n = 0;
    hw_status st = hw_replace_all(work, &step->pattern, d->scratch, text, n, &step->text, err);
    return st ? st : take(d, i + 1, work->data, work->n, err);
}

/* A token, or behind Fuse a part of the text, before step i. */
static hw_status take(hw_decoding *d, size_t i, const char *text, size_t n, hw_error *err)
{
    if (i == d->decoder->n_steps) return hw_bytes_append(&d->out, text, n, err);
    switch (d->decoder->steps[i].kind) {
    case HW_DECODE_JOIN: return join(d, i, text, n, err);
    case HW_DECODE_REPLACE: return replace(d, i, text, n, err);
    case HW_DECODE_BYTE_FALLBACK: return byte_fallback(d, i, text, n, err);
    case HW_DECODE_FUSE: return take(d, i + 1, text, n, err);
    case HW_DECODE_METASPACE: return metaspace(d, i, text, n, err);
    case HW_DECODE_BYTE_LEVEL: return byte_level(d, i, text, n, err);
    case HW_DECODE_STRIP:
        return d->decoder->steps[i].fused ? strip_fused(d, i, text, n, err) : strip_token(d, i, text, n, err);
    }
    return HW_OK;
}

hw_status hw_decoding_token(hw_decoding *d, const char *text, size_t n, hw_error *err)
{
    return take(d, 0, text, n, err);
}

/* From the first step to the last: what an early step lets go may be held by a later one. Trailing
 * characters of Strip are dropped. */
hw_status hw_decoding_finish(hw_decoding *d, hw_error *err)
{
    hw_status st = HW_OK;
    for (size_t i = 0; i < d->decoder->n_steps && !st; i++) {
        if (d->decoder->steps[i].kind == HW_DECODE_BYTE_FALLBACK) st = end_byte_run(d, i, err);
        else if (d->decoder->steps[i].kind == HW_DECODE_BYTE_LEVEL) st = pass_characters(d, i, true, err);
    }
    return st;
}
