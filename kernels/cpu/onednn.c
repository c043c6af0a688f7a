/* Matrix products of oneDNN, for comparison: the shared object libheadway_onednn.so, which is built if oneDNN's headers,
 * version 2 or 3, are found. Weights are converted beforehand to the layout that oneDNN chooses, as in a program that
 * uses it. */
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cpu/peaks.h"
#include "runtime/base/clock.h"

/* Larger matrices run at the same speed and only need more memory. */
enum { MAX_WIDTH = 4096, X = 0, W = 1, Y = 2, N_ARGS = 3 };

typedef struct product {
    dnnl_primitive_t primitive; /* NULL: this processor has no such product */
    dnnl_memory_t memory[N_ARGS];
    double n_flops;
} product;

struct hw_products {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    int n_shapes;
    product of[2][HW_PEAK_MAX_SHAPES]; /* float32, bfloat16 */
};

static hw_status check(dnnl_status_t code, const char *what, hw_error *err)
{
    if (code == dnnl_success) return HW_OK;
    return hw_fail(err, code == dnnl_out_of_memory ? HW_ERR_NO_MEMORY : HW_ERR_DEVICE, "oneDNN: %s: error %d",
                   what, (int)code);
}

/* ---- differences of the two versions: a description is a struct, or a handle that must be destroyed */

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t reference;
#define REFER(description)  (description)
#define describe            dnnl_memory_desc_create_with_tag
#define forget(description) dnnl_memory_desc_destroy(description)
static dnnl_status_t describe_product(dnnl_primitive_desc_t *out, dnnl_memory_desc_t *d, dnnl_engine_t engine)
{
    return dnnl_matmul_primitive_desc_create(out, engine, d[X], d[W], NULL, d[Y], NULL);
}
#else
typedef const dnnl_memory_desc_t *reference;
#define REFER(description)  (&(description))
#define describe            dnnl_memory_desc_init_by_tag
#define forget(description) ((void)(description))
static dnnl_status_t describe_product(dnnl_primitive_desc_t *out, dnnl_memory_desc_t *d, dnnl_engine_t engine)
{
    dnnl_matmul_desc_t matmul;
    dnnl_status_t st = dnnl_matmul_desc_init(&matmul, &d[X], &d[W], NULL, &d[Y]);
    return st ? st : dnnl_primitive_desc_create(out, &matmul, NULL, engine, NULL);
}
#endif

/* ---- one product */

/* Copies between two memories of any type and layout. */
static dnnl_status_t convert(hw_products *p, dnnl_memory_t from, reference from_what, dnnl_memory_t to)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t reorder = NULL;
    reference to_what = NULL;
    dnnl_status_t st = dnnl_memory_get_memory_desc(to, &to_what);
    if (!st) st = dnnl_reorder_primitive_desc_create(&pd, from_what, p->engine, to_what, p->engine, NULL);
    if (!st) st = dnnl_primitive_create(&reorder, pd);
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    if (!st) st = dnnl_primitive_execute(reorder, p->stream, 2, args);
    if (!st) st = dnnl_stream_wait(p->stream);
    if (reorder) dnnl_primitive_destroy(reorder);
    if (pd) dnnl_primitive_desc_destroy(pd);
    return st;
}

/* Zeros could be faster than other values. */
static dnnl_status_t put_numbers(hw_products *p, dnnl_memory_t to, const dnnl_dims_t dims)
{
    dnnl_memory_desc_t plain;
    dnnl_memory_t from = NULL;
    float *numbers = NULL;
    dnnl_status_t st = describe(&plain, 2, dims, dnnl_f32, dnnl_ab);
    if (st) return st;
    st = dnnl_memory_create(&from, REFER(plain), p->engine, DNNL_MEMORY_ALLOCATE);
    if (!st) st = dnnl_memory_get_data_handle(from, (void **)&numbers);
    for (dnnl_dim_t i = 0; i < dims[0] * dims[1] && !st; i++)
        numbers[i] = (float)((int)(i * 2654435761u % 255) - 127) / 1024;
    if (!st) st = convert(p, from, REFER(plain), to);
    if (from) dnnl_memory_destroy(from);
    forget(plain);
    return st;
}

static dnnl_status_t make_product(hw_products *p, product *m, hw_peak_shape s, dnnl_data_type_t type)
{
    static const dnnl_query_t queries[N_ARGS] = {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md};
    const dnnl_dim_t n = (dnnl_dim_t)s.n_rows, n_in = (dnnl_dim_t)s.n_in, n_out = (dnnl_dim_t)s.n_out;
    const dnnl_dims_t dims[N_ARGS] = {{n, n_in}, {n_in, n_out}, {n, n_out}};
    dnnl_memory_desc_t d[N_ARGS];
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t st = dnnl_success;
    int n_described = 0;
    for (; n_described < N_ARGS && !st; n_described += !st)
        st = describe(&d[n_described], 2, dims[n_described], n_described == Y ? dnnl_f32 : type,
                      n_described == W ? dnnl_format_tag_any : dnnl_ab);
    if (!st) st = describe_product(&pd, d, p->engine);
    while (n_described) forget(d[--n_described]);
    if (st == dnnl_unimplemented) return dnnl_success;
    for (int i = 0; i < N_ARGS && !st; i++) {
        st = dnnl_memory_create(&m->memory[i], dnnl_primitive_desc_query_md(pd, queries[i], 0), p->engine,
                                DNNL_MEMORY_ALLOCATE);
        if (!st && i != Y) st = put_numbers(p, m->memory[i], dims[i]);
    }
    if (!st) st = dnnl_primitive_create(&m->primitive, pd);
    m->n_flops = 2.0 * (double)s.n_rows * (double)s.n_out * (double)s.n_in;
    if (pd) dnnl_primitive_desc_destroy(pd);
    return st;
}

static void destroy(hw_products *p)
{
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < p->n_shapes; i++) {
            product *m = &p->of[t][i];
            if (m->primitive) dnnl_primitive_destroy(m->primitive);
            for (int k = 0; k < N_ARGS; k++)
                if (m->memory[k]) dnnl_memory_destroy(m->memory[k]);
        }
    if (p->stream) dnnl_stream_destroy(p->stream);
    if (p->engine) dnnl_engine_destroy(p->engine);
    free(p);
}

/* oneDNN uses OpenMP threads, whose settings are read when the first loop of the process begins. Idle threads must sleep,
 * because other measurements follow. */
static void set_threads(int n_threads)
{
    char text[16];
    snprintf(text, sizeof text, "%d", n_threads);
    setenv("OMP_NUM_THREADS", text, 1);
    setenv("OMP_WAIT_POLICY", "PASSIVE", 1);
}

static hw_status create(hw_products **out, const hw_peak_sizes *sizes, int n_threads, hw_error *err)
{
    *out = NULL;
    hw_products *p = calloc(1, sizeof *p);
    if (!p) return hw_fail(err, HW_ERR_NO_MEMORY, "oneDNN: no memory");
    set_threads(n_threads);
    p->n_shapes = sizes->n_shapes;
    dnnl_status_t st = dnnl_engine_create(&p->engine, dnnl_cpu, 0);
    if (!st) st = dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags);
    for (int i = 0; i < p->n_shapes && !st; i++) {
        hw_peak_shape s = sizes->shapes[i];
        if (s.n_out > MAX_WIDTH) s.n_out = MAX_WIDTH;
        if (s.n_in > MAX_WIDTH) s.n_in = MAX_WIDTH;
        st = make_product(p, &p->of[0][i], s, dnnl_f32);
        if (!st) st = make_product(p, &p->of[1][i], s, dnnl_bf16);
    }
    if (!st) *out = p;
    else destroy(p);
    return check(st, "making a matrix product", err);
}

static bool has(const hw_products *p, hw_dtype type)
{
    for (int i = 0; i < p->n_shapes; i++)
        if (p->of[type == HW_BF16][i].primitive) return true;
    return false;
}

static hw_status measure(hw_products *p, hw_dtype type, double *rate, hw_error *err)
{
    dnnl_status_t st = dnnl_success;
    *rate = 0;
    for (int i = 0; i < p->n_shapes && !st; i++) {
        const product *m = &p->of[type == HW_BF16][i];
        if (!m->primitive) continue;
        const dnnl_exec_arg_t args[N_ARGS] = {
            {DNNL_ARG_SRC, m->memory[X]}, {DNNL_ARG_WEIGHTS, m->memory[W]}, {DNNL_ARG_DST, m->memory[Y]}};
        const uint64_t start = hw_clock_ns();
        st = dnnl_primitive_execute(m->primitive, p->stream, N_ARGS, args);
        if (!st) st = dnnl_stream_wait(p->stream);
        const double one = m->n_flops / hw_seconds_since(start);
        if (one > *rate) *rate = one;
    }
    return check(st, "a matrix product", err);
}

const hw_product_ops hw_onednn_products = {.struct_bytes = sizeof(hw_product_ops),
                                           .create = create,
                                           .destroy = destroy,
                                           .has = has,
                                           .measure = measure};
