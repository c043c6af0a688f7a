/* headway bench: tokens per second of prefill (pp) and decode (tg) as llama-bench lists them, and with --anchors as a share of what the same
 * ranks and threads can do at most, measured in turn with them. */
#include <stdlib.h>
#include <string.h>

#include "launch/bench/bench.h"
#include "launch/commands.h"

enum { OPT_ANCHORS = 512, OPT_CSV, OPT_MARKDOWN };

static error_t parse_own(int key, char *arg, struct argp_state *state)
{
    hw_args *a = state->input;
    switch (key) {
    case 'p': a->pp = arg; break;
    case 'n': a->tg = arg; break;
    case 'b': a->batches = arg; break;
    case 'd': a->depths = arg; break;
    case 'r': a->repeats = (int)hw_args_int("--repetitions", arg, 1, HW_BENCH_MAX_REPEATS, state); break;
    case OPT_ANCHORS: a->anchors = true; break;
    case OPT_CSV: a->csv = true; break;
    case OPT_MARKDOWN: a->markdown = true; break;
    case ARGP_KEY_END:
        if (a->csv + a->markdown + a->json > 1) argp_error(state, "--csv, --md and --json: give one of them");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option own_options[] = {
    {0, 0, 0, 0, "Tests: every combination of the lists", 1},
    {"n-prompt", 'p', "N,N,...", 0, "Also -pp: prefill of prompts of N tokens; 0: none (512)", 0},
    {"n-gen", 'n', "N,N,...", 0, "Also -tg: decode of N tokens; 0: none (128)", 0},
    {"batch-size", 'b', "N,N,...", 0, "Sequences at once (1)", 0},
    {"n-depth", 'd', "N,N,...", 0, "Tokens that are in the cache before the test begins (0)", 0},
    {"repetitions", 'r', "N", 0, "Repetitions of every test, after one to warm up (5)", 0},
    {"anchors", OPT_ANCHORS, 0, 0,
     "Before each repetition measure what the same ranks and threads can do: memory reads, multiply-adds, "
     "matrix units and libraries, MPI's or NCCL's all-reduce; and print results as shares of it",
     0},
    {"csv", OPT_CSV, 0, 0, "One line per test with everything in it", 0},
    {"md", OPT_MARKDOWN, 0, 0, "Tables in Markdown", 0},
    {0}};
static const struct argp own = {
    .options = own_options,
    .parser = parse_own,
    .doc = "Measures tokens per second. With --load-format dummy a config.json is all it needs.\v"
           "Repetitions of all tests take turns. One in which a rank had less than 97 % of its cores is left "
           "out, "
           "and their number is printed.\n\n"
           "  mpirun -np 2 headway bench -m models/shapes/gpt2-124m --load-format dummy --dtype bfloat16 "
           "-pp 512 -tg 128 -b 1,8 -d 0,256 --anchors"};

/* -pp and -tg are words to whoever comes from llama-bench, and two letters to argp. */
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

/* Collective. The tests of one depth: one run of each to warm up, then all of them in turn. */
static hw_status measure_depth(hw_bench *b, int depth)
{
    hw_bench_start start;
    hw_status st = hw_bench_start_make(&start, b, depth);
    for (int r = -1; r < b->args->repeats && !st; r++)
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
    const size_t n = (size_t)b->n_tests * (size_t)b->args->repeats;
    b->windows = calloc(n, sizeof *b->windows);
    b->steps = calloc(n * (size_t)b->longest_decode + 1, sizeof *b->steps);
    return b->windows && b->steps ? HW_OK
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
                           "a step of %d sequences is wanted, and has at most %d rows; raise "
                           "--max-num-batched-tokens",
                           b->tests[t].n_seqs, i.max_batch_rows);
        if (b->tests[t].n_seqs > 1 && i.kv_policy == HW_KV_OFF)
            return hw_fail(b->err, HW_ERR_INVALID,
                           "--kv-cache off is measured with one sequence at a time; leave out --batch-size");
    }
    return HW_OK;
}

static hw_status prepare(hw_bench *b, hw_args *a)
{
    hw_status st = hw_bench_list_tests(b);
    if (!st) st = hw_session_start(b->s, a, b->err);
    if (st) return st;
    if (!a->engine.max_seq_len) a->engine.max_seq_len = hw_bench_longest(b);
    a->engine.max_seqs = hw_bench_most_seqs(b);
    a->engine.prefix_sharing = false; /* repeats have one prompt, and every one of them is to run */
    if ((st = hw_session_open_engine(b->s, a, b->err))) return st;
    st = check_room(b);
    if (!st) st = make_room(b);
    st = hw_comm_agree(b->s->comm, st, b->err);
    b->host = hw_processor_describe();
    b->judged = hw_engine_device(b->s->engine)->host_memory;
    return st || !a->anchors ? st : hw_limits_create(&b->limits, b);
}

static hw_status print_report(const hw_bench *b)
{
    if (b->args->json) return hw_bench_print_json(b);
    if (b->args->csv) return hw_bench_print_csv(b);
    return hw_bench_print_table(b, b->args->markdown);
}

hw_status hw_cmd_bench(int argc, char **argv, hw_error *err)
{
    static const struct argp *const groups[] = {&hw_args_model, &hw_args_engine, &hw_args_report, NULL};
    hw_args a = hw_args_defaults();
    hw_session s = {0};
    hw_bench b = {.s = &s, .args = &a, .err = err};
    spell_out(argc, argv);
    hw_args_parse(&a, &own, groups, argc, argv);
    hw_status st = prepare(&b, &a);
    if (!st) {
        st = measure(&b);
        hw_session_end_if_alone(&s, st, err);
        if (!st && s.rank == 0) st = print_report(&b);
        st = hw_comm_agree(s.comm, st, err);
    }
    hw_limits_destroy(b.limits);
    hw_session_close(&s);
    free(b.windows);
    free(b.steps);
    return st;
}
