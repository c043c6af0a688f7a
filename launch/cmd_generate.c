/* headway generate: text streams to standard output as it is made; nothing else does. */
#include <stdlib.h>
#include <string.h>

#include "launch/commands.h"
#include "launch/output.h"
#include "launch/report.h"
#include "launch/session.h"
#include "launch/traffic.h"

typedef struct settings {
    hw_model_settings model;
    hw_prompt_settings prompt;
    hw_request_settings request;
    hw_engine_settings engine;
    hw_report_settings report;
    bool stats;
} settings;

static const hw_setting own_rows[] = {
    {NULL, "stats", 0, NULL, HW_FLAG, "false", 0, offsetof(settings, stats),
     "A short table of speed and traffic on standard error at the end"},
};
static const hw_setting_group own_group = HW_OWN_GROUP(NULL, 4, own_rows, NULL);

static const char doc[] = "Continues a prompt. Started by mpirun, the model is split over the ranks.\v"
                          "  headway generate -m models/tales -p \"Once upon a time\" -n 100\n"
                          "  mpirun -np 4 headway generate -m Llama-3.2-1B -f prompt.txt \\\n"
                          "         --temperature 0.8 --top-p 0.95 --seed 1";

/* Where text goes: to standard output on rank 0, or into memory for --json. */
typedef struct sink {
    int rank;
    bool keep;
    char *text;
    size_t n, capacity;
} sink;

static hw_status take_text(void *user, const char *text, size_t n, hw_error *err)
{
    sink *s = user;
    if (s->rank) return HW_OK;
    if (!s->keep) return hw_write(stdout, "standard output", text, n, err);
    if (s->n + n > s->capacity) {
        size_t capacity = 2 * (s->n + n);
        char *more = realloc(s->text, capacity);
        if (!more) return hw_fail(err, HW_ERR_NO_MEMORY, "no memory for %zu bytes of text", capacity);
        s->text = more;
        s->capacity = capacity;
    }
    memcpy(s->text + s->n, text, n);
    s->n += n;
    return HW_OK;
}

static hw_status print_json_report(hw_session *s, const sink *text, const hw_generate_result *r, json_t *load,
                                   hw_error *err)
{
    static const char *const reasons[] = {"length", "eos", "stop"};
    const hw_engine_info info = hw_engine_info_get(s->engine);
    json_t *ids = json_array();
    for (size_t i = 0; i < r->tokens.n; i++) json_array_append_new(ids, json_integer(r->tokens.ids[i]));
    /* Without a tokenizer there is no text: null, not "". */
    json_t *said = s->tokenizer ? json_stringn(text->n ? text->text : "", text->n) : json_null();
    json_t *report = json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:o, s:s, s:{s:i, s:I}, s:o, s:o, s:{s:i, s:s, s:s, s:o}, s:o, s:O}",
        "model", s->model->folder, "device", info.device, "path", s->paths.text, "matmul",
        hw_matmul_name(info.matmul), "text", said, "tokens", ids, "finish_reason", reasons[r->finish],
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
    sink text = {.rank = s->rank, .keep = json};
    hw_generate_result result = {.n_prompt = 0};
    hw_generate_options o = {.max_new_tokens = r->max_tokens ? r->max_tokens : s->generation.max_new_tokens,
                             .eos = s->generation.eos,
                             .n_eos = s->generation.n_eos,
                             .ignore_eos = r->ignore_eos,
                             .stops = r->stops,
                             .n_stops = r->n_stops,
                             .prefill_chunk = a->engine.prefill_chunk,
                             .on_text = take_text,
                             .user = &text};
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
    /* What is reported is also compared with what arithmetic says. */
    if (!st && (json || stats)) st = hw_traffic_check(s->engine, &result, &o.sampling, o.prefill_chunk, err);
    hw_tokens_free(&result.tokens);
    free(text.text);
    json_decref(load);
    return hw_comm_agree(s->comm, st, err);
}

hw_status hw_cmd_generate(int argc, char **argv, hw_error *err)
{
    settings a = {0};
    hw_session s = {0};
    hw_options o = {.doc = doc,
                    .takes = HW_IF_CHUNKED,
                    .groups = {HW_TAKES(a, model),
                               HW_TAKES(a, prompt),
                               HW_TAKES(a, request),
                               HW_TAKES(a, engine),
                               HW_TAKES(a, report),
                               {&own_group, &a}}};
    hw_options_parse(&o, argc, argv);
    hw_status st = hw_session_start(&s, &o, err);
    if (!st) st = hw_session_open_prompt(&s, err);
    if (!st) st = hw_session_open_engine(&s, &a.engine, err);
    if (!st) st = run(&s, &a, err);
    hw_session_close(&s);
    return st;
}
