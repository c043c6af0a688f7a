#include "kernels/anchors.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "runtime/base/clock.h"

enum { CHUNK = 1 << 20, LINE = 64, AHEAD = 1024 };

/* Sixteen words at a time, as wide as the compiler knows how to load for the target it is cloned for. */
typedef uint32_t words __attribute__((vector_size(LINE)));

struct hw_anchors {
    hw_device *device;
    char *data; /* [n_chunks, CHUNK] */
    size_t n_chunks;
    bool prefetch;
    atomic_uint sum; /* so that no load can be left out */
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
    hw_anchors *a = arg;
    for (size_t i = begin; i < end; i++) memset(a->data + i * CHUNK, (int)(i & 0xff), CHUNK);
}

static void read_chunks(void *arg, size_t begin, size_t end)
{
    hw_anchors *a = arg;
    const char *p = a->data + begin * CHUNK;
    size_t n = (end - begin) * CHUNK;
    atomic_fetch_xor_explicit(&a->sum, a->prefetch ? read_prefetched(p, n) : read_plain(p, n),
                              memory_order_relaxed);
}

hw_status hw_anchors_create(hw_anchors **out, hw_device *device, size_t n_bytes, hw_error *err)
{
    *out = NULL;
    if (strcmp(device->k->name, "cpu"))
        return hw_fail(err, HW_ERR_UNSUPPORTED, "anchors are measured on the device cpu only");
    hw_anchors *a = calloc(1, sizeof *a);
    if (a) {
        a->device = device;
        a->n_chunks = (n_bytes + CHUNK - 1) / CHUNK;
        /* One chunk more: prefetching runs ahead of the end. */
        a->data = aligned_alloc(LINE, (a->n_chunks + 1) * CHUNK);
    }
    if (!a || !a->data) {
        free(a);
        return hw_fail(err, HW_ERR_NO_MEMORY, "anchors: no memory for %zu bytes", n_bytes);
    }
    hw_pool_for(hw_cpu_pool(device), a->n_chunks, 1, fill, a);
    *out = a;
    return HW_OK;
}

void hw_anchors_destroy(hw_anchors *a)
{
    if (!a) return;
    free(a->data);
    free(a);
}

double hw_anchors_read(hw_anchors *a, bool prefetch)
{
    a->prefetch = prefetch;
    uint64_t start = hw_clock_ns();
    hw_pool_for(hw_cpu_pool(a->device), a->n_chunks, 4, read_chunks, a);
    return (double)a->n_chunks * CHUNK / hw_seconds_since(start);
}
