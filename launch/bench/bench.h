/* headway bench: tests (what to run), runs (one repetition of one test), limits (what the machine can do), results, and their reports. A
 * window is one run together with the limits measured just before it: what else the machine does falls on both. */
#ifndef HW_LAUNCH_BENCH_BENCH_H
#define HW_LAUNCH_BENCH_BENCH_H

#include "kernels/peaks.h"
#include "launch/report/machine.h"
#include "launch/report/statistics.h"
#include "launch/session.h"

enum { HW_BENCH_MAX_TESTS = 256, HW_BENCH_MAX_REPEATS = 1000 };

/* A window in which a rank had less of its cores than this is not counted: somebody else had them. */
#define HW_BENCH_LEAST_BUSY 0.97

/* Tokens of `n_seqs` sequences at once, after `depth` tokens each that are in the cache already: prefill of
 * prompts of n tokens, or decode, n steps of one token each. A decode at depth 0 begins after a prompt of one
 * token. Plain. */
typedef struct hw_bench_test {
    bool decode;
    int n, n_seqs, depth;
    char name[48]; /* as llama-bench writes it: "pp512", "tg128 b8 @ d4096" */
} hw_bench_test;

/* Where the time of a run goes, on this rank: in ops, in collectives (with the waiting for other ranks), and
 * what is left. */
typedef enum hw_bench_site {
    HW_BENCH_EMBED,
    HW_BENCH_QKV,
    HW_BENCH_ATTENTION,
    HW_BENCH_WO,
    HW_BENCH_MLP,
    HW_BENCH_HEAD,
    HW_BENCH_NORMS, /* and residuals */
    HW_BENCH_EMBED_REDUCE,
    HW_BENCH_ATTN_REDUCE,
    HW_BENCH_MLP_REDUCE,
    HW_BENCH_SAMPLE,
    HW_BENCH_REST,
    HW_BENCH_N_SITES
} hw_bench_site;

const char *hw_bench_site_name(hw_bench_site site);

/* One repetition. `steps` of a decode are kept beside it. Plain. */
typedef struct hw_bench_run {
    double seconds;
    double first_token;            /* prefill: seconds from the start to a sequence's first token, mean */
    double site[HW_BENCH_N_SITES]; /* seconds */
    double flops;                  /* of all ranks */
    double bytes;                  /* weights and cache that all ranks read and write */
    double launches;               /* kernels started per step; 0: not a device that starts any */
    double busy;                   /* cpu time over wall time, of the rank that had least */
} hw_bench_run;

typedef struct hw_bench_window {
    hw_bench_run run;
    double limit[HW_N_PEAKS];   /* all ranks together; 0: this machine has no such figure */
    double all_reduce, library; /* seconds, for the rows of one step; 0: one rank. See hw_bench_library */
    bool kept;
} hw_bench_window;

typedef struct hw_bench_settings {
    hw_model_settings model;
    hw_engine_settings engine;
    hw_report_settings report;
    const char *pp, *tg, *batches, *depths; /* lists of numbers */
    int repeats;
    bool peaks, csv, markdown;
} hw_bench_settings;

/* Filled in by commands/bench.c. */
typedef struct hw_bench {
    hw_session *s;
    const hw_bench_settings *settings;
    hw_error *err;
    hw_processor host;
    hw_bench_test tests[HW_BENCH_MAX_TESTS];
    int n_tests;
    hw_bench_window *windows; /* [n_tests, repeats] */
    double *steps;            /* [n_tests, repeats, longest_decode] seconds of each step */
    int longest_decode;
    struct hw_scheduler *scheduler;
    int32_t *tokens;          /* [hw_bench_longest] of the prompt that is being made */
    struct hw_limits *limits; /* NULL without --peaks */
    bool judged;              /* whether busy means anything: the device is the host's cores */
} hw_bench;

hw_bench_window *hw_bench_window_at(const hw_bench *b, int test, int repeat);
double *hw_bench_steps_at(const hw_bench *b, int test, int repeat);

/* ---- tests.c: Local, before there is an engine */

/* Every combination of the lists in the arguments, the depth changing last. Errors: HW_ERR_INVALID. */
hw_status hw_bench_list_tests(hw_bench *b);

/* Sequences and positions that the tests need at once. */
int hw_bench_most_seqs(const hw_bench *b);
int hw_bench_longest(const hw_bench *b);

/* Rows of one step of a test: of the largest one, for prefill. */
int hw_bench_step_rows(const hw_bench *b, const hw_bench_test *t);

/* ---- run.c */

/* What runs of one depth start from, so that each prefix is computed once for all of them. */
typedef struct hw_bench_start {
    int depth, n;
    struct hw_request **prefixes; /* [n] kept; none at depth 0 */
} hw_bench_start;

/* Collective. hw_bench_start_free in any case. */
hw_status hw_bench_start_make(hw_bench_start *out, hw_bench *b, int depth);
void hw_bench_start_free(hw_bench_start *s);

/* Collective. Runs a test once. `steps` [n]: of a decode, else not touched. Errors: HW_ERR_CACHE_FULL when its
 * sequences cannot run all at once; those of requests and of the scheduler. */
hw_status hw_bench_run_once(hw_bench *b, const hw_bench_test *t, const hw_bench_start *start,
                            hw_bench_run *out, double *steps);

/* ---- limits.c */

typedef struct hw_limits hw_limits;

/* Collective. Errors: HW_ERR_UNSUPPORTED where the device has no peaks, HW_ERR_NO_MEMORY. On HW_OK the
 * caller owns *out. */
hw_status hw_limits_create(hw_limits **out, const hw_bench *b);
void hw_limits_destroy(hw_limits *l); /* NULL is fine */

/* Collective. What matters to a test of this kind, into w->limit, w->all_reduce and w->library. *busy as
 * in hw_bench_run. */
hw_status hw_limits_measure(hw_limits *l, const hw_bench *b, const hw_bench_test *t, hw_bench_window *w,
                            double *busy);

/* Collective. Adds up `n` numbers over the ranks, in place; `least` [may be NULL] becomes the least of all. */
hw_status hw_bench_over_ranks(const hw_bench *b, double *sums, int n, double *least);

/* How much of its cores this process had since a moment before. */
typedef struct hw_busy {
    uint64_t wall_ns, thread_ns, process_ns;
} hw_busy;
hw_busy hw_busy_now(void);
/* `n_threads` 0: the calling thread alone. */
double hw_busy_since(hw_busy start, int n_threads);

/* ---- results.c: Local */

/* Medians over the windows that count (all of them when none was undisturbed); ratios are taken window by
 * window. Plain. */
typedef struct hw_bench_result {
    int n_windows, n_kept;
    hw_summary rate;                        /* tokens per second */
    double step_mean, step_p50, step_p99;   /* decode: seconds per step */
    double first_token;                     /* prefill, seconds */
    double bytes_rate, flop_rate;           /* per second */
    double launches;                        /* kernels per step; 0: none */
    double limit[HW_N_PEAKS];               /* 0: not measured */
    double share[HW_N_PEAKS];               /* of the limit; 0: not measured */
    double all_reduce, library, of_library; /* seconds, seconds, ratio; 0: not measured */
    double site[HW_BENCH_N_SITES];          /* share of the time */
} hw_bench_result;

hw_bench_result hw_bench_conclude(const hw_bench *b, int test);

/* Whose all-reduce stands beside ours: "mpi", of float32 in host memory; or that of the device's library, such as
 * "nccl", of activations in its memory. */
const char *hw_bench_library(const hw_bench *b);

/* ---- table.c, json.c: on rank 0 */

hw_status hw_bench_print_table(const hw_bench *b, bool markdown);
hw_status hw_bench_print_csv(const hw_bench *b);
hw_status hw_bench_print_json(const hw_bench *b);

const char *hw_peak_name(hw_peak a, const hw_bench *b); /* for people */
const char *hw_peak_key(hw_peak a);                     /* for programs */

#endif
