/* headway generate: text streams to standard output as it is made; nothing else does. */
#include <stdlib.h>
#include <string.h>

#include "launch/commands.h"
#include "launch/output.h"
#include "launch/report.h"
#include "launch/session.h"
#include "launch/traffic.h"

enum { OPT_STATS = 512 };

static error_t parse_own(int key, char *arg, struct argp_state *state)
{
    hw_args *a = state->input;
    (void)arg;
    if (key != OPT_STATS) return ARGP_ERR_UNKNOWN;
    a->stats = true;
    return 0;
}

static const struct argp_option own_options[] = {
    {"stats", OPT_STATS, 0, 0, "A short table of speed and traffic on standard error at the end", 4}, {0}};

static const struct argp own = {
    .options = own_options,
    .parser = parse_own,
    .args_doc = "[-]",
    .doc = "Continues a prompt. Started by mpirun, the model is split over the ranks.\v"
           "  headway generate -m models/tales -p \"Once upon a time\" -n 100\n"
           "  mpirun -np 4 headway generate -m Llama-3.2-1B -f prompt.txt \\\n"
           "         --temperature 0.8 --top-p 0.95 --seed 1"};

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

static hw_status print_json_report(hw_session *s, const hw_args *a, const sink *text,
                                   const hw_generate_result *r, json_t *load, hw_error *err)
{
    static const char *const reasons[] = {"length", "eos", "stop"};
    const hw_engine_info info = hw_engine_info_get(s->engine);
    json_t *ids = json_array();
    for (size_t i = 0; i < r->tokens.n; i++) json_array_append_new(ids, json_integer(r->tokens.ids[i]));
    /* Without a tokenizer there is no text: null, not "". */
    json_t *said = s->tokenizer ? json_stringn(text->n ? text->text : "", text->n) : json_null();
    json_t *report = json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:o, s:s, s:{s:i, s:I}, s:o, s:o, s:{s:i, s:s, s:s, s:o}, s:o, s:O}",
        "model", a->model, "device", info.device, "path", s->paths.text, "matmul",
        hw_matmul_name(info.matmul), "text", said, "tokens", ids, "finish_reason", reasons[r->finish],
        "usage", "prompt_tokens", r->n_prompt, "completion_tokens", (json_int_t)r->tokens.n, "timing",
        hw_report_timing_json(r), "kv_cache", hw_report_kv_json(r), "traffic", "ranks", info.n_ranks,
        "backend", info.comm, "kv_cache", hw_kv_policy_name(info.kv_policy), "sites",
        hw_report_traffic_json(s->engine), "work", hw_report_work_json(s->engine), "load", load);
    return hw_print_json(report, err);
}

static hw_status run(hw_session *s, const hw_args *a, hw_error *err)
{
    sink text = {.rank = s->rank, .keep = a->json};
    hw_generate_result result = {.n_prompt = 0};
    hw_generate_options o = {.max_new_tokens = a->max_tokens ? a->max_tokens : s->generation.max_new_tokens,
                             .eos = s->generation.eos,
                             .n_eos = s->generation.n_eos,
                             .ignore_eos = a->ignore_eos,
                             .stops = a->stops,
                             .n_stops = a->n_stops,
                             .prefill_chunk = a->prefill_chunk,
                             .on_text = take_text,
                             .user = &text};
    json_t *load = NULL;
    hw_status st = hw_session_sampling(s, a, &o.sampling, err);
    if (!st && a->json) st = hw_report_load_json(s->engine, &load, err);
    if (!st) st = hw_generate(s->engine, s->tokenizer, s->prompt.ids, (int)s->prompt.n, &o, &result, err);
    hw_session_end_if_alone(s, st, err);
    if (!st && s->rank == 0) {
        if (a->json) st = print_json_report(s, a, &text, &result, load, err);
        else if (!s->tokenizer)
            for (size_t i = 0; i < result.tokens.n && !st; i++)
                st = hw_print(err, "%d%s", result.tokens.ids[i], i + 1 < result.tokens.n ? "," : "\n");
        else st = hw_print(err, "\n");
        if (!st && a->stats) hw_report_table(stderr, s->engine, &result);
    }
    /* What is reported is also compared with what arithmetic says. */
    if (!st && (a->json || a->stats))
        st = hw_traffic_check(s->engine, &result, &o.sampling, o.prefill_chunk, err);
    hw_tokens_free(&result.tokens);
    free(text.text);
    json_decref(load);
    return hw_comm_agree(s->comm, st, err);
}

hw_status hw_cmd_generate(int argc, char **argv, hw_error *err)
{
    static const struct argp *const groups[] = {&hw_args_model,
                                                &hw_args_prompt,
                                                &hw_args_prefill,
                                                &hw_args_sampling,
                                                &hw_args_engine,
                                                &hw_args_report,
                                                NULL};
    hw_args a = hw_args_defaults();
    hw_session s = {0};
    hw_args_parse(&a, &own, groups, argc, argv);
    hw_status st = hw_session_start(&s, &a, err);
    if (!st) st = hw_session_open_prompt(&s, &a, err);
    if (!st) st = hw_session_open_engine(&s, &a, err);
    if (!st) st = run(&s, &a, err);
    hw_session_close(&s);
    return st;
}
