/* headway generate: streams the text to standard output, and prints nothing else there. */
#include <stdlib.h>

#include "launch/commands/commands.h"
#include "launch/commands/generate_many.h"
#include "launch/commands/text_sink.h"
#include "launch/report/output.h"
#include "launch/report/run.h"
#include "launch/report/traffic.h"
#include "launch/session.h"

typedef struct settings {
    hw_model_settings model;
    hw_prompt_settings prompt;
    hw_request_settings request;
    hw_engine_settings engine;
    hw_report_settings report;
    hw_many_settings many;
    bool stats;
} settings;

static const hw_setting own_rows[] = {
    {NULL, "stats", 0, NULL, HW_FLAG, "false", 0, offsetof(settings, stats),
     "A short table of speed and traffic on standard error at the end"},
    {NULL, "prompts", 0, "FILE", HW_TEXT, "auto", HW_SAME, offsetof(settings, many.prompts),
     "Continue each line of FILE, 8 or --max-num-seqs at once; a .jsonl file has objects with \"prompt\" or "
     "\"tokens\" "
     "and any of "
     "max_tokens, temperature, ...; prints a JSON object for each, in their order"},
    {NULL, "output", 'o', "FILE", HW_TEXT, "auto", 0, offsetof(settings, many.output),
     "Write the results of --prompts to FILE; auto: standard output"},
    {NULL, "skip-done", 0, NULL, HW_FLAG, "false", HW_SAME, offsetof(settings, many.skip_done),
     "Resume an interrupted run: skip prompts that have a result in the output"},
    {NULL, "strict", 0, NULL, HW_FLAG, "false", HW_SAME, offsetof(settings, many.strict),
     "Run no prompt if any line is invalid"},
};

static const char *settle(void *values)
{
    const settings *a = values;
    const hw_prompt_settings *p = &a->prompt;
    if (!a->many.prompts)
        return a->many.output || a->many.skip_done || a->many.strict
                   ? "--output, --skip-done and --strict are for --prompts FILE"
                   : NULL;
    if (p->text || p->file || p->tokens || p->from_stdin)
        return "--prompts FILE replaces the prompt: omit -p, -f, --tokens and -";
    if (a->report.json) return "--prompts always writes one JSON object per line; omit --json";
    return a->many.skip_done && !a->many.output
               ? "--skip-done reads earlier results from a file: set --output"
               : NULL;
}

static const hw_setting_group own_group = HW_OWN_GROUP(NULL, 4, own_rows, settle);

static const char doc[] = "Continues a prompt. Under mpirun, the model is split over the ranks.\v"
                          "  headway generate -m models/tales -p \"Once upon a time\" -n 100\n"
                          "  mpirun -np 4 headway generate -m Llama-3.2-1B -f prompt.txt \\\n"
                          "         --temperature 0.8 --top-p 0.95 --seed 1\n"
                          "  headway generate -m Llama-3.2-1B --prompts prompts.jsonl -o results.jsonl";

static hw_status print_json_report(hw_session *s, const hw_text_sink *text, const hw_generate_result *r,
                                   json_t *load, hw_error *err)
{
    const hw_engine_info info = hw_engine_info_get(s->engine);
    json_t *ids = json_array();
    for (size_t i = 0; i < r->tokens.n; i++) json_array_append_new(ids, json_integer(r->tokens.ids[i]));
    /* Without a tokenizer there is no text: null, not "". */
    json_t *said = s->tokenizer ? json_stringn(text->n ? text->text : "", text->n) : json_null();
    json_t *report = json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:o, s:s, s:{s:i, s:I}, s:o, s:o, s:{s:i, s:s, s:s, s:o}, s:o, s:O}",
        "model", s->model->folder, "device", info.device, "path", s->paths.text, "matmul",
        hw_matmul_name(info.matmul), "text", said, "tokens", ids, "finish_reason", hw_finish_name(r->finish),
        "usage", "prompt_tokens", r->n_prompt, "completion_tokens", (json_int_t)r->tokens.n, "timing",
        hw_report_timing_json(r), "kv_cache", hw_report_kv_json(r), "traffic", "ranks", info.n_ranks,
        "backend", info.comm, "kv_cache", hw_kv_policy_name(info.kv_policy), "sites",
        hw_report_traffic_json(s->engine), "work", hw_report_work_json(s->engine), "load", load);
    return hw_print_json(report, err);
}

static hw_status run(hw_session *s, const settings *a, hw_error *err)
{
    const hw_request_settings *r = &a->request;
    const bool json = a->report.json, stats = a->stats;
    hw_text_sink text = {.rank = s->rank, .keep = json};
    hw_generate_result result = {.n_prompt = 0};
    hw_generate_options o =
        hw_session_generate_options(s, r, a->engine.prefill_chunk, hw_text_sink_take, &text);
    json_t *load = NULL;
    hw_status st = hw_session_sampling(s, r, &o.sampling, err);
    if (!st && json) st = hw_report_load_json(s->engine, &load, err);
    if (!st) st = hw_generate(s->engine, s->tokenizer, s->prompt.ids, (int)s->prompt.n, &o, &result, err);
    hw_session_end_if_alone(s, st, err);
    if (!st && s->rank == 0) {
        if (json) st = print_json_report(s, &text, &result, load, err);
        else if (!s->tokenizer)
            for (size_t i = 0; i < result.tokens.n && !st; i++)
                st = hw_print(err, "%d%s", result.tokens.ids[i], i + 1 < result.tokens.n ? "," : "\n");
        else st = hw_print(err, "\n");
        if (!st && stats) hw_report_table(stderr, s->engine, &result);
    }
    /* Compare the reported traffic with the predicted traffic. */
    if (!st && (json || stats)) st = hw_traffic_check(s->engine, &result, &o.sampling, o.prefill_chunk, err);
    hw_tokens_free(&result.tokens);
    hw_text_sink_free(&text);
    json_decref(load);
    return hw_comm_agree(s->comm, st, err);
}

static hw_status run_many(hw_session *s, settings *a, hw_error *err)
{
    hw_engine_options *o = &a->engine.options;
    if (!hw_setting_is_given(&hw_engine_group, &a->engine, offsetof(hw_engine_settings, options.max_seqs)))
        o->max_seqs = HW_MANY_SEQS;
    hw_status st = hw_session_open_tokenizer(s, err);
    if (!st) st = hw_session_open_engine(s, &a->engine, err);
    return st ? st
              : hw_generate_many(s, &a->many, &a->prompt, &a->request, a->engine.prefill_chunk, a->stats,
                                 err);
}

static hw_status run_one(hw_session *s, const settings *a, hw_error *err)
{
    hw_status st = hw_session_open_prompt(s, err);
    if (!st) st = hw_session_open_engine(s, &a->engine, err);
    return st ? st : run(s, a, err);
}

hw_status hw_cmd_generate(int argc, char **argv, hw_error *err)
{
    settings a = {0};
    hw_session s = {0};
    hw_options o = {.doc = doc,
                    .takes = HW_IF_CHUNKED | HW_IF_BATCHED,
                    .groups = {HW_TAKES(a, model),
                               HW_TAKES(a, prompt),
                               HW_TAKES(a, request),
                               HW_TAKES(a, engine),
                               HW_TAKES(a, report),
                               {&own_group, &a}}};
    hw_options_parse(&o, argc, argv);
    hw_status st = hw_session_start(&s, &o, err);
    if (!st) st = a.many.prompts ? run_many(&s, &a, err) : run_one(&s, &a, err);
    hw_session_close(&s);
    return st;
}
