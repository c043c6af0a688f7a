/* headway bench: tokens per second of prefill (pp) and decode (tg) as llama-bench lists them, and with --peaks as a share of what the same
 * ranks and threads can do at most, measured in turn with them. */
#include <stdlib.h>
#include <string.h>

#include "launch/bench/bench.h"
#include "launch/commands/commands.h"
#include "launch/report/machine.h"
#include "runtime/scheduler.h"

#define AT(field) offsetof(hw_bench_settings, field)
static const hw_setting own_rows[] = {
    {NULL, "n-prompt", 'p', "N,N,...", HW_TEXT_OR_NONE, "512", HW_SAME, AT(pp),
     "Also -pp: prefill of prompts of N tokens; 0: none"},
    {NULL, "n-gen", 'n', "N,N,...", HW_TEXT_OR_NONE, "128", HW_SAME, AT(tg),
     "Also -tg: decode of N tokens; 0: none"},
    {NULL, "batch-size", 'b', "N,N,...", HW_TEXT_OR_NONE, "1", HW_SAME, AT(batches), "Sequences at once"},
    {NULL, "n-depth", 'd', "N,N,...", HW_TEXT_OR_NONE, "0", HW_SAME, AT(depths),
     "Tokens in the cache before the test begins"},
    {NULL, "repetitions", 'r', "N", HW_WHOLE("repetitions", 1, HW_BENCH_MAX_REPEATS), "5", HW_SAME,
     AT(repeats), "Repetitions of every test, after a warm-up run"},
    {NULL, "peaks", 0, NULL, HW_FLAG, "false", HW_SAME, AT(peaks),
     "Before each repetition measure the peak of the same ranks and threads: memory reads, multiply-adds, "
     "matrix units and libraries, MPI's or NCCL's all-reduce; and print results as shares of it"},
    {NULL, "csv", 0, NULL, HW_FLAG, "false", 0, AT(csv), "All figures as CSV, one line per test"},
    {NULL, "md", 0, NULL, HW_FLAG, "false", 0, AT(markdown), "Tables in Markdown"},
};
#undef AT

static const char *settle_own(void *values)
{
    const hw_bench_settings *a = values;
    return a->csv + a->markdown + a->report.json > 1 ? "--csv, --md and --json: give one of them" : NULL;
}

static const hw_setting_group own_group =
    HW_OWN_GROUP("Tests: every combination of the lists", 1, own_rows, settle_own);

static const char doc[] =
    "Measures tokens per second. With --load-format dummy it needs only a config.json.\v"
    "Repetitions of all tests take turns. Those in which a rank had less than 97 % of its cores are dropped, "
    "and their number is printed.\n\n"
    "  mpirun -np 2 headway bench -m models/shapes/gpt2-124m --load-format dummy --dtype bfloat16 -pp 512 "
    "-tg 128 -b 1,8 -d 0,256 --peaks";

/* llama-bench has the options -pp and -tg, which argp would read as two letters each. */
static void spell_out(int argc, char **argv)
{
    static char pp[] = "--n-prompt", tg[] = "--n-gen";
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "-pp")) argv[i] = pp;
        else if (!strcmp(argv[i], "-tg")) argv[i] = tg;
}

/* ---- measuring */

/* Collective. */
static hw_status one_window(hw_bench *b, int test, int repeat, const hw_bench_start *start)
{
    hw_bench_window *w = hw_bench_window_at(b, test, repeat);
    double busy = 1;
    hw_status st = HW_OK;
    if (b->limits) st = hw_limits_measure(b->limits, b, &b->tests[test], w, &busy);
    if (!st) st = hw_bench_run_once(b, &b->tests[test], start, &w->run, hw_bench_steps_at(b, test, repeat));
    if (busy < w->run.busy) w->run.busy = busy;
    w->kept = w->run.busy >= HW_BENCH_LEAST_BUSY;
    return st;
}

/* Collective. The tests of one depth: one warm-up run of each, then all of them in turn. */
static hw_status measure_depth(hw_bench *b, int depth)
{
    hw_bench_start start;
    hw_status st = hw_bench_start_make(&start, b, depth);
    for (int r = -1; r < b->settings->repeats && !st; r++)
        for (int i = 0; i < b->n_tests && !st; i++)
            if (b->tests[i].depth == depth) st = one_window(b, i, r < 0 ? 0 : r, &start);
    hw_bench_start_free(&start);
    return st;
}

static hw_status measure(hw_bench *b)
{
    hw_status st = HW_OK;
    for (int i = 0; i < b->n_tests && !st; i++) {
        bool seen = false;
        for (int j = 0; j < i; j++) seen = seen || b->tests[j].depth == b->tests[i].depth;
        if (!seen) st = measure_depth(b, b->tests[i].depth);
    }
    return st;
}

/* ---- the command */

static hw_status make_room(hw_bench *b)
{
    const size_t n = (size_t)b->n_tests * (size_t)b->settings->repeats;
    b->windows = calloc(n, sizeof *b->windows);
    b->steps = calloc(n * (size_t)b->longest_decode + 1, sizeof *b->steps);
    b->tokens = calloc((size_t)hw_bench_longest(b), sizeof *b->tokens);
    return b->windows && b->steps && b->tokens
               ? HW_OK
               : hw_fail(b->err, HW_ERR_NO_MEMORY, "bench: no memory for %zu runs", n);
}

static hw_status check_room(const hw_bench *b)
{
    const hw_engine_info i = hw_engine_info_get(b->s->engine);
    const int longest = hw_bench_longest(b);
    if (longest > i.max_seq_len)
        return hw_fail(b->err, HW_ERR_INVALID, "the longest test has %d positions, the context holds %d",
                       longest, i.max_seq_len);
    for (int t = 0; t < b->n_tests; t++) {
        if (b->tests[t].n_seqs > i.max_batch_rows)
            return hw_fail(b->err, HW_ERR_INVALID,
                           "a step of %d sequences is asked for, but has at most %d rows; raise "
                           "--max-num-batched-tokens",
                           b->tests[t].n_seqs, i.max_batch_rows);
        if (b->tests[t].n_seqs > 1 && i.kv_policy == HW_KV_OFF)
            return hw_fail(b->err, HW_ERR_INVALID,
                           "--kv-cache off runs one sequence at a time; omit --batch-size");
    }
    return HW_OK;
}

static hw_status prepare(hw_bench *b, hw_options *options, hw_bench_settings *a)
{
    const hw_scheduler_options no_text = {.tokenizer = NULL};
    hw_engine_options *o = &a->engine.options;
    hw_status st = hw_bench_list_tests(b);
    if (!st) st = hw_session_start(b->s, options, b->err);
    if (st) return st;
    if (!o->max_seq_len) o->max_seq_len = hw_bench_longest(b);
    o->max_seqs = hw_bench_most_seqs(b);
    o->prefix_sharing = false; /* all repeats have the same prompt, and each must compute it */
    if ((st = hw_session_open_engine(b->s, &a->engine, b->err))) return st;
    st = check_room(b);
    if (!st) st = make_room(b);
    if (!st) st = hw_scheduler_create(&b->scheduler, b->s->engine, &no_text, b->err);
    st = hw_comm_agree(b->s->comm, st, b->err);
    b->host = hw_processor_describe();
    b->judged = hw_engine_device(b->s->engine)->host_memory;
    return st || !a->peaks ? st : hw_limits_create(&b->limits, b);
}

static hw_status print_report(const hw_bench *b)
{
    if (b->settings->report.json) return hw_bench_print_json(b);
    if (b->settings->csv) return hw_bench_print_csv(b);
    return hw_bench_print_table(b, b->settings->markdown);
}

hw_status hw_cmd_bench(int argc, char **argv, hw_error *err)
{
    hw_bench_settings a = {0};
    hw_session s = {0};
    hw_bench b = {.s = &s, .settings = &a, .err = err};
    hw_options o = {
        .doc = doc,
        .groups = {HW_TAKES(a, model), HW_TAKES(a, engine), HW_TAKES(a, report), {&own_group, &a}}};
    spell_out(argc, argv);
    hw_options_parse(&o, argc, argv);
    hw_status st = prepare(&b, &o, &a);
    if (!st) {
        if (s.rank == 0) hw_build_warn_if_changed();
        st = measure(&b);
        hw_session_end_if_alone(&s, st, err);
        if (!st && s.rank == 0) st = print_report(&b);
        st = hw_comm_agree(s.comm, st, err);
    }
    hw_limits_destroy(b.limits);
    hw_scheduler_destroy(b.scheduler);
    hw_session_close(&s);
    free(b.windows);
    free(b.steps);
    free(b.tokens);
    return st;
}
