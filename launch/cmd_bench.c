/* headway bench: tokens per second of prefill (pp) and decode (tg), and with --anchors also as a share of what the same ranks read from
 * memory in the same minute. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/anchors.h"
#include "launch/commands.h"
#include "launch/output.h"
#include "launch/session.h"
#include "runtime/base/clock.h"

enum { MAX_TESTS = 32, MAX_REPEATS = 1000, ANCHOR_BYTES = 256 << 20 };

enum { OPT_ANCHORS = 512 };

static error_t parse_own(int key, char *arg, struct argp_state *state)
{
    hw_args *a = state->input;
    switch (key) {
    case 'P': a->pp = arg; break;
    case 'n': a->tg = arg; break;
    case 'r': a->repeats = (int)hw_args_int("--repetitions", arg, 1, MAX_REPEATS, state); break;
    case OPT_ANCHORS: a->anchors = true; break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_option own_options[] = {
    {"n-prompt", 'P', "N,N,...", 0, "Prefill tests: tokens of a prompt; 0: none (512)", 0},
    {"n-gen", 'n', "N,N,...", 0, "Decode tests: tokens after a prompt of one; 0: none (128)", 0},
    {"repetitions", 'r', "N", 0, "Repeats of every test, after one to warm up (5)", 0},
    {"anchors", OPT_ANCHORS, 0, 0,
     "Also read memory plainly and with prefetching, on the same ranks, between the repeats", 0},
    {0}};
static const struct argp own = {
    .options = own_options,
    .parser = parse_own,
    .doc = "Measures tokens per second. With --load-format dummy a config.json is all it needs.\v"
           "  mpirun -np 2 headway bench -m models/shapes/gpt2-124m --load-format dummy --dtype bfloat16 "
           "--anchors"};

typedef struct test {
    bool decode;
    int n;                       /* tokens */
    double seconds[MAX_REPEATS]; /* of each repeat */
    double plain[MAX_REPEATS],
        prefetched[MAX_REPEATS]; /* bytes per second of all ranks, beside each repeat */
} test;

typedef struct bench {
    hw_session *s;
    const hw_args *args;
    test *tests;
    int n_tests;
    hw_device *anchor_device; /* the same threads as the model's */
    hw_anchors *anchors;
    hw_error *err;
} bench;

/* ---- what to measure */

static hw_status add_tests(bench *b, const char *list, bool decode)
{
    for (const char *p = list; *p;) {
        char *end;
        long n = strtol(p, &end, 10);
        if (end == p || n < 0 || n > 1 << 24 || (*end && *end != ','))
            return hw_fail(b->err, HW_ERR_INVALID, "'%s' is not a list of token counts, as in 128,512", list);
        if (n && b->n_tests == MAX_TESTS)
            return hw_fail(b->err, HW_ERR_INVALID, "more than %d tests", MAX_TESTS);
        if (n) b->tests[b->n_tests++] = (test){.decode = decode, .n = (int)n};
        p = *end ? end + 1 : end;
    }
    return HW_OK;
}

static int longest(const bench *b)
{
    int n = 1;
    for (int i = 0; i < b->n_tests; i++)
        if (b->tests[i].n + b->tests[i].decode > n) n = b->tests[i].n + b->tests[i].decode;
    return n;
}

/* ---- measuring */

static hw_status step(bench *b, hw_batch *batch, hw_sequence *seq, const int32_t *tokens, int n)
{
    const hw_sampling greedy = {0};
    int32_t next;
    hw_batch_clear(batch);
    hw_status st = hw_batch_add(batch, seq, tokens, n, HW_LOGITS_LAST, b->err);
    if (!st) st = hw_engine_step(b->s->engine, batch, b->err);
    return st ? st : hw_engine_sample(b->s->engine, &greedy, 0, &next, b->err);
}

/* Token ids without meaning, different from each other: a table whose row is in cache already would be too kind. */
static int32_t token(const bench *b, int i)
{
    return (int32_t)((unsigned)i * 2654435761u % (unsigned)hw_engine_info_get(b->s->engine).vocab_size);
}

static hw_status run_once(bench *b, const test *t, double *seconds)
{
    hw_sequence *seq = NULL;
    hw_batch *batch = NULL;
    int chunk = hw_engine_info_get(b->s->engine).max_batch_rows, n = t->decode ? 1 : t->n;
    int32_t *tokens = malloc((size_t)t->n * sizeof *tokens);
    hw_status st = tokens ? HW_OK : hw_fail(b->err, HW_ERR_NO_MEMORY, "no memory for %d tokens", t->n);
    if (!st) st = hw_sequence_create(&seq, b->s->engine, 0, b->err);
    if (!st) st = hw_batch_create(&batch, b->s->engine, b->err);
    for (int i = 0; i < t->n && !st; i++) tokens[i] = token(b, i);
    if (!st && t->decode) st = step(b, batch, seq, tokens, 1);
    if (!st) st = hw_comm_agree(b->s->comm, st, b->err); /* all ranks start together */
    uint64_t start = hw_clock_ns();
    if (t->decode)
        for (int i = 0; i < t->n && !st; i++) st = step(b, batch, seq, tokens + i, n);
    else
        for (int i = 0; i < t->n && !st; i += chunk)
            st = step(b, batch, seq, tokens + i, t->n - i < chunk ? t->n - i : chunk);
    *seconds = hw_seconds_since(start);
    hw_batch_destroy(batch);
    hw_sequence_destroy(seq);
    free(tokens);
    return st;
}

/* Collective. Sum over all ranks of what each reads while the others read too. */
static hw_status read_memory(bench *b, bool prefetch, double *bytes_per_second)
{
    hw_tag tag = {.site = HW_SITE_CONTROL};
    int n = hw_comm_n_ranks(b->s->comm);
    hw_status st = hw_comm_agree(b->s->comm, HW_OK, b->err);
    if (st) return st;
    double mine = hw_anchors_read(b->anchors, prefetch), *all = malloc((size_t)n * sizeof *all);
    st = all ? hw_comm_all_gather(b->s->comm, tag, &mine, sizeof mine, all, b->err)
             : hw_fail(b->err, HW_ERR_NO_MEMORY, "anchors: no memory");
    *bytes_per_second = 0;
    for (int i = 0; i < n && !st; i++) *bytes_per_second += all[i];
    free(all);
    return st;
}

/* Tests, repeats and anchors take turns, so that what else the machine does falls on all alike. */
static hw_status measure(bench *b)
{
    hw_status st = HW_OK;
    double unused;
    for (int i = 0; i < b->n_tests && !st; i++) st = run_once(b, &b->tests[i], &unused);
    for (int r = 0; r < b->args->repeats && !st; r++)
        for (int i = 0; i < b->n_tests && !st; i++) {
            test *t = &b->tests[i];
            if (b->anchors && !(st = read_memory(b, false, &t->plain[r])))
                st = read_memory(b, true, &t->prefetched[r]);
            if (!st) st = run_once(b, t, &t->seconds[r]);
        }
    return st;
}

/* ---- telling */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct summary {
    double mean, deviation, median;
} summary;

static summary summarise(const double *values, int n)
{
    summary s = {0};
    double sorted[MAX_REPEATS];
    memcpy(sorted, values, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    s.median = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
    for (int i = 0; i < n; i++) s.mean += values[i] / n;
    for (int i = 0; i < n; i++)
        s.deviation += (values[i] - s.mean) * (values[i] - s.mean) / (n > 1 ? n - 1 : 1);
    s.deviation = sqrt(s.deviation);
    return s;
}

/* Bytes that all ranks must read for one decode step: their weights, and the keys and values of half the positions on average. */
static double step_bytes(const bench *b, const test *t)
{
    const hw_engine_info i = hw_engine_info_get(b->s->engine);
    double kv_row = 2.0 * i.n_layers * i.n_kv_heads * i.head_dim * (double)hw_dtype_size(i.kv_dtype);
    return (double)i.step_weight_bytes * i.n_ranks + kv_row * t->n / 2;
}

typedef struct result {
    char name[16];
    summary rate, plain, prefetched; /* tokens per second; share of the anchors, repeat by repeat */
    double bytes_per_second;         /* decode: weights and cache read */
} result;

static result conclude(const bench *b, const test *t)
{
    result out = {.bytes_per_second = 0};
    double rate[MAX_REPEATS], plain[MAX_REPEATS], prefetched[MAX_REPEATS];
    int n = b->args->repeats;
    snprintf(out.name, sizeof out.name, "%s%d", t->decode ? "tg" : "pp", t->n);
    for (int r = 0; r < n; r++) {
        rate[r] = t->n / t->seconds[r];
        double read = step_bytes(b, t) * rate[r];
        plain[r] = t->plain[r] > 0 ? read / t->plain[r] : 0;
        prefetched[r] = t->prefetched[r] > 0 ? read / t->prefetched[r] : 0;
    }
    out.rate = summarise(rate, n);
    out.plain = summarise(plain, n);
    out.prefetched = summarise(prefetched, n);
    out.bytes_per_second = t->decode ? step_bytes(b, t) * out.rate.median : 0;
    return out;
}

static hw_status print_table(const bench *b)
{
    const hw_engine_info i = hw_engine_info_get(b->s->engine);
    char params[16], size[16];
    hw_status st = hw_print(
        b->err, "%s, %s parameters, %s %s per rank; %d rank%s x %d thread%s (%s), %s; %d repeats\n\n",
        i.architecture, hw_format_count(params, (double)i.n_params),
        hw_format_bytes(size, (double)i.weight_bytes), hw_dtype_name(i.dtype), i.n_ranks,
        i.n_ranks > 1 ? "s" : "", i.n_threads, i.n_threads > 1 ? "s" : "", i.comm, i.device,
        b->args->repeats);
    if (!st)
        st = hw_print(
            b->err, "| test | tokens/s | ms per token | GB/s read |%s\n| --- | ---: | ---: | ---: |%s\n",
            b->anchors ? " of plain read | of prefetched read |" : "", b->anchors ? " ---: | ---: |" : "");
    for (int t = 0; t < b->n_tests && !st; t++) {
        result r = conclude(b, &b->tests[t]);
        st = hw_print(b->err, "| %s | %.1f ± %.1f | %.3f |", r.name, r.rate.mean, r.rate.deviation,
                      1e3 / r.rate.median);
        if (!st && b->tests[t].decode) st = hw_print(b->err, " %.1f |", r.bytes_per_second * 1e-9);
        else if (!st) st = hw_print(b->err, " |");
        if (!st && b->anchors && b->tests[t].decode)
            st = hw_print(b->err, " %.0f %% | %.0f %% |", 100 * r.plain.median, 100 * r.prefetched.median);
        else if (!st && b->anchors) st = hw_print(b->err, " | |");
        if (!st) st = hw_print(b->err, "\n");
    }
    return st;
}

static json_t *numbers(const double *values, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(list, json_real(values[i]));
    return list;
}

static hw_status print_json_report(const bench *b)
{
    const hw_engine_info i = hw_engine_info_get(b->s->engine);
    json_t *tests = json_array();
    for (int t = 0; t < b->n_tests; t++) {
        const test *one = &b->tests[t];
        result r = conclude(b, one);
        json_t *entry = json_pack("{s:s, s:i, s:f, s:f, s:f, s:o}", "test", r.name, "tokens", one->n,
                                  "tokens_per_second", r.rate.mean, "tokens_per_second_deviation",
                                  r.rate.deviation, "tokens_per_second_median", r.rate.median, "seconds",
                                  numbers(one->seconds, b->args->repeats));
        if (one->decode) json_object_set_new(entry, "bytes_read_per_step", json_real(step_bytes(b, one)));
        if (b->anchors) {
            json_object_set_new(entry, "plain_read_bytes_per_second", numbers(one->plain, b->args->repeats));
            json_object_set_new(entry, "prefetched_read_bytes_per_second",
                                numbers(one->prefetched, b->args->repeats));
        }
        if (b->anchors && one->decode) {
            json_object_set_new(entry, "share_of_plain_read", json_real(r.plain.median));
            json_object_set_new(entry, "share_of_prefetched_read", json_real(r.prefetched.median));
        }
        json_array_append_new(tests, entry);
    }
    return hw_print_json(json_pack("{s:s, s:s, s:I, s:I, s:s, s:i, s:i, s:s, s:s, s:f, s:o}", "model",
                                   b->args->model, "architecture", i.architecture, "parameters",
                                   (json_int_t)i.n_params, "weight_bytes_per_rank",
                                   (json_int_t)i.weight_bytes, "dtype", hw_dtype_name(i.dtype), "ranks",
                                   i.n_ranks, "threads", i.n_threads, "backend", i.comm, "device", i.device,
                                   "load_seconds", i.load_seconds, "tests", tests),
                         b->err);
}

/* ---- the command */

static hw_status prepare(bench *b, hw_args *a)
{
    b->tests = calloc(MAX_TESTS, sizeof *b->tests);
    hw_status st = b->tests ? HW_OK : hw_fail(b->err, HW_ERR_NO_MEMORY, "bench: no memory");
    if (!st) st = add_tests(b, a->pp ? a->pp : "512", false);
    if (!st) st = add_tests(b, a->tg ? a->tg : "128", true);
    if (!st && !b->n_tests)
        st = hw_fail(b->err, HW_ERR_INVALID, "nothing to measure: --n-prompt and --n-gen are both 0");
    if (!st) st = hw_session_start(b->s, a, b->err);
    if (st) return st;
    if (!a->engine.max_seq_len) a->engine.max_seq_len = longest(b);
    a->engine.prefix_sharing = false; /* repeats have one prompt, and every one of them is to run */
    if ((st = hw_session_open_engine(b->s, a, b->err))) return st;
    if (longest(b) > hw_engine_info_get(b->s->engine).max_seq_len)
        return hw_fail(b->err, HW_ERR_INVALID, "the longest test has %d positions, the context holds %d",
                       longest(b), hw_engine_info_get(b->s->engine).max_seq_len);
    if (!a->anchors) return HW_OK;
    if (!strcmp(a->engine.device, "cuda") || strchr(a->engine.device, '/'))
        return hw_fail(
            b->err, HW_ERR_UNSUPPORTED,
            "--anchors measures the host's memory, and the model runs on --device %s; leave it out",
            a->engine.device);
    st = hw_cpu_device_create(&b->anchor_device, a->engine.n_threads, NULL, b->err);
    if (!st) st = hw_anchors_create(&b->anchors, b->anchor_device, ANCHOR_BYTES, b->err);
    return hw_comm_agree(b->s->comm, st, b->err);
}

hw_status hw_cmd_bench(int argc, char **argv, hw_error *err)
{
    static const struct argp *const groups[] = {&hw_args_model, &hw_args_engine, &hw_args_report, NULL};
    hw_args a = hw_args_defaults();
    hw_session s = {0};
    bench b = {.s = &s, .args = &a, .err = err};
    hw_args_parse(&a, &own, groups, argc, argv);
    hw_status st = prepare(&b, &a);
    if (!st) {
        st = measure(&b);
        hw_session_end_if_alone(&s, st, err);
        if (!st && s.rank == 0) st = a.json ? print_json_report(&b) : print_table(&b);
        st = hw_comm_agree(s.comm, st, err);
    }
    hw_anchors_destroy(b.anchors);
    hw_device_destroy(b.anchor_device);
    hw_session_close(&s);
    free(b.tests);
    return st;
}
