#include "launch/commands/generate_many.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/commands/prompts.h"
#include "launch/commands/text_sink.h"
#include "launch/report/output.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/scheduler.h"

enum { MOST_BYTES = 1 << 30 };

/* A prompt and its state. */
typedef struct item {
    hw_text_sink text;
    hw_request *request; /* owned by the scheduler until it has ended, then by us */
    bool skipped, ended; /* skipped: the output already has its result */
} item;

typedef struct many {
    hw_session *s;
    const hw_many_settings *m;
    hw_prompts prompts;
    item *items; /* [prompts.n] */
    hw_scheduler *scheduler;
    FILE *out;     /* rank 0's */
    int n_written; /* leading prompts whose results are written or skipped */
    int n_failed;
    hw_error first_failure;
    uint64_t n_tokens;
    hw_error *err;
} many;

/* ---- the files */

/* Reads a file on rank 0 and sends it to all ranks; "" for an optional file that does not exist. The caller frees *text. */
static hw_status share_file(many *m, const char *path, bool optional, char **text, size_t *n)
{
    hw_status st = HW_OK;
    *text = NULL;
    *n = 0;
    if (m->s->rank == 0) {
        if (optional && access(path, F_OK)) st = (*text = strdup("")) ? HW_OK : HW_ERR_NO_MEMORY;
        else st = hw_file_read(text, n, path, MOST_BYTES, HW_ERR_INVALID, m->err);
    }
    st = hw_session_agree_idle(m->s, st, m->err);
    return st ? st : hw_comm_share(m->s->comm, (hw_tag){.site = HW_SITE_LOAD}, text, n, m->err);
}

/* Marks prompts that have results in the output. Errors do not count, nor does a last line cut off when a run was
 * killed. */
static void mark_done(many *m, const char *text, size_t n)
{
    for (const char *newline; n && (newline = memchr(text, '\n', n));) {
        json_t *line = json_loadb(text, (size_t)(newline - text), 0, NULL);
        const json_t *index = json_object_get(line, "index");
        const json_int_t i = json_is_integer(index) ? json_integer_value(index) : -1;
        if (i >= 0 && i < m->prompts.n && !json_object_get(line, "error")) m->items[i].skipped = true;
        json_decref(line);
        n -= (size_t)(newline + 1 - text);
        text = newline + 1;
    }
}

static hw_status read_prompts(many *m, const hw_prompt_settings *p, const hw_request_settings *r)
{
    char *text;
    size_t n;
    hw_status st = share_file(m, m->m->prompts, false, &text, &n);
    if (!st)
        st =
            hw_prompts_parse(&m->prompts, text, n, m->m->prompts, m->s->tokenizer, !p->no_special, r, m->err);
    free(text);
    if (!st && !(m->items = calloc((size_t)m->prompts.n + 1, sizeof *m->items)))
        st = hw_fail(m->err, HW_ERR_NO_MEMORY, "%s: no memory for %d prompts", m->m->prompts, m->prompts.n);
    st = hw_comm_agree(m->s->comm, st, m->err);
    if (st || !m->m->skip_done) return st;
    st = share_file(m, m->m->output, true, &text, &n);
    if (!st) mark_done(m, text, n);
    free(text);
    return st;
}

/* Opens the output; if earlier results are kept, after the last complete line. */
static hw_status open_output(many *m)
{
    const char *path = m->m->output;
    if (m->s->rank) return HW_OK;
    if (!path) m->out = stdout;
    else m->out = fopen(path, m->m->skip_done && !access(path, F_OK) ? "r+e" : "we");
    if (!m->out) return hw_fail(m->err, HW_ERR_FAILED, "%s: cannot open: %s", path, strerror(errno));
    if (!path || !m->m->skip_done) return HW_OK;
    long at = 0, end = 0;
    for (int c; (c = getc(m->out)) != EOF;) {
        at++;
        if (c == '\n') end = at;
    }
    if (fseek(m->out, end, SEEK_SET) || ftruncate(fileno(m->out), end))
        return hw_fail(m->err, HW_ERR_FAILED, "%s: cannot append after its last line: %s", path,
                       strerror(errno));
    return HW_OK;
}

/* ---- results */

static void count_failure(many *m, const hw_error *why)
{
    if (!m->n_failed++) m->first_failure = *why;
}

static json_t *result_json(const many *m, int i)
{
    const item *it = &m->items[i];
    hw_error why = m->prompts.at[i].error;
    if (!it->request || hw_request_status(it->request, &why))
        return json_pack("{s:i, s:s}", "index", i, "error", why.message);
    const hw_generate_result *r = hw_request_result(it->request);
    json_t *ids = json_array();
    for (size_t k = 0; k < r->tokens.n; k++) json_array_append_new(ids, json_integer(r->tokens.ids[k]));
    json_t *text =
        m->s->tokenizer ? json_stringn(it->text.text ? it->text.text : "", it->text.n) : json_null();
    return json_pack("{s:i, s:o, s:o, s:s, s:{s:i, s:I}}", "index", i, "text", text, "tokens", ids,
                     "finish_reason", hw_finish_name(r->finish), "usage", "prompt_tokens", r->n_prompt,
                     "completion_tokens", (json_int_t)r->tokens.n);
}

static hw_status write_result(many *m, int i)
{
    if (m->s->rank || m->items[i].skipped) return HW_OK;
    json_t *result = result_json(m, i);
    char *line = result ? json_dumps(result, JSON_COMPACT) : NULL;
    json_decref(result);
    if (!line) return hw_fail(m->err, HW_ERR_NO_MEMORY, "no memory for the result of a prompt");
    const size_t n = strlen(line);
    line[n] = '\n'; /* replaces the terminating zero */
    hw_status st = hw_write(m->out, m->m->output ? m->m->output : "standard output", line, n + 1, m->err);
    free(line);
    return st;
}

/* Writes results in order, up to the first that is not known yet. */
static hw_status write_results(many *m)
{
    hw_status st = HW_OK;
    while (m->n_written < m->prompts.n && m->items[m->n_written].ended && !st) {
        item *it = &m->items[m->n_written];
        st = write_result(m, m->n_written++);
        hw_request_destroy(it->request);
        it->request = NULL;
        hw_text_sink_free(&it->text);
    }
    return st;
}

/* ---- running */

static void say(const many *m, const hw_error *why)
{
    if (m->s->rank == 0) fprintf(stderr, "headway: %s\n", why->message);
}

/* Records the error of an invalid line; other prompts still run, except with --strict. Errors: HW_ERR_NO_MEMORY, which is
 * not the fault of the line. */
static hw_status refuse(many *m, int i)
{
    const hw_prompt_line *l = &m->prompts.at[i];
    if (l->status == HW_ERR_NO_MEMORY) {
        *m->err = l->error;
        return l->status;
    }
    m->items[i].ended = true;
    count_failure(m, &l->error);
    say(m, &l->error);
    return HW_OK;
}

static hw_status submit(many *m, int i, int prefill_chunk)
{
    hw_prompt_line *l = &m->prompts.at[i];
    const hw_request_settings *r = &l->settings;
    item *it = &m->items[i];
    if (l->status) return refuse(m, i);
    it->text = (hw_text_sink){.rank = m->s->rank, .keep = true};
    hw_generate_options o = hw_session_generate_options(m->s, r, prefill_chunk, hw_text_sink_take, &it->text);
    l->status = hw_session_sampling(m->s, r, &o.sampling, &l->error);
    if (!l->status)
        l->status =
            hw_scheduler_submit(m->scheduler, &it->request, l->tokens.ids, (int)l->tokens.n, &o, &l->error);
    hw_context(&l->error, l->status, "%s:%d", m->m->prompts, i + 1);
    return l->status ? refuse(m, i) : HW_OK;
}

static hw_status submit_all(many *m, int prefill_chunk)
{
    hw_status st = hw_scheduler_create(&m->scheduler, m->s->engine,
                                       &(hw_scheduler_options){m->s->tokenizer, false}, m->err);
    for (int i = 0; i < m->prompts.n && !st; i++)
        if (m->items[i].skipped) m->items[i].ended = true;
        else st = submit(m, i, prefill_chunk);
    if (!st && m->m->strict && m->n_failed)
        st = hw_fail(m->err, HW_ERR_INVALID, "%s: %d of %d lines are invalid; nothing was run (--strict)",
                     m->m->prompts, m->n_failed, m->prompts.n);
    if (!st) st = open_output(m);
    return hw_comm_agree(m->s->comm, st, m->err);
}

static void end_item(many *m, hw_request *r)
{
    int i = 0;
    hw_error why;
    while (m->items[i].request != r) i++;
    m->items[i].ended = true;
    m->n_tokens += hw_request_result(r)->tokens.n;
    if (!hw_request_status(r, &why)) return;
    hw_context(&why, HW_ERR_FAILED, "%s:%d", m->m->prompts, i + 1);
    count_failure(m, &why);
    say(m, &why);
}

/* A rank that cannot write cancels the others at their next step; after the last step all ranks agree. */
static hw_status run_all(many *m)
{
    hw_status st = HW_OK, written = write_results(m);
    hw_error why = *m->err;
    for (hw_request *r; !st && !(st = hw_scheduler_poll(m->scheduler, &r, m->err)) && r;) {
        end_item(m, r);
        if (written || !(written = write_results(m))) continue;
        why = *m->err;
        hw_engine_cancel(m->s->engine);
    }
    if (written) *m->err = why;
    return written ? written : st;
}

static void print_stats(const many *m, double seconds)
{
    int n_skipped = 0;
    for (int i = 0; i < m->prompts.n; i++) n_skipped += m->items[i].skipped;
    if (m->s->rank == 0)
        fprintf(stderr,
                "%d prompts, %d of them done before, %d failed; %llu new tokens in %.1f s, %.1f per second\n",
                m->prompts.n, n_skipped, m->n_failed, (unsigned long long)m->n_tokens, seconds,
                (double)m->n_tokens / seconds);
}

static void clean_up(many *m)
{
    hw_scheduler_destroy(m->scheduler);
    for (int i = 0; m->items && i < m->prompts.n; i++) {
        if (m->items[i].ended) hw_request_destroy(m->items[i].request);
        hw_text_sink_free(&m->items[i].text);
    }
    free(m->items);
    hw_prompts_free(&m->prompts);
}

/* A full disk may be reported only when the file is closed. */
static hw_status close_output(many *m, hw_status st)
{
    if (!m->out || m->out == stdout || !fclose(m->out) || st) return st;
    return hw_fail(m->err, HW_ERR_FAILED, "%s: %s", m->m->output, strerror(errno));
}

hw_status hw_generate_many(hw_session *s, const hw_many_settings *settings, const hw_prompt_settings *p,
                           const hw_request_settings *r, int prefill_chunk, bool stats, hw_error *err)
{
    many m = {.s = s, .m = settings, .err = err};
    hw_status st = read_prompts(&m, p, r);
    if (!st) st = submit_all(&m, prefill_chunk);
    const uint64_t start = hw_clock_ns();
    if (!st) st = run_all(&m);
    hw_session_end_if_alone(s, st, err);
    st = hw_comm_agree(s->comm, close_output(&m, st), err);
    if (!st && stats) print_stats(&m, hw_seconds_since(start));
    if (!st && m.n_failed)
        st = hw_fail(err, HW_ERR_FAILED, "%d of %d prompts failed, the first: %s", m.n_failed, m.prompts.n,
                     m.first_failure.message);
    clean_up(&m);
    return st;
}
