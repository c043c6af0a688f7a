/* Everything that was measured, window by window. */
#include "launch/bench/bench.h"
#include "launch/report/output.h"
#include "launch/version.h"

/* What the library's all-reduce is called here. */
static void put_library(json_t *to, const hw_bench *b, const char *format, double x)
{
    char key[48];
    snprintf(key, sizeof key, format, hw_bench_library(b));
    if (x > 0) json_object_set_new(to, key, json_real(x));
}

/* Zero is "not measured". */
static void put_positive(json_t *to, const char *key, double x)
{
    if (x > 0) json_object_set_new(to, key, json_real(x));
}

static json_t *sites_json(const double *values)
{
    json_t *sites = json_object();
    for (int s = 0; s < HW_BENCH_N_SITES; s++)
        put_positive(sites, hw_bench_site_name((hw_bench_site)s), values[s]);
    return sites;
}

static json_t *peaks_json(const double *values)
{
    json_t *peaks = json_object();
    for (int a = 0; a < HW_N_PEAKS; a++) put_positive(peaks, hw_peak_key((hw_peak)a), values[a]);
    return peaks;
}

static json_t *window_json(const hw_bench *b, int test, int repeat)
{
    const hw_bench_window *w = hw_bench_window_at(b, test, repeat);
    json_t *out =
        json_pack("{s:b, s:f, s:f}", "kept", w->kept, "busy", w->run.busy, "seconds", w->run.seconds);
    put_positive(out, "first_token_seconds", w->run.first_token);
    put_positive(out, "all_reduce_seconds", w->all_reduce);
    put_library(out, b, "%s_all_reduce_seconds", w->library);
    if (b->limits) json_object_set_new(out, "limits", peaks_json(w->limit));
    if (!b->tests[test].decode) return out;
    json_t *steps = json_array();
    for (int i = 0; i < b->tests[test].n; i++)
        json_array_append_new(steps, json_real(hw_bench_steps_at(b, test, repeat)[i]));
    json_object_set_new(out, "step_seconds", steps);
    return out;
}

static json_t *test_json(const hw_bench *b, int test)
{
    const hw_bench_test *t = &b->tests[test];
    const hw_bench_result r = hw_bench_conclude(b, test);
    json_t *out =
        json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f}", "test", t->name, "phase",
                  t->decode ? "decode" : "prefill", "tokens", t->n, "batch", t->n_seqs, "depth", t->depth,
                  "windows", r.n_windows, "windows_kept", r.n_kept, "tokens_per_second", r.rate.mean,
                  "tokens_per_second_deviation", r.rate.deviation, "tokens_per_second_median", r.rate.median,
                  "bytes_per_second", r.bytes_rate, "flop_per_second", r.flop_rate);
    put_positive(out, "step_ms_mean", 1e3 * r.step_mean);
    put_positive(out, "step_ms_p50", 1e3 * r.step_p50);
    put_positive(out, "step_ms_p99", 1e3 * r.step_p99);
    put_positive(out, "first_token_ms", 1e3 * r.first_token);
    put_positive(out, "kernels_per_step", r.launches);
    put_positive(out, "kernels_per_layer", r.launches / hw_engine_info_get(b->s->engine).n_layers);
    put_positive(out, "all_reduce_us", 1e6 * r.all_reduce);
    put_library(out, b, "%s_all_reduce_us", 1e6 * r.library);
    put_library(out, b, "all_reduce_over_%s", r.of_library);
    if (b->limits) {
        json_object_set_new(out, "limits", peaks_json(r.limit));
        json_object_set_new(out, "share_of", peaks_json(r.share));
    }
    if (b->judged) json_object_set_new(out, "share_of_time", sites_json(r.site));
    json_t *each = json_array();
    for (int i = 0; i < r.n_windows; i++) json_array_append_new(each, window_json(b, test, i));
    json_object_set_new(out, "each_window", each);
    return out;
}

hw_status hw_bench_print_json(const hw_bench *b)
{
    const hw_engine_info i = hw_engine_info_get(b->s->engine);
    const hw_processor *h = &b->host;
    json_t *tests = json_array();
    for (int t = 0; t < b->n_tests; t++) json_array_append_new(tests, test_json(b, t));
    return hw_print_json(
        json_pack(
            "{s:s, s:s, s:{s:s, s:s, s:i, s:i, s:I, s:I}, s:s, s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:i, s:i, "
            "s:s, s:s, s:s, s:s?, s:i, s:f, s:o}",
            "version", HW_VERSION, "commit", hw_build_commit(), "machine", "cpu", h->cpu, "instructions",
            h->instructions, "cores", h->n_cores, "usable_cores", h->n_usable, "memory_bytes",
            (json_int_t)h->memory_bytes, "last_cache_bytes", (json_int_t)h->last_cache_bytes, "model",
            b->settings->model.folder, "architecture", i.architecture, "parameters", (json_int_t)i.n_params,
            "weight_bytes_per_rank", (json_int_t)i.weight_bytes, "dtype", hw_dtype_name(i.weight_dtype),
            "matmul", hw_matmul_name(i.matmul), "kv_dtype", hw_dtype_name(i.kv_dtype), "kv_policy",
            hw_kv_policy_name(i.kv_policy), "ranks", i.n_ranks, "threads", i.n_threads, "backend", i.comm,
            "device", i.device, "path", b->s->paths.text, "no_graphs", i.no_graphs, "max_batch_rows",
            i.max_batch_rows, "load_seconds", i.load_seconds, "tests", tests),
        b->err);
}
