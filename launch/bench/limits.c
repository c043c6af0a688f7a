#include <stdlib.h>

#include "launch/bench/bench.h"
#include "parallel/peaks.h"
#include "runtime/base/clock.h"
#include "runtime/model.h"
#include "runtime/weights/weights.h"

/* Memory to read many times the last cache of most machines; a GPU knows its own. On the host rows above a few
 * hundred change no product's rate; a GPU also gets a square of a size that suits it. */
enum { READ_BYTES = 256 << 20, MOST_ROWS = 512, GPU_MOST_ROWS = 8192, GPU_SQUARE = 8192 };
enum { SHORT_BYTES = 64 << 10, SHORT_REPEATS = 50, LONG_REPEATS = 4 };

struct hw_limits {
    hw_device *device; /* the model's: the same threads */
    hw_peaks *peaks;
    float *buffer;   /* [n_numbers] zeros: repeated sums stay finite */
    void *on_device; /* the same in its activations' type D, where collectives are on the device */
    size_t n_numbers;
};

/* The products of this rank's layers. */
static void list_shapes(hw_peak_sizes *sizes, const hw_bench *b, size_t n_rows)
{
    const hw_engine_info i = hw_engine_info_get(b->s->engine);
    const size_t dim = (size_t)i.dim, q = (size_t)i.n_local_heads * (size_t)i.head_dim;
    const size_t kv = (size_t)i.n_local_kv_heads * (size_t)i.head_dim;
    const size_t ffn = hw_range_size(hw_engine_shard(b->s->engine)->ffn);
    const hw_peak_shape all[] = {
        {n_rows, q + 2 * kv, dim},
        {n_rows, dim, q},
        {n_rows, hw_engine_model(b->s->engine)->gated_mlp ? 2 * ffn : ffn, dim},
        {n_rows, dim, ffn},
    };
    for (size_t s = 0; s < sizeof all / sizeof *all; s++)
        if (all[s].n_rows && all[s].n_out && all[s].n_in) sizes->shapes[sizes->n_shapes++] = all[s];
}

static hw_status create(hw_limits *l, const hw_bench *b)
{
    l->device = hw_engine_device(b->s->engine);
    const bool host = l->device->host_memory;
    hw_peak_sizes sizes = {.read_bytes = host ? READ_BYTES : 0};
    int most_rows = 0, product_rows = 0, limit = host ? MOST_ROWS : GPU_MOST_ROWS;
    for (int i = 0; i < b->n_tests; i++) {
        const int n = hw_bench_step_rows(b, &b->tests[i]);
        if (n > most_rows) most_rows = n;
        if (!b->tests[i].decode && n > product_rows) product_rows = n;
    }
    list_shapes(&sizes, b, (size_t)(product_rows < limit ? product_rows : limit));
    if (!host && product_rows)
        sizes.shapes[sizes.n_shapes++] = (hw_peak_shape){GPU_SQUARE, GPU_SQUARE, GPU_SQUARE};
    l->n_numbers = (size_t)most_rows * (size_t)hw_engine_info_get(b->s->engine).dim;
    if (!(l->buffer = calloc(l->n_numbers, sizeof *l->buffer)))
        return hw_fail(b->err, HW_ERR_NO_MEMORY, "peaks: no memory for %zu numbers", l->n_numbers);
    if (hw_comm_on_device(b->s->comm)) {
        hw_status st = l->device->k->alloc(l->device, &l->on_device,
                                           l->n_numbers * hw_dtype_size(l->device->act), b->err);
        if (st) return st;
    }
    return hw_peaks_create(&l->peaks, l->device, &sizes, b->err);
}

hw_status hw_limits_create(hw_limits **out, const hw_bench *b)
{
    hw_limits *l = calloc(1, sizeof *l);
    hw_status st = l ? create(l, b) : hw_fail(b->err, HW_ERR_NO_MEMORY, "peaks: no memory");
    st = hw_comm_agree(b->s->comm, st, b->err);
    if (st) {
        hw_limits_destroy(l);
        return hw_context(b->err, st, "--peaks");
    }
    *out = l;
    return HW_OK;
}

void hw_limits_destroy(hw_limits *l)
{
    if (!l) return;
    hw_peaks_destroy(l->device, l->peaks);
    if (l->on_device) l->device->k->free(l->device, l->on_device);
    free(l->buffer);
    free(l);
}

static int repeats_of(size_t n_bytes) { return n_bytes <= SHORT_BYTES ? SHORT_REPEATS : LONG_REPEATS; }

/* Ours and MPI's in turn, in host memory, where all of it is that both can add. */
static hw_status measure_on_host(hw_limits *l, const hw_bench *b, size_t n_numbers, hw_bench_window *w)
{
    const hw_tag tag = {.site = HW_SITE_CONTROL};
    const int repeats = repeats_of(n_numbers * sizeof(float));
    hw_status st = hw_comm_agree(b->s->comm, HW_OK, b->err);
    const uint64_t start = hw_clock_ns();
    for (int i = 0; i < repeats && !st; i++)
        st = hw_comm_all_reduce(b->s->comm, tag, l->buffer, n_numbers, HW_F32, HW_SUM, b->err);
    w->all_reduce = hw_seconds_since(start) / repeats;
    return st ? st : hw_peak_mpi_all_reduce(&w->library, l->buffer, n_numbers, repeats, b->err);
}

static hw_status enqueue(hw_limits *l, const hw_bench *b, size_t n_numbers, int repeats)
{
    const hw_tag tag = {.site = HW_SITE_CONTROL};
    hw_status st = HW_OK;
    for (int i = 0; i < repeats && !st; i++)
        st = hw_comm_device_all_reduce(b->s->comm, tag, l->on_device, n_numbers, l->device->act, HW_SUM,
                                       b->err);
    return st;
}

/* Waits for the stream, with the communicator's deadline. */
static hw_status wait(hw_limits *l, const hw_bench *b)
{
    hw_status st = hw_comm_device_wait(b->s->comm, NULL, b->err);
    return st ? st : l->device->k->synchronize(l->device, b->err);
}

/* As steps of this kind make theirs: in a graph, or one by one. The first time without the clock, after which
 * all ranks are there. */
static hw_status measure_ours_on_device(hw_limits *l, const hw_bench *b, bool in_graph, size_t n_numbers,
                                        int repeats, double *seconds)
{
    const hw_graph_ops *k = l->device->k->graph;
    hw_graph *graph = NULL;
    uint64_t start = 0;
    hw_status st = in_graph ? k->capture_begin(l->device, b->err) : HW_OK;
    if (!st && in_graph) {
        hw_error unused;
        st = enqueue(l, b, n_numbers, repeats);
        const hw_status ended = k->capture_end(l->device, &graph, st ? &unused : b->err);
        if (!st) st = ended;
    }
    for (int timed = 0; timed < 2 && !st; timed++) {
        start = hw_clock_ns();
        st = in_graph ? k->launch(l->device, graph) : enqueue(l, b, n_numbers, repeats);
        if (!st) st = wait(l, b);
    }
    *seconds = hw_seconds_since(start) / repeats;
    if (graph) k->destroy(l->device, graph);
    return st;
}

/* Ours and the library's in turn, of activations on the device. */
static hw_status measure_on_device(hw_limits *l, const hw_bench *b, const hw_bench_test *t, size_t n_numbers,
                                   hw_bench_window *w)
{
    const int repeats = repeats_of(n_numbers * hw_dtype_size(l->device->act));
    const bool in_graph = t->decode && b->settings->engine.options.graphs && hw_device_can_capture(l->device);
    hw_status st = hw_peak_device_all_reduce(&w->library, b->s->comm, l->on_device, n_numbers, l->device->act,
                                             repeats, b->err);
    return st ? st : measure_ours_on_device(l, b, in_graph, n_numbers, repeats, &w->all_reduce);
}

hw_status hw_limits_measure(hw_limits *l, const hw_bench *b, const hw_bench_test *t, hw_bench_window *w,
                            double *busy)
{
    hw_status st = HW_OK;
    *busy = 1;
    if (hw_comm_n_ranks(b->s->comm) > 1) {
        const size_t n = (size_t)hw_bench_step_rows(b, t) * (size_t)hw_engine_info_get(b->s->engine).dim;
        st = l->on_device ? measure_on_device(l, b, t, n, w) : measure_on_host(l, b, n, w);
    }
    const hw_busy start = hw_busy_now();
    for (int a = 0; a < HW_N_PEAKS && !st; a++) {
        const bool reads = a == HW_PEAK_READ || a == HW_PEAK_READ_PREFETCHED;
        if (reads != t->decode || !hw_peaks_have(l->device, l->peaks, (hw_peak)a)) continue;
        st = hw_peaks_measure(l->device, l->peaks, (hw_peak)a, &w->limit[a], b->err);
        st = hw_comm_agree(b->s->comm, st, b->err); /* the next one begins together */
    }
    if (b->judged) *busy = hw_busy_since(start, 0);
    return st ? st : hw_bench_over_ranks(b, w->limit, HW_N_PEAKS, busy);
}
