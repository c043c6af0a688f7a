#include "runtime/scheduler.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/watch.h"
#include "runtime/base/clock.h"
#include "runtime/batch.h"
#include "runtime/device/device_loop.h"
#include "runtime/engine_state.h"
#include "runtime/request_state.h"
#include "runtime/sampler.h"

/* Requests in an order. */
typedef struct queue {
    hw_request **at; /* [n] */
    int n, capacity;
} queue;

struct hw_scheduler {
    hw_engine *e;
    const hw_tokenizer *tokenizer;
    int n_valid; /* ids from here on pad the vocabulary */
    queue waiting, running /* the oldest first */, ended;
    hw_batch *batch;
    hw_device_loop *loop;      /* NULL: the host reads every token before the next step */
    int n_looped, n_loop_left; /* sequences in the running device loop, 0: none runs; its remaining steps */
    /* Of the rows of a step from which a token is chosen, and of those in a device loop, [max_seqs] each. */
    hw_request **askers;
    int *rows;
    hw_sampling *settings;
    uint64_t *keys;
    int32_t *tokens;
    hw_sequence **sequences;
    int n_asked;
    float *logits;     /* [max_logit_rows, vocab_size], once a request wants them */
    hw_status written; /* status of on_text on this rank; reported once all ranks know of it */
    hw_error written_error;
};

/* ---- queues: submit allocates entries in all of them, so that moving a request never fails */

static void put(queue *q, hw_request *r, int at)
{
    memmove(q->at + at + 1, q->at + at, (size_t)(q->n - at) * sizeof(hw_request *));
    q->at[at] = r;
    q->n++;
}

static hw_request *take_out(queue *q, int at)
{
    hw_request *r = q->at[at];
    q->n--;
    memmove(q->at + at, q->at + at + 1, (size_t)(q->n - at) * sizeof(hw_request *));
    return r;
}

static void free_queue(queue *q)
{
    for (int i = 0; i < q->n; i++) hw_request_destroy(q->at[i]);
    free(q->at);
}

/* ---- creation */

hw_status hw_scheduler_create(hw_scheduler **out, hw_engine *e, const hw_scheduler_options *options,
                              hw_error *err)
{
    const size_t n = (size_t)e->options.max_seqs;
    *out = NULL;
    hw_scheduler *s = calloc(1, sizeof *s);
    if (!s) return hw_fail(err, HW_ERR_NO_MEMORY, "scheduler: no memory");
    s->e = e;
    s->tokenizer = options->tokenizer;
    s->n_valid = s->tokenizer ? (int)hw_tokenizer_n_ids(s->tokenizer) : 0;
    s->askers = calloc(n, sizeof(hw_request *));
    s->rows = calloc(n, sizeof *s->rows);
    s->settings = calloc(n, sizeof *s->settings);
    s->keys = calloc(n, sizeof *s->keys);
    s->tokens = calloc(n, sizeof *s->tokens);
    s->sequences = calloc(n, sizeof(hw_sequence *));
    hw_status st = s->askers && s->rows && s->settings && s->keys && s->tokens && s->sequences
                       ? HW_OK
                       : hw_fail(err, HW_ERR_NO_MEMORY, "scheduler: no memory for %zu sequences", n);
    if (!st) st = hw_batch_create(&s->batch, e, err);
    if (!st && !options->no_device_loop && hw_device_loop_possible(e, NULL, 0))
        st = hw_device_loop_create(&s->loop, e, err);
    if (st) hw_scheduler_destroy(s);
    else *out = s;
    return st;
}

void hw_scheduler_destroy(hw_scheduler *s)
{
    if (!s) return;
    hw_device_loop_destroy(s->loop);
    hw_batch_destroy(s->batch);
    free_queue(&s->waiting);
    free_queue(&s->running);
    free_queue(&s->ended);
    free(s->askers);
    free(s->rows);
    free(s->settings);
    free(s->keys);
    free(s->tokens);
    free(s->sequences);
    free(s->logits);
    free(s);
}

int hw_scheduler_n_running(const hw_scheduler *s) { return s->running.n; }
int hw_scheduler_n_waiting(const hw_scheduler *s) { return s->waiting.n; }

static hw_status make_places(hw_scheduler *s, hw_error *err)
{
    queue *const all[] = {&s->waiting, &s->running, &s->ended};
    const int n = s->waiting.n + s->running.n + s->ended.n + 1;
    for (int i = 0; i < 3; i++) {
        if (all[i]->capacity >= n) continue;
        hw_request **more = realloc(all[i]->at, (size_t)(2 * n) * sizeof(hw_request *));
        if (!more) return hw_fail(err, HW_ERR_NO_MEMORY, "scheduler: no memory for %d requests", n);
        all[i]->at = more;
        all[i]->capacity = 2 * n;
    }
    return HW_OK;
}

static hw_status make_logits(hw_scheduler *s, hw_error *err)
{
    const size_t n = (size_t)s->e->options.max_logit_rows * (size_t)s->e->model.vocab_size;
    if (!s->logits && !(s->logits = malloc(n * sizeof *s->logits)))
        return hw_fail(err, HW_ERR_NO_MEMORY, "scheduler: no memory for %d rows of logits",
                       s->e->options.max_logit_rows);
    return HW_OK;
}

hw_status hw_scheduler_submit(hw_scheduler *s, hw_request **out, const int32_t *prompt, int n_prompt,
                              const hw_generate_options *options, hw_error *err)
{
    hw_request *r = NULL, *unused;
    if (!out) out = &unused;
    *out = NULL;
    hw_status st = hw_request_create(&r, s->e, s->tokenizer, prompt, n_prompt, options, err);
    if (!st) st = make_places(s, err);
    if (!st && options->on_logits) st = make_logits(s, err);
    if (st) {
        hw_request_destroy(r);
        return st;
    }
    put(&s->waiting, r, s->waiting.n);
    *out = r;
    return HW_OK;
}

/* ---- text, and ends */

/* A rank that cannot write continues until the next exchange, in which it cancels the others. */
static void give(hw_scheduler *s, const hw_request *r, hw_text text)
{
    if (!text.n || !r->options.on_text || s->written) return;
    /* The reader of the text may take any time. */
    hw_watch *const w = hw_comm_watch(s->e->world);
    const hw_watch_phase before = hw_watch_enter(w, HW_WATCH_IDLE);
    s->written = r->options.on_text(r->options.user, text.bytes, text.n, &s->written_error);
    hw_watch_enter(w, before);
    if (s->written) hw_engine_cancel(s->e);
}

/* The request has already been removed from its queue. */
static void end(hw_scheduler *s, hw_request *r, hw_status status, const hw_error *why)
{
    hw_text text[2] = {{"", 0}, {"", 0}};
    hw_error err;
    if (!status && (status = hw_request_flush(r, text, &err))) why = &err;
    hw_request_end(r, s->e, status, why);
    for (int i = 0; i < 2; i++) give(s, r, text[i]);
    put(&s->ended, r, s->ended.n);
}

static void end_running(hw_scheduler *s, const hw_request *r, hw_status status, const hw_error *why)
{
    for (int i = 0; i < s->running.n; i++)
        if (s->running.at[i] == r) {
            end(s, take_out(&s->running, i), status, why);
            return;
        }
}

static void end_cancelled(hw_scheduler *s, queue *q)
{
    hw_error why;
    hw_fail(&why, HW_ERR_CANCELLED, "cancelled");
    for (int i = q->n - 1; i >= 0; i--)
        if (q->at[i]->cancelled) end(s, take_out(q, i), HW_ERR_CANCELLED, &why);
}

/* Passes a new token to its request, which may end. */
static hw_status take(hw_scheduler *s, hw_request *r, int32_t token, bool *done, hw_error *err)
{
    hw_text text;
    hw_status st = hw_request_take(r, token, &text, done, err);
    if (!st) give(s, r, text);
    return st;
}

/* An error that looked like that of one request concerns the run. */
static hw_status pass_on(hw_status st, const hw_error *why, hw_error *err)
{
    if (err) *err = *why;
    return st;
}

/* ---- admission */

/* Whether fewer than max_seqs requests run, and the cache has room for the request, one more token and, with small
 * blocks, one more block. Shared blocks of a prefix need no room. A request that runs alone may always try. */
static bool has_room(const hw_scheduler *s, const hw_request *r)
{
    if (s->running.n == s->e->options.max_seqs) return false;
    if (!s->running.n) return true;
    const hw_kv_usage u = hw_engine_kv_usage(s->e);
    const int reserve = u.policy == HW_KV_PAGED || u.policy == HW_KV_OFF, n = (int)r->tokens.n;
    const int most = n < s->e->options.max_seq_len ? n + 1 : n;
    const int shared = u.policy == HW_KV_PAGED ? hw_request_n_prefix(r) / u.block_tokens : 0;
    return (most - 1) / u.block_tokens + 1 - shared + reserve <= u.n_free + u.n_cached;
}

/* Admits the request that has waited longest, if possible. */
static hw_status admit_next(hw_scheduler *s, bool *admitted, hw_error *err)
{
    hw_request *const r = s->waiting.n ? s->waiting.at[0] : NULL;
    *admitted = false;
    if (!r || !has_room(s, r)) return HW_OK;
    hw_error why;
    hw_status st = hw_request_open(r, s->e, &why);
    if (st == HW_ERR_CACHE_FULL && s->running.n) return HW_OK;
    if (st && st != HW_ERR_CACHE_FULL) return pass_on(st, &why, err);
    take_out(&s->waiting, 0);
    *admitted = true;
    if (st) end(s, r, st, &why);
    else put(&s->running, r, s->running.n);
    return HW_OK;
}

/* ---- a step */

/* Whether its next row is a decode row: one token after those in the cache, from which the next is chosen. */
static bool decodes(const hw_request *r)
{
    return r->most_new && hw_request_n_pending(r) == 1 && hw_sequence_n_tokens(r->seq) &&
           !hw_request_is_scored(r);
}

/* Rows of the next step of a sequence: without a cache all its tokens run again. */
static int n_rows_before(const hw_scheduler *s, const hw_request *r)
{
    return s->e->options.kv_policy == HW_KV_OFF ? hw_sequence_n_tokens(r->seq) : 0;
}

/* How many tokens of the request fit into the current step. */
static int n_that_fit(const hw_scheduler *s, const hw_request *r)
{
    const hw_engine_options *o = &s->e->options;
    int n = hw_request_n_pending(r);
    const int room = o->max_batch_rows - hw_batch_n_rows(s->batch) - n_rows_before(s, r);
    const int chunk = r->options.prefill_chunk;
    /* Each of the other requests may need logits too. */
    const int logits = o->max_logit_rows - hw_batch_n_logits(s->batch) - (s->running.n - 1);
    if (n > room) n = room;
    if (chunk > 0 && n > chunk) n = chunk;
    if (r->options.on_logits && n > logits) n = logits > 1 ? logits : 1;
    return n;
}

static hw_logits_wanted wanted_of(const hw_request *r, int n)
{
    if (hw_request_is_scored(r)) return HW_LOGITS_ALL;
    return n == hw_request_n_pending(r) && r->most_new ? HW_LOGITS_LAST : HW_LOGITS_NONE;
}

/* The newest request without rows in the step. */
static int find_victim(const hw_scheduler *s)
{
    int i = s->running.n - 1;
    while (s->running.at[i]->in_step) i--;
    return i;
}

/* Preempts the newest request without rows in the step to make room for r, which has no rows either; that may be r itself.
 * False if r was preempted. */
static bool make_room(hw_scheduler *s, const hw_request *r, const hw_error *why)
{
    const int i = find_victim(s);
    hw_request *const victim = s->running.at[i];
    take_out(&s->running, i);
    if (victim == r && !s->running.n) end(s, victim, HW_ERR_CACHE_FULL, why);
    else {
        hw_request_preempt(victim);
        put(&s->waiting, victim, 0);
    }
    return victim != r;
}

static hw_status add(hw_scheduler *s, hw_request *r, hw_error *err)
{
    const int n = n_that_fit(s, r), first = hw_sequence_n_tokens(r->seq);
    if (n < 1) return HW_OK;
    hw_error why;
    hw_status st;
    r->first_logits = hw_batch_n_logits(s->batch);
    do st = hw_batch_add(s->batch, r->seq, r->tokens.ids + first, n, wanted_of(r, n), &why);
    while (st == HW_ERR_CACHE_FULL && make_room(s, r, &why));
    if (st == HW_ERR_CACHE_FULL) return HW_OK;
    if (st) return pass_on(st, &why, err);
    r->in_step = true;
    r->first_row = first;
    if (!r->start_ns) r->start_ns = hw_clock_ns();
    r->n_logits = hw_batch_n_logits(s->batch) - r->first_logits;
    return HW_OK;
}

static hw_status add_all(hw_scheduler *s, bool decoding, hw_error *err)
{
    hw_status st = HW_OK;
    for (int i = 0; i < s->running.n && !st; i++) {
        hw_request *const r = s->running.at[i];
        if (r->in_step || decodes(r) != decoding) continue;
        st = add(s, r, err);
        if (i == s->running.n || s->running.at[i] != r) i--; /* it was preempted */
    }
    return st;
}

static hw_status fill(hw_scheduler *s, hw_error *err)
{
    hw_batch_clear(s->batch);
    for (int i = 0; i < s->running.n; i++) s->running.at[i]->in_step = false;
    hw_status st = add_all(s, true, err);
    return st ? st : add_all(s, false, err);
}

static hw_status tell_logits(hw_scheduler *s, hw_request *r, hw_error *err)
{
    const size_t vocab = (size_t)s->e->model.vocab_size;
    hw_status st = HW_OK;
    for (int row = r->n_scored; row < r->first_row + r->n_logits && row < r->n_prompt && !st; row++) {
        const size_t at = (size_t)(r->first_logits + row - r->first_row);
        st = r->options.on_logits(r->options.user, row, s->logits + at * vocab, (int)vocab, err);
        r->n_scored = row + 1;
    }
    return st;
}

/* Passes requested logits of prompt rows on, before sampling, which may modify logits in place. */
static hw_status score(hw_scheduler *s, hw_error *err)
{
    bool wanted = false;
    for (int i = 0; i < s->running.n; i++) {
        const hw_request *r = s->running.at[i];
        wanted = wanted || (r->in_step && hw_request_is_scored(r));
    }
    if (!wanted) return HW_OK;
    hw_status st = hw_engine_logits(s->e, s->batch, s->logits, err), said = HW_OK;
    for (int i = 0; i < s->running.n && !st && !said; i++)
        if (s->running.at[i]->in_step && s->running.at[i]->options.on_logits)
            said = tell_logits(s, s->running.at[i], err);
    return st ? st : hw_comm_agree(s->e->world, said, err);
}

/* Chooses a token for every request of the step whose tokens have all been run. */
static hw_status choose(hw_scheduler *s, hw_step_report *report, hw_error *err)
{
    const uint64_t start = hw_clock_ns();
    hw_status st = HW_OK;
    for (int i = 0; i < s->running.n; i++) {
        hw_request *const r = s->running.at[i];
        if (!r->in_step || !r->most_new || hw_request_n_pending(r)) continue;
        s->askers[s->n_asked] = r;
        s->rows[s->n_asked] = r->first_logits + r->n_logits - 1;
        s->settings[s->n_asked++] = r->options.sampling;
    }
    if (s->n_asked)
        st = hw_sampler_choose(s->e, s->batch, s->rows, s->settings, s->n_asked, s->n_valid, s->keys, err);
    report->n_sampled = s->n_asked;
    report->sample_ns = hw_clock_ns() - start;
    return st;
}

/* Passes the tokens to their requests; a request whose row has no valid token fails. */
static hw_status hand_out(hw_scheduler *s, hw_error *err)
{
    hw_status st = HW_OK;
    for (int i = 0; i < s->n_asked && !st; i++) {
        bool done = false;
        hw_error why;
        const hw_status refused = hw_sampler_check_key(s->keys[i], &why);
        if (refused == HW_ERR_CANCELLED) return pass_on(refused, &why, err);
        if (!refused) st = take(s, s->askers[i], hw_key_token(s->keys[i]), &done, err);
        if (!st && (refused || done)) end_running(s, s->askers[i], refused, &why);
    }
    return st;
}

static void end_read(hw_scheduler *s)
{
    for (int i = s->running.n - 1; i >= 0; i--)
        if (!s->running.at[i]->most_new && !hw_request_n_pending(s->running.at[i]))
            end(s, take_out(&s->running, i), HW_OK, NULL);
}

static void count_steps(hw_scheduler *s)
{
    for (int i = 0; i < s->running.n; i++) {
        hw_request *const r = s->running.at[i];
        r->result.n_steps += r->in_step && r->result.tokens.n;
    }
}

static int longest_of(const hw_batch *b)
{
    int longest = 0;
    for (int i = 0; i < b->n_seqs; i++)
        if (b->sequences[i]->n_tokens > longest) longest = b->sequences[i]->n_tokens;
    return longest;
}

static hw_status run_step(hw_scheduler *s, hw_step_report *report, hw_error *err)
{
    hw_status st = fill(s, err);
    if (st || !hw_batch_n_rows(s->batch)) return st;
    *report = (hw_step_report){.n_rows = s->batch->n_rows,
                               .n_prefill_rows = s->batch->n_prefill_rows,
                               .longest = longest_of(s->batch)};
    count_steps(s);
    s->n_asked = 0;
    st = hw_engine_step(s->e, s->batch, err);
    if (!st) st = score(s, err);
    if (!st) st = choose(s, report, err);
    if (!st) st = hand_out(s, err);
    if (!st) end_read(s);
    return st;
}

/* ---- the device loop */

/* Whether every running request has exactly one token to run, and sampling needs only one exchange of keys. */
static bool can_loop(const hw_scheduler *s)
{
    bool can = s->loop && s->running.n;
    for (int i = 0; i < s->running.n && can; i++)
        can = decodes(s->running.at[i]) && hw_sampling_is_plain(&s->running.at[i]->options.sampling);
    return can;
}

/* Begins a device loop for as many steps as no request ends by its length. It does not begin without room for the first. */
static hw_status begin_loop(hw_scheduler *s, hw_error *err)
{
    const int n = s->running.n;
    int least = INT_MAX;
    for (int i = 0; i < n; i++) {
        const hw_request *r = s->running.at[i];
        const int left = r->most_new - (int)r->result.tokens.n;
        if (left < least) least = left;
        s->sequences[i] = r->seq;
        s->tokens[i] = r->tokens.ids[r->tokens.n - 1];
        s->settings[i] = r->options.sampling;
    }
    const uint64_t now = hw_clock_ns();
    for (int i = 0; i < n; i++)
        if (!s->running.at[i]->start_ns)
            s->running.at[i]->start_ns = now; /* with a cached prefix this may be its first step */
    hw_status st =
        hw_device_loop_begin(s->loop, s->sequences, s->tokens, s->settings, n, s->n_valid, least, err);
    if (!st) s->n_looped = n, s->n_loop_left = least;
    return st == HW_ERR_CACHE_FULL ? HW_OK : st;
}

static hw_status end_loop(hw_scheduler *s, hw_error *err)
{
    int n_discarded = 0;
    hw_status st = s->n_looped ? hw_device_loop_end(s->loop, &n_discarded, err) : HW_OK;
    for (int i = 0; i < s->n_looped; i++) s->running.at[i]->result.n_discarded_steps += n_discarded;
    s->n_looped = 0;
    return st;
}

/* Ends the device loop after an error or when a request is done; then these requests end. */
static hw_status settle_fed(hw_scheduler *s, hw_status st, hw_error *err)
{
    hw_error unused;
    bool over = st != HW_OK || !s->n_loop_left;
    for (int i = 0; i < s->n_asked; i++) over = over || s->askers[i];
    if (!over) return HW_OK;
    const hw_status ended = end_loop(s, st ? &unused : err);
    if (!st) st = ended;
    for (int i = 0; i < s->n_asked && !st; i++)
        if (s->askers[i]) end_running(s, s->askers[i], s->askers[i]->status, &s->askers[i]->error);
    return st;
}

/* Passes the tokens of the completed step to the requests. s->askers gets the requests that end, with their errors. */
static hw_status hand_out_fed(hw_scheduler *s, hw_status refused, const hw_error *why, hw_error *err)
{
    hw_status st = HW_OK;
    s->n_asked = s->n_looped;
    for (int i = 0; i < s->n_looped && !st; i++) {
        hw_request *const r = s->running.at[i];
        bool done = false;
        if (s->tokens[i] == HW_TOKEN_UNKNOWN) r->status = refused, r->error = *why, done = true;
        else st = take(s, r, s->tokens[i], &done, err);
        s->askers[i] = done ? r : NULL;
    }
    return st;
}

/* *ran is false when the cache had no room for the step; then the device loop has ended. */
static hw_status fed_step(hw_scheduler *s, hw_step_report *report, bool *ran, hw_error *err)
{
    *report = (hw_step_report){.n_rows = s->n_looped, .n_sampled = s->n_looped};
    s->n_asked = 0;
    for (int i = 0; i < s->n_looped; i++) {
        hw_request *const r = s->running.at[i];
        r->in_step = true;
        if ((int)r->tokens.n > report->longest) report->longest = (int)r->tokens.n;
    }
    hw_error why;
    hw_status st = hw_device_loop_next(s->loop, s->tokens, &why);
    *ran = st != HW_ERR_CACHE_FULL;
    if (!*ran) return end_loop(s, err);
    s->n_loop_left--;
    count_steps(s);
    if (!st || st == HW_ERR_FAILED) st = hand_out_fed(s, st, &why, err);
    else pass_on(st, &why, err);
    return settle_fed(s, st, err);
}

/* ---- steps */

static bool any_cancelled(const queue *q)
{
    bool any = false;
    for (int i = 0; i < q->n; i++) any = any || q->at[i]->cancelled;
    return any;
}

/* Decides which requests run in the next step. A device loop continues as long as they stay the same. */
static hw_status settle_members(hw_scheduler *s, hw_error *err)
{
    const bool cancelled = any_cancelled(&s->waiting) || any_cancelled(&s->running);
    bool admitted = s->waiting.n && has_room(s, s->waiting.at[0]);
    hw_status st = cancelled || admitted ? end_loop(s, err) : HW_OK;
    if (st) return st;
    end_cancelled(s, &s->running);
    end_cancelled(s, &s->waiting);
    do st = admit_next(s, &admitted, err);
    while (admitted && !st);
    return st;
}

static hw_status next_step(hw_scheduler *s, hw_step_report *report, hw_error *err)
{
    bool ran = false;
    hw_status st = settle_members(s, err);
    if (!st && !s->n_looped && can_loop(s)) st = begin_loop(s, err);
    if (!st && s->n_looped) st = fed_step(s, report, &ran, err);
    return st || ran ? st : run_step(s, report, err);
}

hw_status hw_scheduler_step(hw_scheduler *s, hw_step_report *report, hw_error *err)
{
    bool decoding = true;
    *report = (hw_step_report){.n_rows = 0};
    for (int i = 0; i < s->running.n; i++) decoding = decoding && decodes(s->running.at[i]);
    hw_watch *const w = hw_comm_watch(s->e->world);
    const hw_watch_phase before =
        hw_watch_enter(w, decoding && !s->waiting.n ? HW_WATCH_DECODE : HW_WATCH_PREFILL);
    hw_status st = next_step(s, report, err);
    hw_watch_enter(w, before);
    /* The rank that could not write returns that error once the others have stopped too. */
    if (s->written && (st == HW_ERR_CANCELLED || (!st && !s->running.n && !s->waiting.n)))
        st = pass_on(s->written, &s->written_error, err);
    return st;
}

hw_status hw_scheduler_admit(hw_scheduler *s, hw_error *err) { return settle_members(s, err); }

hw_request *hw_scheduler_ended(hw_scheduler *s) { return s->ended.n ? take_out(&s->ended, 0) : NULL; }

hw_status hw_scheduler_poll(hw_scheduler *s, hw_request **ended, hw_error *err)
{
    hw_status st = HW_OK;
    hw_step_report unused;
    while (!s->ended.n && (s->running.n || s->waiting.n) && !st) st = hw_scheduler_step(s, &unused, err);
    *ended = st ? NULL : hw_scheduler_ended(s);
    return st;
}
