#include "runtime/tokenizer/pretokenizer.h"

void hw_pretokenizer_run_free(hw_pretokenizer_run *run)
{
    for (size_t i = 0; i < HW_MAX_STEPS; i++) hw_bytes_free(&run->buffers[i]);
}

static hw_status take(hw_pretokenizer_run *run, size_t step, const char *text, size_t n, bool first,
                      hw_error *err);

/* A text on its way through one Split: stretches that match and stretches between them arrive in order,
 * and leave joined as the behaviour says. */
typedef struct splitter {
    hw_pretokenizer_run *run;
    const hw_pretokenizer_step *step;
    size_t next_step;
    const char *text;
    bool first;
    bool holds;        /* start to end is waiting for what follows */
    bool last_matched; /* was the latest stretch a match? */
    size_t start, end;
} splitter;

static hw_status let_go(splitter *s, hw_error *err)
{
    if (!s->holds) return HW_OK;
    s->holds = false;
    return take(s->run, s->next_step, s->text + s->start, s->end - s->start, s->first && s->start == 0, err);
}

/* Whether this stretch belongs to the one that is held. */
static bool joins(const splitter *s, bool matched)
{
    switch (s->step->behavior) {
    case HW_SPLIT_CONTIGUOUS: return matched == s->last_matched;
    case HW_SPLIT_MERGED_WITH_PREVIOUS: return matched && !s->last_matched;
    case HW_SPLIT_MERGED_WITH_NEXT: return !matched && s->last_matched;
    case HW_SPLIT_REMOVED:
    case HW_SPLIT_ISOLATED: break;
    }
    return false;
}

static hw_status stretch(splitter *s, size_t start, size_t end, bool matched, hw_error *err)
{
    hw_status st = HW_OK;
    matched ^= s->step->invert;
    if (s->step->behavior == HW_SPLIT_ISOLATED)
        return take(s->run, s->next_step, s->text + start, end - start, s->first && start == 0, err);
    if (s->holds && joins(s, matched)) {
        s->end = end;
    } else {
        st = let_go(s, err);
        s->holds = s->step->behavior != HW_SPLIT_REMOVED || !matched;
        s->start = start;
        s->end = end;
    }
    s->last_matched = matched;
    return st;
}

static hw_status split(hw_pretokenizer_run *run, size_t step, const char *text, size_t n, bool first,
                       hw_error *err)
{
    const hw_pretokenizer_step *self = &run->pretokenizer->steps[step];
    splitter s = {.run = run, .step = self, .next_step = step + 1, .text = text, .first = first};
    hw_search search = hw_search_start(&self->pattern, run->scratch, text, n);
    size_t start, end, done = 0;
    bool found;
    hw_status st;
    while (!(st = hw_search_next(&search, &start, &end, &found, err)) && found) {
        if (done != start && (st = stretch(&s, done, start, false, err))) return st;
        if ((st = stretch(&s, start, end, true, err))) return st;
        done = end;
    }
    if (!st && done != n) st = stretch(&s, done, n, false, err);
    return st ? st : let_go(&s, err);
}

static hw_status prefix_space(hw_pretokenizer_run *run, size_t step, const char *text, size_t n, bool first,
                              hw_error *err)
{
    hw_bytes *buffer = &run->buffers[step];
    if (*text == ' ') return take(run, step + 1, text, n, first, err);
    buffer->n = 0;
    hw_status st = hw_bytes_append(buffer, " ", 1, err);
    if (!st) st = hw_bytes_append(buffer, text, n, err);
    return st ? st : take(run, step + 1, buffer->data, buffer->n, first, err);
}

static bool begins_with(const char *text, size_t n, const hw_bytes *with)
{
    return n >= with->n && !memcmp(text, with->data, with->n);
}

static hw_status metaspace(hw_pretokenizer_run *run, size_t step, const char *text, size_t n, bool first,
                           hw_error *err)
{
    const hw_pretokenizer_step *self = &run->pretokenizer->steps[step];
    hw_bytes *buffer = &run->buffers[step];
    hw_status st = HW_OK;
    bool wanted = self->scheme == HW_PREPEND_ALWAYS || (self->scheme == HW_PREPEND_FIRST && first);
    buffer->n = 0;
    if (wanted && *text != ' ' && !begins_with(text, n, &self->mark))
        st = hw_bytes_append(buffer, self->mark.data, self->mark.n, err);
    for (size_t i = 0; i < n && !st;) {
        const char *blank = memchr(text + i, ' ', n - i);
        size_t end = blank ? (size_t)(blank - text) : n;
        st = hw_bytes_append(buffer, text + i, end - i, err);
        if (!st && blank) st = hw_bytes_append(buffer, self->mark.data, self->mark.n, err);
        i = end + 1;
    }
    return st ? st : take(run, step + 1, buffer->data, buffer->n, first, err);
}

/* A piece before step number `step`; after the last one it is done. */
static hw_status take(hw_pretokenizer_run *run, size_t step, const char *text, size_t n, bool first,
                      hw_error *err)
{
    if (!n) return HW_OK;
    if (step == run->pretokenizer->n_steps) return run->piece(run->context, text, n, err);
    switch (run->pretokenizer->steps[step].kind) {
    case HW_PIECE_SPLIT: return split(run, step, text, n, first, err);
    case HW_PIECE_PREFIX_SPACE: return prefix_space(run, step, text, n, first, err);
    case HW_PIECE_METASPACE: return metaspace(run, step, text, n, first, err);
    }
    return HW_OK;
}

hw_status hw_pretokenize(hw_pretokenizer_run *run, const char *text, size_t n, bool first, hw_error *err)
{
    return take(run, 0, text, n, first, err);
}
