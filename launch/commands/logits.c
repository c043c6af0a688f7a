/* headway logits and headway perplexity: every row's logits, gathered from all ranks. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launch/commands/commands.h"
#include "launch/commands/score.h"
#include "launch/report/output.h"
#include "launch/session.h"

typedef struct settings {
    hw_model_settings model;
    hw_prompt_settings prompt;
    hw_engine_settings engine;
    hw_report_settings report; /* of perplexity */
    const char *output;        /* of logits */
} settings;

static const hw_setting output_rows[] = {
    {NULL, "output", 'o', "FILE.npy", HW_TEXT, NULL, 0, offsetof(settings, output),
     "Where to write [n_tokens, vocab_size]"},
};

static const char *settle_output(void *values)
{
    return ((settings *)values)->output ? NULL : "no output: name a .npy file with -o";
}

static const hw_setting_group output_group = HW_OWN_GROUP(NULL, 0, output_rows, settle_output);

static const char logits_doc[] = "Writes the logits after every prompt token, float32 [n_tokens, "
                                 "vocab_size], to compare with a reference.";
static const char perplexity_doc[] = "Scores a text: exp of the mean negative log-likelihood per token. The "
                                     "text is cut into windows of --max-model-len tokens; the first "
                                     "token of a window is not predicted.";

static hw_status open_session(hw_session *s, hw_options *o, hw_engine_settings *e, hw_error *err)
{
    hw_status st = hw_session_start(s, o, err);
    e->options.max_logit_rows = HW_SCORE_ROWS;
    if (!st) st = hw_session_open_prompt(s, err);
    if (!st && !s->prompt.n) st = hw_fail(err, HW_ERR_INVALID, "the prompt is empty");
    return st ? st : hw_session_open_engine(s, e, err);
}

/* ---- logits */

typedef struct npy {
    FILE *
        file; /* NULL before the first row: a run that is refused leaves no file, and a file that was there as it is */
    const char *path; /* NULL on ranks that do not write */
    size_t n_rows;
} npy;

/* numpy's format 1.0: magic, version, length of the header, a Python dict padded to 64 bytes (numpy.lib.format). */
static hw_status open_npy(npy *out, size_t n_columns, hw_error *err)
{
    char header[128];
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10); /* 118 bytes follow, 128 in all */
    int n =
        snprintf(header + 10, sizeof header - 10,
                 "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", out->n_rows, n_columns);
    header[10 + n] = ' ';
    header[sizeof header - 1] = '\n';
    if (!(out->file = fopen(out->path, "wb")))
        return hw_fail(err, HW_ERR_FAILED, "%s: cannot create: %s", out->path, strerror(errno));
    return hw_write(out->file, out->path, header, sizeof header, err);
}

static hw_status write_row(void *user, int i, const float *logits, int vocab_size, hw_error *err)
{
    npy *out = user;
    hw_status st = HW_OK;
    if (!out->path) return HW_OK;
    if (i == 0) st = open_npy(out, (size_t)vocab_size, err);
    return st ? st : hw_write(out->file, out->path, logits, (size_t)vocab_size * sizeof *logits, err);
}

hw_status hw_cmd_logits(int argc, char **argv, hw_error *err)
{
    settings a = {0};
    hw_session s = {0};
    hw_options o = {
        .doc = logits_doc,
        .takes = HW_IF_CHUNKED,
        .groups = {HW_TAKES(a, model), HW_TAKES(a, prompt), HW_TAKES(a, engine), {&output_group, &a}}};
    npy out = {0};
    hw_options_parse(&o, argc, argv);
    hw_status st = open_session(&s, &o, &a.engine, err);
    if (s.rank == 0) out = (npy){.path = a.output, .n_rows = s.prompt.n};
    if (!st)
        st = hw_score_rows(&s, s.prompt.ids, (int)s.prompt.n, a.engine.prefill_chunk, write_row, &out, err);
    if (out.file && fclose(out.file) && !st)
        st = hw_fail(err, HW_ERR_FAILED, "%s: cannot write: %s", a.output, strerror(errno));
    hw_session_close(&s);
    return st;
}

/* ---- perplexity */

typedef struct score {
    const int32_t *tokens; /* of the window */
    int n;
    double nll;
    long n_predicted;
} score;

static hw_status add_score(void *user, int i, const float *logits, int vocab_size, hw_error *err)
{
    score *s = user;
    (void)err;
    if (i + 1 >= s->n) return HW_OK;
    double sum = 0, max = (double)logits[0];
    for (int v = 1; v < vocab_size; v++)
        if ((double)logits[v] > max) max = (double)logits[v];
    for (int v = 0; v < vocab_size; v++) sum += exp((double)logits[v] - max);
    s->nll += max + log(sum) - (double)logits[s->tokens[i + 1]];
    s->n_predicted++;
    return HW_OK;
}

static hw_status print_score(const hw_session *session, bool json, const score *s, size_t n_tokens,
                             int window, hw_error *err)
{
    double mean = s->nll / (double)s->n_predicted;
    if (!json)
        return hw_print(err,
                        "perplexity %.6f (%ld of %zu tokens predicted, windows of %d, mean negative "
                        "log-likelihood %.6f)\n",
                        exp(mean), s->n_predicted, n_tokens, window, mean);
    const hw_engine_info info = hw_engine_info_get(session->engine);
    return hw_print_json(json_pack("{s:s, s:s, s:s, s:f, s:f, s:I, s:I, s:i}", "device", info.device, "path",
                                   session->paths.text, "matmul", hw_matmul_name(info.matmul), "perplexity",
                                   exp(mean), "mean_nll", mean, "predicted_tokens",
                                   (json_int_t)s->n_predicted, "tokens", (json_int_t)n_tokens, "window",
                                   window),
                         err);
}

hw_status hw_cmd_perplexity(int argc, char **argv, hw_error *err)
{
    settings a = {0};
    hw_session s = {0};
    hw_options o = {
        .doc = perplexity_doc,
        .takes = HW_IF_CHUNKED,
        .groups = {HW_TAKES(a, model), HW_TAKES(a, prompt), HW_TAKES(a, engine), HW_TAKES(a, report)}};
    score sum = {0};
    hw_options_parse(&o, argc, argv);
    hw_status st = open_session(&s, &o, &a.engine, err);
    int window = st ? 0 : hw_engine_info_get(s.engine).max_seq_len, n = (int)s.prompt.n;
    if (!st && n < 2)
        st = hw_fail(err, HW_ERR_INVALID, "a text of %d token has nothing to predict; give at least 2", n);
    for (int i = 0; i < n && !st; i += window) {
        sum.tokens = s.prompt.ids + i;
        sum.n = n - i < window ? n - i : window;
        st = hw_score_rows(&s, sum.tokens, sum.n, a.engine.prefill_chunk, add_score, &sum, err);
    }
    if (!st && !sum.n_predicted)
        st = hw_fail(err, HW_ERR_INVALID,
                     "windows of one token have nothing to predict; raise --max-model-len");
    if (!st) {
        if (s.rank == 0) st = print_score(&s, a.report.json, &sum, s.prompt.n, window, err);
        st = hw_comm_agree(s.comm, st, err);
    }
    hw_session_close(&s);
    return st;
}
