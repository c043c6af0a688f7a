/* Results for people, as a table of text or of Markdown, and for programs as CSV. */
#include <stdlib.h>
#include <string.h>

#include "launch/bench/bench.h"
#include "launch/report/output.h"
#include "launch/report/table.h"
#include "launch/version.h"

const char *hw_peak_name(hw_peak a, const hw_bench *b)
{
    const bool cpu = hw_engine_device(b->s->engine)->host_memory;
    switch (a) {
    case HW_PEAK_READ: return cpu ? "plain read" : "read kernel";
    case HW_PEAK_READ_PREFETCHED: return "prefetched read";
    case HW_PEAK_FMA: return "float32 FMA peak";
    case HW_PEAK_MATRIX: return "bfloat16 peak";
    case HW_PEAK_PRODUCT_F32: return cpu ? "oneDNN float32" : "cuBLASLt float32";
    case HW_PEAK_PRODUCT_BF16: return cpu ? "oneDNN bfloat16" : "cuBLASLt bfloat16";
    case HW_N_PEAKS: break;
    }
    return "";
}

const char *hw_peak_key(hw_peak a)
{
    static const char *const keys[HW_N_PEAKS] = {"plain_read",      "prefetched_read", "fma_float32",
                                                 "matrix_bfloat16", "product_float32", "product_bfloat16"};
    return keys[a];
}

/* ---- for people */

enum { FIRST_SHARE = 12 }; /* column */

static void put_percent(hw_table *t, double share)
{
    if (share > 0) hw_table_text(t, "%.0f %%", 100 * share);
    else hw_table_text(t, "%s", "");
}

static void put_positive(hw_table *t, double x, const char *format)
{
    char text[32];
    snprintf(text, sizeof text, x > 0 ? format : "", x);
    hw_table_text(t, "%s", text);
}

static void fill_row(hw_table *t, const hw_bench *b, int test)
{
    const hw_bench_test *what = &b->tests[test];
    const hw_bench_result r = hw_bench_conclude(b, test);
    hw_table_text(t, "%s", what->name);
    hw_table_text(t, "%.2f ± %.2f", r.rate.mean, r.rate.deviation);
    put_positive(t, 1e3 * r.step_mean, "%.3f");
    put_positive(t, 1e3 * r.step_p50, "%.3f");
    put_positive(t, 1e3 * r.step_p99, "%.3f");
    put_positive(t, 1e3 * r.first_token, "%.2f");
    put_positive(t, what->decode ? 1e-9 * r.bytes_rate : 0, "%.1f");
    put_positive(t, what->decode ? 0 : 1e-9 * r.flop_rate, "%.1f");
    put_positive(t, r.launches, "%.0f");
    put_positive(t, r.launches / hw_engine_info_get(b->s->engine).n_layers, "%.1f");
    put_positive(t, 1e6 * r.all_reduce, "%.2f");
    put_positive(t, r.of_library, "%.2f");
    for (int a = 0; a < HW_N_PEAKS; a++) put_percent(t, r.share[a]);
    hw_table_text(t, "%d of %d", r.n_kept, r.n_windows);
}

static void print_main(FILE *f, const hw_bench *b, bool markdown)
{
    char labels[HW_N_PEAKS][48];
    hw_column columns[] = {{"", "test"},
                           {"", "tokens/s"},
                           {"", "ms/step mean"},
                           {"", "p50"},
                           {"", "p99"},
                           {"", "first token ms"},
                           {"", "GB/s"},
                           {"", "GFLOP/s"},
                           {"", "kernels/step"},
                           {"", "per layer"},
                           {"", "all-reduce us"},
                           {"", strcmp(hw_bench_library(b), "nccl") ? "over MPI's" : "over NCCL's"},
                           {"", NULL},
                           {"", NULL},
                           {"", NULL},
                           {"", NULL},
                           {"", NULL},
                           {"", NULL},
                           {"", "windows kept"}};
    for (int a = 0; a < HW_N_PEAKS; a++) {
        snprintf(labels[a], sizeof labels[a], "of %s", hw_peak_name((hw_peak)a, b));
        columns[FIRST_SHARE + a].label = labels[a];
    }
    hw_table t = hw_table_begin(columns, sizeof columns / sizeof *columns);
    for (int i = 0; i < b->n_tests; i++) fill_row(&t, b, i);
    (markdown ? hw_table_write_markdown : hw_table_write_text)(&t, f);
    hw_table_free(&t);
}

/* Where ops are done when they return, their time is known; elsewhere it would be the time to start them. */
static void print_sites(FILE *f, const hw_bench *b, bool markdown)
{
    hw_column columns[1 + HW_BENCH_N_SITES] = {{"", "share of the time"}};
    for (int s = 0; s < HW_BENCH_N_SITES; s++)
        columns[1 + s] = (hw_column){"", hw_bench_site_name((hw_bench_site)s)};
    if (!b->judged) return;
    hw_table t = hw_table_begin(columns, 1 + HW_BENCH_N_SITES);
    for (int i = 0; i < b->n_tests; i++) {
        const hw_bench_result r = hw_bench_conclude(b, i);
        hw_table_text(&t, "%s", b->tests[i].name);
        for (int s = 0; s < HW_BENCH_N_SITES; s++)
            if (r.site[s] > 0) hw_table_text(&t, "%.1f %%", 100 * r.site[s]);
            else hw_table_text(&t, "%s", "");
    }
    fputc('\n', f);
    (markdown ? hw_table_write_markdown : hw_table_write_text)(&t, f);
    hw_table_free(&t);
}

/* Medians over all tests that measured them. */
static void print_limits(FILE *f, const hw_bench *b, bool markdown)
{
    static const hw_column columns[] = {{"", "limit, all ranks together"}, {"", "GB/s"}, {"", "GFLOP/s"}};
    hw_table t = hw_table_begin(columns, 3);
    for (int a = 0; a < HW_N_PEAKS; a++) {
        double sum = 0;
        int n = 0;
        for (int i = 0; i < b->n_tests; i++) {
            const double one = hw_bench_conclude(b, i).limit[a];
            if (one > 0) sum += one, n++;
        }
        if (!n) continue;
        const bool reads = a == HW_PEAK_READ || a == HW_PEAK_READ_PREFETCHED;
        hw_table_text(&t, "%s", hw_peak_name((hw_peak)a, b));
        put_positive(&t, reads ? 1e-9 * sum / n : 0, "%.1f");
        put_positive(&t, reads ? 0 : 1e-9 * sum / n, "%.1f");
    }
    if (t.n_cells) {
        fputc('\n', f);
        (markdown ? hw_table_write_markdown : hw_table_write_text)(&t, f);
    }
    hw_table_free(&t);
}

static void print_head(FILE *f, const hw_bench *b)
{
    const hw_engine_info i = hw_engine_info_get(b->s->engine);
    const hw_processor *h = &b->host;
    char params[16], weights[16], memory[16], cache[16];
    fprintf(f, "%s, %s parameters as %s, KV cache %s (%s), weights %s per rank\n", i.architecture,
            hw_format_count(params, (double)i.n_params), hw_dtype_name(i.weight_dtype),
            hw_dtype_name(i.kv_dtype), hw_kv_policy_name(i.kv_policy),
            hw_format_bytes(weights, (double)i.weight_bytes));
    fprintf(f, "%d rank%s x %d thread%s, %s; collectives %s; steps of at most %d rows\n", i.n_ranks,
            i.n_ranks > 1 ? "s" : "", i.n_threads, i.n_threads > 1 ? "s" : "", i.device, i.comm,
            i.max_batch_rows);
    fprintf(f, "%s, %d of %d cores usable, %s; memory %s, last cache %s\n", h->cpu, h->n_usable, h->n_cores,
            h->instructions, hw_format_bytes(memory, (double)h->memory_bytes),
            h->last_cache_bytes ? hw_format_bytes(cache, (double)h->last_cache_bytes) : "unknown");
    fprintf(f, "headway %s, commit %s; %d repetitions in turns\n\n", HW_VERSION, hw_build_commit(),
            b->settings->repeats);
}

static void print_foot(FILE *f, const hw_bench *b)
{
    int n_dropped = 0, n_disturbed = 0;
    for (int i = 0; i < b->n_tests; i++) {
        const hw_bench_result r = hw_bench_conclude(b, i);
        n_dropped += r.n_windows - r.n_kept;
        n_disturbed += r.n_kept == 0;
    }
    fputc('\n', f);
    if (!b->judged) fprintf(f, "Windows are not judged: the work is not on the host's cores.\n");
    else
        fprintf(f, "%d of %d windows are left out: in them a rank had less than %.0f %% of its cores.\n",
                n_dropped, b->n_tests * b->settings->repeats, 100 * HW_BENCH_LEAST_BUSY);
    if (hw_engine_info_get(b->s->engine).no_graphs)
        fprintf(f, "No decode step is a graph: %s.\n", hw_engine_info_get(b->s->engine).no_graphs);
    if (n_disturbed)
        fprintf(f, "Of %d test%s no window was undisturbed; all of them are shown.\n", n_disturbed,
                n_disturbed > 1 ? "s" : "");
}

/* Collects a report and prints it at once, so that what could not be written is known. */
static hw_status print_all(const hw_bench *b, void write(FILE *f, const hw_bench *b, bool option),
                           bool option)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) return hw_fail(b->err, HW_ERR_NO_MEMORY, "report: no memory");
    write(f, b, option);
    const bool bad = ferror(f);
    hw_status st = fclose(f) || bad ? hw_fail(b->err, HW_ERR_NO_MEMORY, "report: no memory")
                                    : hw_write(stdout, "standard output", text, n, b->err);
    free(text);
    return st;
}

static void write_table(FILE *f, const hw_bench *b, bool markdown)
{
    print_head(f, b);
    print_main(f, b, markdown);
    print_sites(f, b, markdown);
    print_limits(f, b, markdown);
    print_foot(f, b);
}

hw_status hw_bench_print_table(const hw_bench *b, bool markdown)
{
    return print_all(b, write_table, markdown);
}

/* ---- for programs: one row per test, and everything in each */

static const hw_column csv_columns[] = {
    {"commit", NULL},
    {"cpu", NULL},
    {"instructions", NULL},
    {"cores", NULL},
    {"memory_bytes", NULL},
    {"model", NULL},
    {"architecture", NULL},
    {"parameters", NULL},
    {"dtype", NULL},
    {"kv_dtype", NULL},
    {"ranks", NULL},
    {"threads", NULL},
    {"device", NULL},
    {"collectives", NULL},
    {"max_batch_rows", NULL},
    {"test", NULL},
    {"n_prompt", NULL},
    {"n_gen", NULL},
    {"batch", NULL},
    {"depth", NULL},
    {"windows", NULL},
    {"windows_kept", NULL},
    {"tokens_per_s", NULL},
    {"tokens_per_s_sd", NULL},
    {"tokens_per_s_median", NULL},
    {"step_ms_mean", NULL},
    {"step_ms_p50", NULL},
    {"step_ms_p99", NULL},
    {"first_token_ms", NULL},
    {"bytes_per_s", NULL},
    {"flop_per_s", NULL},
    {"kernels_per_step", NULL},
    {"all_reduce_us", NULL},
    {"library", NULL},
    {"library_all_reduce_us", NULL},
    {"plain_read", NULL},
    {"prefetched_read", NULL},
    {"fma_float32", NULL},
    {"matrix_bfloat16", NULL},
    {"product_float32", NULL},
    {"product_bfloat16", NULL},
    {"of_plain_read", NULL},
    {"of_prefetched_read", NULL},
    {"of_fma_float32", NULL},
    {"of_matrix_bfloat16", NULL},
    {"of_product_float32", NULL},
    {"of_product_bfloat16", NULL},
};

static void csv_settings(hw_table *t, const hw_bench *b)
{
    const hw_engine_info i = hw_engine_info_get(b->s->engine);
    hw_table_text(t, "%s", hw_build_commit());
    hw_table_text(t, "%s", b->host.cpu);
    hw_table_text(t, "%s", b->host.instructions);
    hw_table_count(t, (uint64_t)b->host.n_usable);
    hw_table_count(t, b->host.memory_bytes);
    hw_table_text(t, "%s", b->settings->model.folder);
    hw_table_text(t, "%s", i.architecture);
    hw_table_count(t, i.n_params);
    hw_table_text(t, "%s", hw_dtype_name(i.weight_dtype));
    hw_table_text(t, "%s", hw_dtype_name(i.kv_dtype));
    hw_table_count(t, (uint64_t)i.n_ranks);
    hw_table_count(t, (uint64_t)i.n_threads);
    hw_table_text(t, "%s", i.device);
    hw_table_text(t, "%s", i.comm);
    hw_table_count(t, (uint64_t)i.max_batch_rows);
}

static void csv_number(hw_table *t, double x)
{
    if (x > 0) hw_table_real(t, x);
    else hw_table_text(t, "%s", "");
}

static void csv_result(hw_table *t, const hw_bench *b, int test)
{
    const hw_bench_test *what = &b->tests[test];
    const hw_bench_result r = hw_bench_conclude(b, test);
    hw_table_text(t, "%s", what->name);
    hw_table_count(t, what->decode ? 0 : (uint64_t)what->n);
    hw_table_count(t, what->decode ? (uint64_t)what->n : 0);
    hw_table_count(t, (uint64_t)what->n_seqs);
    hw_table_count(t, (uint64_t)what->depth);
    hw_table_count(t, (uint64_t)r.n_windows);
    hw_table_count(t, (uint64_t)r.n_kept);
    hw_table_real(t, r.rate.mean);
    hw_table_real(t, r.rate.deviation);
    hw_table_real(t, r.rate.median);
    csv_number(t, 1e3 * r.step_mean);
    csv_number(t, 1e3 * r.step_p50);
    csv_number(t, 1e3 * r.step_p99);
    csv_number(t, 1e3 * r.first_token);
    hw_table_real(t, r.bytes_rate);
    hw_table_real(t, r.flop_rate);
    csv_number(t, r.launches);
    csv_number(t, 1e6 * r.all_reduce);
    hw_table_text(t, "%s", r.library > 0 ? hw_bench_library(b) : "");
    csv_number(t, 1e6 * r.library);
    for (int a = 0; a < HW_N_PEAKS; a++) csv_number(t, r.limit[a]);
    for (int a = 0; a < HW_N_PEAKS; a++) csv_number(t, r.share[a]);
}

static void write_csv(FILE *f, const hw_bench *b, bool unused)
{
    (void)unused;
    hw_table t = hw_table_begin(csv_columns, sizeof csv_columns / sizeof *csv_columns);
    for (int i = 0; i < b->n_tests; i++) {
        csv_settings(&t, b);
        csv_result(&t, b, i);
    }
    hw_table_print_csv(&t, f);
    hw_table_free(&t);
}

hw_status hw_bench_print_csv(const hw_bench *b) { return print_all(b, write_csv, false); }
