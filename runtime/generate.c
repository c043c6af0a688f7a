#include "runtime/generate.h"

#include <stdlib.h>

#include "parallel/watch.h"
#include "runtime/base/clock.h"
#include "runtime/feed.h"
#include "runtime/stop.h"

/* What one generation holds on to. */
typedef struct state {
    hw_engine *e;
    const hw_generate_options *o;
    hw_generate_result *result;
    hw_sequence *seq;
    hw_batch *batch;
    hw_feed *feed;                 /* NULL: every token comes to the host before the next step */
    const hw_tokenizer *tokenizer; /* NULL: no text */
    hw_text_stream *stream;        /* NULL without a tokenizer */
    hw_stop *stop;
    int n_valid;       /* ids from here on have no token: they pad the vocabulary */
    hw_status written; /* what on_text said; reported when the ranks have heard of it */
    hw_error written_error;
    hw_error *err;
} state;

/* A rank that cannot write goes on as if nothing had happened until the next exchange, where it tells the
 * others. */
static void give(state *s, const char *text, size_t n)
{
    if (!n || !s->o->on_text || s->written) return;
    /* Who reads the text may take any time. */
    hw_watch *const w = hw_comm_watch(hw_engine_comm(s->e));
    const hw_watch_phase before = hw_watch_enter(w, HW_WATCH_IDLE);
    s->written = s->o->on_text(s->o->user, text, n, &s->written_error);
    hw_watch_enter(w, before);
    if (s->written) hw_engine_cancel(s->e);
}

static hw_status pass_text(state *s, const char *text, size_t n, bool *stopped)
{
    const char *certain;
    size_t n_certain;
    hw_status st = hw_stop_push(s->stop, text, n, &certain, &n_certain, stopped, s->err);
    if (!st) give(s, certain, n_certain);
    return st;
}

static hw_status take_token(state *s, int32_t token, bool *done)
{
    const char *text;
    size_t n;
    bool stopped = false;
    for (int i = 0; i < s->o->n_eos && !s->o->ignore_eos; i++)
        if (token == s->o->eos[i]) {
            s->result->finish = HW_FINISH_EOS;
            *done = true;
            return HW_OK;
        }
    hw_status st = hw_tokens_push(&s->result->tokens, token, s->err);
    /* An id that the tokenizer skips (a model may be trained with more ids than have names) has no text. */
    bool has_text = s->stream && hw_tokenizer_has_id(s->tokenizer, token);
    if (!st && has_text) st = hw_text_stream_push(s->stream, token, &text, &n, s->err);
    if (!st && has_text) st = pass_text(s, text, n, &stopped);
    if (stopped) {
        s->result->finish = HW_FINISH_STOP;
        *done = true;
    }
    return st;
}

/* The end of the text: half a character becomes U+FFFD, and what looked like a stop string was none. */
static hw_status flush_text(state *s)
{
    const char *text;
    size_t n;
    bool stopped = false;
    if (!s->stream || s->result->finish == HW_FINISH_STOP) return HW_OK;
    hw_status st = hw_text_stream_finish(s->stream, &text, &n, s->err);
    if (!st) st = pass_text(s, text, n, &stopped);
    if (stopped) s->result->finish = HW_FINISH_STOP;
    if (st || stopped) return st;
    hw_stop_finish(s->stop, &text, &n);
    give(s, text, n);
    return HW_OK;
}

static hw_status run(state *s, const int32_t *tokens, int n, hw_logits_wanted wanted)
{
    hw_batch_clear(s->batch);
    hw_status st = hw_batch_add(s->batch, s->seq, tokens, n, wanted, s->err);
    return st ? st : hw_engine_step(s->e, s->batch, s->err);
}

static hw_status prefill(state *s, const int32_t *prompt, int n_prompt, int32_t *first)
{
    hw_status st = HW_OK;
    int most = hw_engine_info_get(s->e).max_batch_rows;
    int chunk = s->o->prefill_chunk > 0 && s->o->prefill_chunk < most ? s->o->prefill_chunk : most;
    for (int i = 0; i < n_prompt && !st; i += chunk) {
        int n = n_prompt - i < chunk ? n_prompt - i : chunk;
        st = run(s, prompt + i, n, i + n == n_prompt ? HW_LOGITS_LAST : HW_LOGITS_NONE);
    }
    return st ? st : hw_engine_sample(s->e, &s->o->sampling, s->n_valid, first, s->err);
}

static hw_status decode(state *s, int32_t token, int n_steps)
{
    hw_status st = HW_OK;
    bool done = false;
    for (int i = 0; i < n_steps && !done && !st; i++) {
        st = run(s, &token, 1, HW_LOGITS_LAST);
        if (!st) st = hw_engine_sample(s->e, &s->o->sampling, s->n_valid, &token, s->err);
        if (!st) st = take_token(s, token, &done);
        s->result->n_steps++;
    }
    return st;
}

static hw_status decode_fed(state *s, int32_t token, int n_steps)
{
    hw_error unused;
    bool done = false;
    hw_status st = hw_feed_begin(s->feed, &s->seq, &token, &s->o->sampling, 1, s->n_valid, n_steps, s->err);
    for (int i = 0; i < n_steps && !done && !st; i++) {
        st = hw_feed_next(s->feed, &token, s->err);
        if (!st) st = take_token(s, token, &done);
        s->result->n_steps++;
    }
    const hw_status ended = hw_feed_end(s->feed, &s->result->n_vain_steps, st ? &unused : s->err);
    return st ? st : ended;
}

static hw_status loop(state *s, const int32_t *prompt, int n_prompt, int max_new)
{
    int32_t token;
    bool done = false;
    uint64_t start = hw_clock_ns();
    hw_watch *const w = hw_comm_watch(hw_engine_comm(s->e));
    const hw_watch_phase before = hw_watch_enter(w, HW_WATCH_PREFILL);
    hw_status st = prefill(s, prompt, n_prompt, &token);
    hw_watch_enter(w, HW_WATCH_DECODE);
    s->result->prefill_seconds = hw_seconds_since(start);
    start = hw_clock_ns();
    s->result->finish = HW_FINISH_LENGTH;
    if (!st) st = take_token(s, token, &done);
    if (!st && !done) st = s->feed ? decode_fed(s, token, max_new - 1) : decode(s, token, max_new - 1);
    s->result->decode_seconds = hw_seconds_since(start);
    if (!st) st = flush_text(s);
    hw_watch_enter(w, before);
    return st;
}

static hw_status check(const hw_engine_info *info, const hw_tokenizer *t, int n_prompt,
                       const hw_generate_options *o, hw_error *err)
{
    if (n_prompt < 1)
        return hw_fail(err, HW_ERR_INVALID,
                       "the prompt is empty: give at least one token (the tokenizer adds none by itself)");
    if (n_prompt >= info->max_seq_len)
        return hw_fail(err, HW_ERR_INVALID,
                       "the prompt has %d tokens, the context holds %d and at least one is to be generated; "
                       "shorten the prompt or "
                       "raise --max-model-len",
                       n_prompt, info->max_seq_len);
    if (o->max_new_tokens < 0)
        return hw_fail(err, HW_ERR_INVALID, "%d new tokens were asked for", o->max_new_tokens);
    if (o->n_stops && !t)
        return hw_fail(err, HW_ERR_INVALID, "stop strings need a tokenizer, and the model folder has none");
    return hw_sampling_check(&o->sampling, err);
}

hw_status hw_generate(hw_engine *e, const hw_tokenizer *tokenizer, const int32_t *prompt, int n_prompt,
                      const hw_generate_options *options, hw_generate_result *result, hw_error *err)
{
    hw_engine_info info = hw_engine_info_get(e);
    state s = {.e = e, .o = options, .result = result, .err = err};
    *result = (hw_generate_result){.n_prompt = n_prompt};
    hw_status st = check(&info, tokenizer, n_prompt, options, err);
    int room = info.max_seq_len - n_prompt;
    int max_new = options->max_new_tokens && options->max_new_tokens < room ? options->max_new_tokens : room;
    s.tokenizer = tokenizer;
    s.n_valid = tokenizer ? (int)hw_tokenizer_n_ids(tokenizer) : 0;
    if (!st) st = hw_stop_create(&s.stop, options->stops, options->n_stops, err);
    if (!st && tokenizer) st = hw_text_stream_create(&s.stream, tokenizer, true, err);
    if (!st) st = hw_sequence_create(&s.seq, e, 0, err);
    if (!st) st = hw_batch_create(&s.batch, e, err);
    if (!st && hw_feed_possible(e, &options->sampling, 1)) st = hw_feed_create(&s.feed, e, err);
    /* Until here a rank can fail alone. From the first step on an error that is not on all ranks ends the
     * job. */
    st = hw_comm_agree(hw_engine_comm(e), st, err);
    if (!st) st = loop(&s, prompt, n_prompt, max_new);
    if (s.written) {
        st = s.written;
        if (err) *err = s.written_error;
    }
    result->kv = hw_engine_kv_usage(e);
    result->n_cached = s.seq ? hw_sequence_n_cached(s.seq) : 0;
    hw_feed_destroy(s.feed);
    hw_batch_destroy(s.batch);
    hw_sequence_destroy(s.seq);
    hw_text_stream_destroy(s.stream);
    hw_stop_destroy(s.stop);
    return st;
}
