#include "runtime/device/device_loop.h"

#include <stdlib.h>
#include <string.h>

#include "parallel/watch.h"
#include "runtime/device/decode_graph.h"
#include "runtime/forward.h"
#include "runtime/sampler.h"

struct hw_device_loop {
    hw_engine *e;
    hw_batch *batch;
    uint64_t n_steps, n_begun, n_taken;     /* at most, so far */
    int *first_positions;                   /* [L] of each row's first step */
    hw_draw *draws;                         /* [L] */
    uint64_t *keys;                         /* [L] to begin with */
    hw_event *events[HW_DEVICE_LOOP_AHEAD]; /* behind each step under way */
    int first_changed, end_changed;         /* sequences whose block tables the last step changed */
    hw_status late; /* why no further step could be begun, once those under way are taken */
    hw_error late_error;
};

bool hw_device_loop_possible(const hw_engine *e, const hw_sampling *settings, int n)
{
    bool plain = e->has_device_loop;
    for (int i = 0; i < n; i++) plain = plain && hw_sampling_is_plain(&settings[i]);
    return plain;
}

hw_status hw_device_loop_create(hw_device_loop **out, hw_engine *e, hw_error *err)
{
    const size_t n = (size_t)e->options.max_logit_rows;
    *out = NULL;
    hw_device_loop *f = calloc(1, sizeof *f);
    if (!f) return hw_fail(err, HW_ERR_NO_MEMORY, "device loop: no memory");
    f->e = e;
    f->first_positions = calloc(n, sizeof *f->first_positions);
    f->draws = calloc(n, sizeof *f->draws);
    f->keys = calloc(n, sizeof *f->keys);
    hw_status st = f->first_positions && f->draws && f->keys
                       ? hw_batch_create(&f->batch, e, err)
                       : hw_fail(err, HW_ERR_NO_MEMORY, "device loop: no memory for %zu rows", n);
    if (st) hw_device_loop_destroy(f);
    else *out = f;
    return st;
}

void hw_device_loop_destroy(hw_device_loop *f)
{
    if (!f) return;
    hw_batch_destroy(f->batch);
    free(f->first_positions);
    free(f->draws);
    free(f->keys);
    free(f);
}

/* ---- rows: row i is the newest token of sequence i */

static hw_status make_room(hw_batch *b, int i, hw_error *err)
{
    hw_engine *e = b->engine;
    hw_sequence *s = b->sequences[i];
    if (s->n_tokens == s->max_tokens)
        return hw_fail(err, HW_ERR_INVALID,
                       "a token more is longer than the context: the sequence holds %d of at most %d",
                       s->n_tokens, s->max_tokens);
    hw_status st = hw_kv_extend(e->kv, &s->table, s->tokens, s->n_tokens, s->n_tokens + 1, err);
    if (!st) s->n_tokens++;
    return st;
}

static void cut_to(hw_sequence *s, int n_tokens)
{
    if (s->n_tokens == n_tokens) return;
    s->n_tokens = n_tokens;
    hw_kv_shrink(s->engine->kv, &s->table, n_tokens);
}

static void set_row(hw_device_loop *f, int i)
{
    hw_batch *b = f->batch;
    const hw_sequence *s = b->sequences[i];
    const size_t n_bytes = (size_t)s->table.n_blocks * sizeof *s->table.blocks;
    int32_t *const blocks = b->block_tables + (size_t)i * (size_t)b->engine->shape.seq_blocks;
    b->positions[i] = s->n_tokens - 1;
    b->tokens[i] = s->n_computed == b->positions[i] ? s->tokens[b->positions[i]] : HW_TOKEN_UNKNOWN;
    if (b->positions[i] > b->max_position) b->max_position = b->positions[i];
    if (!memcmp(blocks, s->table.blocks, n_bytes)) return;
    memcpy(blocks, s->table.blocks, n_bytes);
    if (f->first_changed == f->end_changed) f->first_changed = i;
    f->end_changed = i + 1;
}

/* Turns the rows into those of the next step, with room for a token, known or not, in every sequence. Errors:
 * HW_ERR_INVALID (longer than the context), HW_ERR_CACHE_FULL; then nothing has changed. */
static hw_status advance(hw_device_loop *f, hw_error *err)
{
    hw_batch *b = f->batch;
    for (int i = 0; i < b->n_rows; i++) {
        hw_status st = make_room(b, i, err);
        if (!st) continue;
        while (i-- > 0) cut_to(b->sequences[i], b->sequences[i]->n_tokens - 1);
        return st;
    }
    f->first_changed = f->end_changed = 0;
    for (int i = 0; i < b->n_rows; i++) set_row(f, i);
    return HW_OK;
}

/* Removes tokens that wait for a step from the sequences. */
static void retreat(hw_batch *b)
{
    for (int i = 0; i < b->n_rows; i++) cut_to(b->sequences[i], b->sequences[i]->n_computed);
}

/* Records that the oldest step in flight has ended and chose `tokens` [n_rows]. */
static void go_on(hw_batch *b, const int32_t *tokens)
{
    for (int i = 0; i < b->n_rows; i++) {
        hw_sequence *s = b->sequences[i];
        s->n_computed++;
        hw_kv_publish(s->engine->kv, &s->table, s->tokens, s->n_computed);
        if (s->n_computed < s->max_tokens) s->tokens[s->n_computed] = tokens[i];
    }
}

/* ---- beginning */

static hw_status check_sequence(const hw_sequence *s, hw_error *err)
{
    if (s->n_tokens && s->n_computed == s->n_tokens) return HW_OK;
    return hw_fail(err, HW_ERR_INVALID,
                   "the device loop goes on from a sequence of %d tokens, of which %d were computed",
                   s->n_tokens, s->n_computed);
}

/* How rows are drawn, and no keys yet. The host's arrays can be written again when this returns. */
static hw_status upload(hw_device_loop *f, hw_error *err)
{
    hw_engine *e = f->e;
    const hw_kernels *k = e->device->k;
    const size_t n = (size_t)f->batch->n_rows;
    for (size_t i = 0; i < n; i++) f->keys[i] = 0;
    hw_status st = k->copy_in(e->device, e->buffers.draws, f->draws, n * sizeof *f->draws);
    if (!st) st = k->copy_in(e->device, e->buffers.keys, f->keys, n * sizeof *f->keys);
    return st ? hw_engine_wait(e, st, err) : HW_OK;
}

hw_status hw_device_loop_begin(hw_device_loop *f, hw_sequence *const *seqs, const int32_t *tokens,
                               const hw_sampling *settings, int n, int n_valid, int n_steps, hw_error *err)
{
    hw_engine *e = f->e;
    const int vocab = e->model.vocab_size;
    if (!hw_device_loop_possible(e, settings, n))
        return hw_fail(err, HW_ERR_INVALID,
                       "the device loop was begun where the device or the settings have none");
    hw_batch_clear(f->batch);
    f->n_steps = n_steps > 0 ? (uint64_t)n_steps : 0;
    f->n_begun = f->n_taken = 0;
    f->late = HW_OK;
    e->n_steps++; /* the logits are about to be others */
    if (!f->n_steps) return HW_OK;
    hw_status st = HW_OK;
    for (int i = 0; i < n && !st; i++) {
        st = check_sequence(seqs[i], err);
        if (!st) st = hw_batch_add(f->batch, seqs[i], &tokens[i], 1, HW_LOGITS_LAST, err);
        if (st) break;
        f->first_positions[i] = seqs[i]->n_tokens - 1;
        f->draws[i] = (hw_draw){.temperature = settings[i].temperature,
                                .n_valid = n_valid > 0 && n_valid < vocab ? n_valid : vocab,
                                .seed = settings[i].seed};
    }
    if (!st) st = upload(f, err);
    if (!st) return HW_OK;
    retreat(f->batch);
    hw_batch_clear(f->batch);
    return st;
}

/* ---- steps */

/* This rank's key outranks what it would have chosen, and with it all other ranks'. */
static hw_status cancel(hw_device_loop *f)
{
    hw_engine *e = f->e;
    const size_t n = (size_t)f->batch->n_rows;
    for (size_t i = 0; i < n; i++) f->keys[i] = HW_KEY_CANCEL;
    return e->device->k->copy_in(e->device, e->buffers.keys, f->keys, n * sizeof *f->keys);
}

/* From memory that the device reads when it comes to it: it is written again two steps later, when this one has
 * ended. */
static hw_status upload_changes(const hw_device_loop *f, hw_step *s, uint64_t step)
{
    const hw_batch *b = f->batch;
    const size_t width = (size_t)s->e->shape.seq_blocks, all = (size_t)s->e->options.max_seqs * width,
                 from = (size_t)f->first_changed * width, end = (size_t)f->end_changed * width;
    int32_t *const next = s->buf->next_tables + (size_t)(step % HW_DEVICE_LOOP_AHEAD) * all;
    if (from == end) return HW_OK;
    memcpy(next + from, b->block_tables + from, (end - from) * sizeof *next);
    return s->k->copy_in(s->d, s->buf->block_tables + from, next + from, (end - from) * sizeof *next);
}

/* A step of the device loop ends by choosing the tokens of the next one. */
static hw_status layers_and_feed_keys(hw_step *s)
{
    const hw_status st = hw_forward_layers(s);
    return st ? st : hw_op_feed_keys(s);
}

/* Starts step number `step`, from 0, and does not wait for it. After the first step the device has tokens and positions,
 * and only block tables that changed are sent. */
static hw_status forward(hw_device_loop *f, uint64_t step, hw_error *err)
{
    hw_step s = hw_forward_begin(f->e, f->batch, err);
    hw_status st = step ? upload_changes(f, &s, step) : hw_forward_upload(&s);
    if (!st) st = hw_graph_run(&s, layers_and_feed_keys);
    hw_step_expect(&s);
    return st ? hw_engine_wait(f->e, st, err) : HW_OK;
}

static hw_status begin_step(hw_device_loop *f, hw_error *err)
{
    hw_engine *e = f->e;
    hw_status st = f->n_begun ? advance(f, err) : HW_OK;
    if (st) return st;
    if (e->cancelled && (st = cancel(f))) return hw_engine_wait(e, st, err);
    st = forward(f, f->n_begun, err);
    if (st) return st;
    st = e->device->k->device_loop->event_record(e->device, &f->events[f->n_begun % HW_DEVICE_LOOP_AHEAD]);
    if (st) return hw_engine_wait(e, st, err);
    f->n_begun++;
    e->n_device_loop_steps++;
    return HW_OK;
}

/* As many as may be under way. */
static void begin_steps(hw_device_loop *f)
{
    while (!f->late && f->n_begun < f->n_steps && f->n_begun < f->n_taken + HW_DEVICE_LOOP_AHEAD)
        f->late = begin_step(f, &f->late_error);
}

static hw_status take(hw_device_loop *f, int32_t *tokens, hw_error *err)
{
    hw_engine *e = f->e;
    const hw_batch *b = f->batch;
    const uint64_t step = f->n_taken;
    hw_status st = hw_engine_wait_event(e, f->events[step % HW_DEVICE_LOOP_AHEAD], err);
    if (st) return st;
    for (int i = 0; i < b->n_rows; i++) {
        const size_t slot = ((size_t)f->first_positions[i] + step) % HW_DEVICE_LOOP_AHEAD;
        const uint64_t key = e->buffers.ring[slot * (size_t)e->options.max_logit_rows + (size_t)i];
        const hw_status of_row = hw_sampler_check_key(key, st ? NULL : err);
        tokens[i] = of_row ? HW_TOKEN_UNKNOWN : hw_key_token(key);
        if (!st) st = of_row;
    }
    f->n_taken++;
    go_on(f->batch, tokens);
    if (!st && f->n_begun > f->n_taken) hw_count_embedding(e, tokens, b->n_rows); /* of the step under way */
    return st;
}

hw_status hw_device_loop_next(hw_device_loop *f, int32_t *tokens, hw_error *err)
{
    hw_watch *const w = hw_comm_watch(f->e->world);
    const hw_watch_phase before = hw_watch_enter(w, HW_WATCH_DECODE);
    hw_status st = HW_OK;
    begin_steps(f);
    if (f->n_begun > f->n_taken) {
        st = take(f, tokens, err);
    } else {
        st = f->late ? f->late : hw_fail(err, HW_ERR_INVALID, "the device loop has taken all its steps");
        if (f->late && err) *err = f->late_error;
    }
    hw_watch_enter(w, before);
    return st;
}

hw_status hw_device_loop_end(hw_device_loop *f, int *n_discarded, hw_error *err)
{
    *n_discarded = 0;
    if (!f->batch->n_rows) return HW_OK;
    const hw_status st = hw_engine_wait(f->e, HW_OK, err);
    *n_discarded = (int)(f->n_begun - f->n_taken);
    retreat(f->batch);
    hw_batch_clear(f->batch);
    return st;
}
