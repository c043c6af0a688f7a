/* headway tokenize and headway detokenize: one process, no ranks. */
#include <stdlib.h>

#include "launch/commands/commands.h"
#include "launch/report/output.h"
#include "launch/session.h"

static const char tokenize_doc[] =
    "Prints the token ids of a text, separated by commas, in the format of --tokens.";
static const char detokenize_doc[] =
    "Prints the text of token ids: --tokens 1,2,3, or such a list in a file or on standard input.";

typedef struct settings {
    hw_model_settings model;
    hw_prompt_settings prompt;
    hw_report_settings report;
} settings;

static void parse(hw_options *o, settings *a, const char *doc, int argc, char **argv)
{
    *a = (settings){.prompt = {.from_stdin = false}};
    *o =
        (hw_options){.doc = doc, .groups = {HW_TAKES(*a, model), HW_TAKES(*a, prompt), HW_TAKES(*a, report)}};
    hw_options_parse(o, argc, argv);
}

static hw_status print_ids(const hw_tokens *t, hw_error *err)
{
    hw_status st = HW_OK;
    for (size_t i = 0; i < t->n && !st; i++) st = hw_print(err, i ? ",%d" : "%d", t->ids[i]);
    return st ? st : hw_print(err, "\n");
}

static hw_status print_ids_json(const hw_tokenizer *tokenizer, const hw_tokens *t, hw_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < t->n; i++) {
        size_t n = 0;
        const char *piece = hw_tokenizer_content(tokenizer, t->ids[i], &n);
        json_array_append_new(
            list, json_pack("{s:i, s:o}", "id", t->ids[i], "token", json_stringn(piece ? piece : "", n)));
    }
    return hw_print_json(json_pack("{s:I, s:o}", "count", (json_int_t)t->n, "tokens", list), err);
}

/* Of several ranks only the first does anything. */
static bool silent(void) { return hw_comm_launched_rank() > 0; }

static hw_status open_tokenizer(hw_session *s, hw_options *o, hw_error *err)
{
    hw_status st = hw_session_start_alone(s, o, err);
    return st ? st : hw_open_tokenizer(&s->tokenizer, s->model->folder, err);
}

hw_status hw_cmd_tokenize(int argc, char **argv, hw_error *err)
{
    settings a;
    hw_options o;
    hw_session s = {0};
    hw_tokens tokens = {0};
    char *text = NULL;
    size_t n = 0;
    parse(&o, &a, tokenize_doc, argc, argv);
    if (silent()) return HW_OK;
    if (a.prompt.tokens)
        return hw_fail(err, HW_ERR_INVALID, "--tokens is for detokenize; give tokenize a text");
    hw_status st = open_tokenizer(&s, &o, err);
    if (!st) st = hw_read_prompt_text(&a.prompt, &text, &n, err);
    if (!st) st = hw_tokenizer_encode(s.tokenizer, text, n, !a.prompt.no_special, &tokens, err);
    if (!st) st = a.report.json ? print_ids_json(s.tokenizer, &tokens, err) : print_ids(&tokens, err);
    free(text);
    hw_tokens_free(&tokens);
    hw_session_close(&s);
    return st;
}

static hw_status read_ids(const hw_prompt_settings *p, hw_tokens *tokens, hw_error *err)
{
    char *text = NULL;
    size_t n;
    if (p->tokens) return hw_parse_token_list(tokens, p->tokens, err);
    hw_status st = hw_read_prompt_text(p, &text, &n, err);
    while (!st && n && (text[n - 1] == '\n' || text[n - 1] == '\r')) text[--n] = '\0';
    if (!st) st = hw_parse_token_list(tokens, text, err);
    free(text);
    return st;
}

hw_status hw_cmd_detokenize(int argc, char **argv, hw_error *err)
{
    settings a;
    hw_options o;
    hw_session s = {0};
    hw_tokens tokens = {0};
    char *text = NULL;
    size_t n = 0;
    parse(&o, &a, detokenize_doc, argc, argv);
    if (silent()) return HW_OK;
    hw_status st = open_tokenizer(&s, &o, err);
    if (!st) st = read_ids(&a.prompt, &tokens, err);
    if (!st) st = hw_tokenizer_decode(s.tokenizer, tokens.ids, tokens.n, false, &text, &n, err);
    if (!st && a.report.json) st = hw_print_json(json_pack("{s:o}", "text", json_stringn(text, n)), err);
    else if (!st && !(st = hw_write(stdout, "standard output", text, n, err))) st = hw_print(err, "\n");
    free(text);
    hw_tokens_free(&tokens);
    hw_session_close(&s);
    return st;
}
