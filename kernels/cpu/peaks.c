/* Peak rates of the host's cores: memory reads, multiply-adds, bfloat16 units, and a library of products. */
#include "kernels/cpu/peaks.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/plugin.h"
#include "runtime/base/clock.h"

enum { CHUNK = 1 << 20, LINE = 64, AHEAD = 1024 };

/* Sixteen words at a time, as wide as the compiler knows how to load for the target it is cloned for. */
typedef uint32_t words __attribute__((vector_size(LINE)));

/* Arithmetic is measured in parts, so that no thread waits long for the slowest. */
enum { PARTS_PER_THREAD = 16, FMA_ROUNDS = 16384, MATRIX_ROUNDS = 4096 };

struct hw_peaks {
    hw_device *device;
    char *data; /* [n_chunks, CHUNK] */
    size_t n_chunks;
    bool prefetch;
    atomic_uint sum; /* so that no load can be left out */
    atomic_ullong n_flops;
    const hw_product_ops *library; /* NULL: not installed */
    hw_products *products;
};

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_ISA __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_ISA
#endif

FOR_EACH_ISA static uint32_t read_plain(const char *p, size_t n)
{
    words a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i < n; i += 4 * LINE) {
        a ^= *(const words *)(p + i);
        b ^= *(const words *)(p + i + LINE);
        c ^= *(const words *)(p + i + 2 * LINE);
        d ^= *(const words *)(p + i + 3 * LINE);
    }
    a ^= b ^ c ^ d;
    return a[0] ^ a[5] ^ a[15];
}

FOR_EACH_ISA static uint32_t read_prefetched(const char *p, size_t n)
{
    words a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i < n; i += 4 * LINE) {
        for (size_t j = 0; j < 4; j++) __builtin_prefetch(p + i + AHEAD + j * LINE, 0, 3);
        a ^= *(const words *)(p + i);
        b ^= *(const words *)(p + i + LINE);
        c ^= *(const words *)(p + i + 2 * LINE);
        d ^= *(const words *)(p + i + 3 * LINE);
    }
    a ^= b ^ c ^ d;
    return a[0] ^ a[5] ^ a[15];
}

static void fill(void *arg, size_t begin, size_t end)
{
    hw_peaks *a = arg;
    for (size_t i = begin; i < end; i++) memset(a->data + i * CHUNK, (int)(i & 0xff), CHUNK);
}

static void read_chunks(void *arg, size_t begin, size_t end)
{
    hw_peaks *a = arg;
    const char *p = a->data + begin * CHUNK;
    size_t n = (end - begin) * CHUNK;
    atomic_fetch_xor_explicit(&a->sum, a->prefetch ? read_prefetched(p, n) : read_plain(p, n),
                              memory_order_relaxed);
}

static double measure_read(hw_peaks *a, bool prefetch)
{
    a->prefetch = prefetch;
    uint64_t start = hw_clock_ns();
    hw_pool_for(hw_cpu_pool(a->device), a->n_chunks, 4, read_chunks, a);
    return (double)a->n_chunks * CHUNK / hw_seconds_since(start);
}

static void fma_parts(void *arg, size_t begin, size_t end)
{
    hw_peaks *a = arg;
    const hw_cpu_peak_ops *isa = (const hw_cpu_peak_ops *)(const void *)a->device->k->peaks;
    float sink[16] = {0.75f, 0.25f}; /* a fixed point at 1: no overflow, and nothing denormal */
    for (size_t i = begin; i < end; i++) atomic_fetch_add(&a->n_flops, isa->fma(FMA_ROUNDS, sink));
    atomic_fetch_xor_explicit(&a->sum, sink[3] > 0, memory_order_relaxed);
}

static void matrix_parts(void *arg, size_t begin, size_t end)
{
    hw_peaks *a = arg;
    const hw_matrix_unit *units = hw_cpu(a->device)->units;
    for (size_t i = begin; i < end; i++) atomic_fetch_add(&a->n_flops, units->peak(MATRIX_ROUNDS));
}

/* Long enough that waking the threads does not count. */
static double measure_arithmetic(hw_peaks *a, hw_pool_fn *parts)
{
    const double least_seconds = 5e-3;
    double seconds = 0;
    atomic_store(&a->n_flops, 0);
    for (uint64_t start = hw_clock_ns(); seconds < least_seconds; seconds = hw_seconds_since(start))
        hw_pool_for(hw_cpu_pool(a->device), (size_t)a->device->n_threads * PARTS_PER_THREAD, 1, parts, a);
    return (double)atomic_load(&a->n_flops) / seconds;
}

/* A missing library, or one of another version, is not an error: there is just nothing to compare with. */
static hw_status open_library(hw_peaks *a, const hw_peak_sizes *sizes, hw_error *err)
{
    if (!sizes->n_shapes) return HW_OK;
    const hw_product_ops *library = hw_plugin_symbol("onednn", "hw_onednn_products");
    if (!library || library->struct_bytes != sizeof *library) return HW_OK;
    a->library = library;
    return library->create(&a->products, sizes, a->device->n_threads, err);
}

hw_status hw_cpu_peaks_create(hw_peaks **out, hw_device *d, const hw_peak_sizes *sizes, hw_error *err)
{
    *out = NULL;
    hw_peaks *a = calloc(1, sizeof *a);
    if (!a) return hw_fail(err, HW_ERR_NO_MEMORY, "peaks: no memory");
    a->device = d;
    a->n_chunks = (sizes->read_bytes + CHUNK - 1) / CHUNK;
    /* One chunk more: prefetching runs ahead of the end. */
    if (!(a->data = aligned_alloc(LINE, (a->n_chunks + 1) * CHUNK))) {
        free(a);
        return hw_fail(err, HW_ERR_NO_MEMORY, "peaks: no memory for %zu bytes", sizes->read_bytes);
    }
    hw_pool_for(hw_cpu_pool(d), a->n_chunks, 1, fill, a);
    hw_status st = open_library(a, sizes, err);
    if (st) hw_cpu_peaks_destroy(a);
    else *out = a;
    return st;
}

void hw_cpu_peaks_destroy(hw_peaks *a)
{
    if (a->products) a->library->destroy(a->products);
    free(a->data);
    free(a);
}

bool hw_cpu_peaks_have(const hw_peaks *a, hw_peak which)
{
    switch (which) {
    case HW_PEAK_MATRIX: return hw_cpu(a->device)->units && hw_cpu(a->device)->units->peak;
    case HW_PEAK_PRODUCT_F32: return a->products && a->library->has(a->products, HW_F32);
    case HW_PEAK_PRODUCT_BF16: return a->products && a->library->has(a->products, HW_BF16);
    default: return true;
    }
}

hw_status hw_cpu_peaks_measure(hw_peaks *a, hw_peak which, double *rate, hw_error *err)
{
    switch (which) {
    case HW_PEAK_PRODUCT_F32: return a->library->measure(a->products, HW_F32, rate, err);
    case HW_PEAK_PRODUCT_BF16: return a->library->measure(a->products, HW_BF16, rate, err);
    case HW_PEAK_FMA: *rate = measure_arithmetic(a, fma_parts); break;
    case HW_PEAK_MATRIX: *rate = measure_arithmetic(a, matrix_parts); break;
    default: *rate = measure_read(a, which == HW_PEAK_READ_PREFETCHED); break;
    }
    return HW_OK;
}
