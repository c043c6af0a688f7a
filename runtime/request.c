#include "runtime/request_state.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"

const char *hw_finish_name(hw_finish f)
{
    static const char *const names[] = {"length", "eos", "stop", "cancelled", "failed"};
    return names[f];
}

static hw_status check_prefix(const hw_generate_options *o, hw_error *err)
{
    if (o->keep && !o->prompt_only)
        return hw_fail(err, HW_ERR_INVALID,
                       "a request that generates was to be kept: only a prompt alone can be");
    const hw_request *p = o->prefix;
    if (!p || (p->ended && p->seq)) return HW_OK;
    return hw_fail(err, HW_ERR_INVALID, "a prompt goes on from a request of %d tokens that %s", p->n_prompt,
                   p->ended ? "was not kept" : "has not ended");
}

/* `n_prompt` includes the n_prefix tokens of the prefix. */
static hw_status check(const hw_engine_info *info, const hw_tokenizer *t, int n_prompt, int n_prefix,
                       const hw_generate_options *o, hw_error *err)
{
    const int least_new = o->prompt_only || o->past_context ? 0 : 1;
    if (n_prompt <= n_prefix)
        return hw_fail(err, HW_ERR_INVALID,
                       "the prompt is empty: give at least one token (the tokenizer adds none by itself)");
    if (n_prompt > info->max_seq_len - least_new)
        return hw_fail(err, HW_ERR_INVALID,
                       "the prompt has %d tokens, the context holds %d%s; shorten the prompt or "
                       "raise --max-model-len",
                       n_prompt, info->max_seq_len, least_new ? " and at least one is to be generated" : "");
    if (o->max_new_tokens < 0)
        return hw_fail(err, HW_ERR_INVALID, "%d new tokens were asked for", o->max_new_tokens);
    if (o->n_stops && !t)
        return hw_fail(err, HW_ERR_INVALID, "stop strings need a tokenizer, and the model folder has none");
    return hw_sampling_check(&o->sampling, err);
}

static hw_status copy_eos(hw_request *r, hw_error *err)
{
    const size_t n = (size_t)r->options.n_eos;
    r->eos = calloc(n + 1, sizeof *r->eos);
    if (!r->eos) return hw_fail(err, HW_ERR_NO_MEMORY, "request: no memory for %zu tokens", n);
    if (n) memcpy(r->eos, r->options.eos, n * sizeof *r->eos);
    r->options.eos = r->eos;
    return HW_OK;
}

static hw_status copy_tokens(hw_request *r, const int32_t *tokens, int n, hw_error *err)
{
    hw_status st = HW_OK;
    for (int i = 0; i < n && !st; i++) st = hw_tokens_push(&r->tokens, tokens[i], err);
    return st;
}

hw_status hw_request_create(hw_request **out, const hw_engine *e, const hw_tokenizer *tokenizer,
                            const int32_t *prompt, int n_prompt, const hw_generate_options *options,
                            hw_error *err)
{
    const hw_engine_info info = hw_engine_info_get(e);
    *out = NULL;
    hw_status st = check_prefix(options, err);
    if (st) return st;
    const int n_prefix = options->prefix ? options->prefix->n_prompt : 0, n = n_prefix + n_prompt;
    if ((st = check(&info, tokenizer, n, n_prefix, options, err))) return st;
    const int room = info.max_seq_len + options->past_context - n, wanted = options->max_new_tokens;
    hw_request *r = calloc(1, sizeof *r);
    if (!r) return hw_fail(err, HW_ERR_NO_MEMORY, "request: no memory");
    r->options = *options;
    r->options.stops = NULL;
    r->n_prompt = r->result.n_prompt = n;
    r->n_scored = n_prefix;
    r->most_new = options->prompt_only ? 0 : wanted && wanted < room ? wanted : room;
    r->tokenizer = tokenizer;
    st = copy_eos(r, err);
    if (!st && n_prefix) st = copy_tokens(r, options->prefix->tokens.ids, n_prefix, err);
    if (!st) st = copy_tokens(r, prompt, n_prompt, err);
    if (!st) st = hw_stop_create(&r->stop, options->stops, options->n_stops, err);
    if (!st && tokenizer) st = hw_text_stream_create(&r->stream, tokenizer, true, err);
    if (st) hw_request_destroy(r);
    else *out = r;
    return st;
}

void hw_request_destroy(hw_request *r)
{
    if (!r) return;
    hw_sequence_destroy(r->seq);
    hw_text_stream_destroy(r->stream);
    hw_stop_destroy(r->stop);
    hw_tokens_free(&r->tokens);
    hw_tokens_free(&r->result.tokens);
    free(r->eos);
    free(r);
}

const hw_generate_result *hw_request_result(const hw_request *r) { return &r->result; }

hw_status hw_request_status(const hw_request *r, hw_error *err)
{
    if (r->status && err) *err = r->error;
    return r->status;
}

void hw_request_cancel(hw_request *r) { r->cancelled = true; }

/* Any request may continue a kept sequence, so it has room for the whole context. A token past the context is never run. */
hw_status hw_request_open(hw_request *r, hw_engine *e, hw_error *err)
{
    const hw_engine_info info = hw_engine_info_get(e);
    const int context = info.max_seq_len, most = r->n_prompt + r->most_new;
    if (!r->options.prefix)
        return hw_sequence_create(&r->seq, e, r->options.keep || most > context ? context : most, err);
    hw_status st = hw_sequence_fork(&r->seq, r->options.prefix->seq, err);
    if (!st && info.kv_policy != HW_KV_OFF) r->result.n_cached += hw_request_n_prefix(r);
    return st;
}

int hw_request_n_prefix(const hw_request *r) { return r->options.prefix ? r->options.prefix->n_prompt : 0; }

bool hw_request_is_scored(const hw_request *r) { return r->options.on_logits && r->n_scored < r->n_prompt; }

int hw_request_n_pending(const hw_request *r)
{
    return (int)r->tokens.n - (r->seq ? hw_sequence_n_tokens(r->seq) : 0);
}

/* ---- tokens and text */

static bool ends_text(const hw_request *r, int32_t token)
{
    for (int i = 0; i < r->options.n_eos && !r->options.ignore_eos; i++)
        if (token == r->options.eos[i]) return true;
    return false;
}

static hw_status let_through(hw_request *r, const char *bytes, size_t n, hw_text *text, hw_error *err)
{
    bool stopped = false;
    hw_status st = hw_stop_push(r->stop, bytes, n, &text->bytes, &text->n, &stopped, err);
    if (stopped) r->result.finish = HW_FINISH_STOP;
    return st;
}

hw_status hw_request_take(hw_request *r, int32_t token, hw_text *text, bool *done, hw_error *err)
{
    const char *bytes;
    size_t n;
    *text = (hw_text){"", 0};
    *done = true;
    if (!r->first_token_ns) {
        r->first_token_ns = hw_clock_ns();
        r->result.prefill_seconds = 1e-9 * (double)(r->first_token_ns - r->start_ns);
    }
    if (ends_text(r, token)) {
        r->result.finish = HW_FINISH_EOS;
        return HW_OK;
    }
    hw_status st = hw_tokens_push(&r->tokens, token, err);
    if (!st) st = hw_tokens_push(&r->result.tokens, token, err);
    /* An id that the tokenizer does not have (a model may have more ids than names) has no text. */
    const bool has_text = r->stream && hw_tokenizer_has_id(r->tokenizer, token);
    if (!st && has_text) st = hw_text_stream_push(r->stream, token, &bytes, &n, err);
    if (!st && has_text) st = let_through(r, bytes, n, text, err);
    *done = r->result.finish == HW_FINISH_STOP || (int)r->result.tokens.n == r->most_new;
    return st;
}

/* An incomplete character becomes U+FFFD, and the beginning of a stop string is normal text. */
hw_status hw_request_flush(hw_request *r, hw_text text[2], hw_error *err)
{
    const char *bytes;
    size_t n;
    text[0] = text[1] = (hw_text){"", 0};
    if (!r->stream || r->result.finish == HW_FINISH_STOP) return HW_OK;
    hw_status st = hw_text_stream_finish(r->stream, &bytes, &n, err);
    if (!st) st = let_through(r, bytes, n, &text[0], err);
    if (!st && r->result.finish != HW_FINISH_STOP) hw_stop_finish(r->stop, &text[1].bytes, &text[1].n);
    return st;
}

/* ---- the end */

static void count_cached(hw_request *r)
{
    if (r->seq) r->result.n_cached += hw_sequence_n_cached(r->seq);
}

static void give_back(hw_request *r)
{
    hw_sequence_destroy(r->seq);
    r->seq = NULL;
}

void hw_request_preempt(hw_request *r)
{
    count_cached(r);
    give_back(r);
    r->result.n_preemptions++;
}

void hw_request_end(hw_request *r, hw_engine *e, hw_status status, const hw_error *why)
{
    r->result.kv = hw_engine_kv_usage(e);
    if (r->first_token_ns) r->result.decode_seconds = hw_seconds_since(r->first_token_ns);
    count_cached(r);
    if (status || !r->options.keep) give_back(r);
    r->ended = true;
    r->status = status;
    if (!status) return;
    if (why && why != &r->error) r->error = *why;
    r->result.finish = status == HW_ERR_CANCELLED ? HW_FINISH_CANCELLED : HW_FINISH_FAILED;
}
