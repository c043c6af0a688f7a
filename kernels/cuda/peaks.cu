/* What the GPU itself can do: reading its memory, and products of cuBLASLt. Times are of the host, from one wait
 * to the next, over work of milliseconds. */
#include <stdlib.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/numbers.h"
#include "kernels/peaks.h"
#include "runtime/base/clock.h"

/* A block reads SPAN words of 16 bytes at a time, AT_ONCE loads of each thread in flight. */
enum { BLOCK = 256, AT_ONCE = 8, SPAN = BLOCK * AT_ONCE, BLOCKS_PER_MULTIPROCESSOR = 8 };
enum { READ_PASSES = 9, READ_CACHES = 24, PRODUCT_REPEATS = 10 };

struct hw_peaks {
    hw_cuda_device *device;
    hw_peak_sizes sizes;
    uint4 *words; /* [n_words] D */
    size_t n_words;
    uint32_t *sum;     /* D */
    char *w, *x, *out; /* of the largest product, float32 D */
};

namespace
{

/* Word i adds up to i, whatever else is in it. */
__global__ void fill_words(uint4 *words, size_t n)
{
    hw_begin();
    for (size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x; i < n; i += (size_t)gridDim.x * BLOCK) {
        const uint32_t mixed = (uint32_t)i * 2654435761u;
        const uint4 word = {(uint32_t)i, mixed, 0u - mixed, 0};
        words[i] = word;
    }
}

/* Numbers of 0.008 to 0.03 with either sign, as two bfloat16 or one float32: zeros could be faster. */
__global__ void fill_numbers(uint32_t *pairs, size_t n)
{
    hw_begin();
    for (size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x; i < n; i += (size_t)gridDim.x * BLOCK) {
        uint32_t mixed = (uint32_t)i * 2654435761u;
        mixed ^= mixed >> 15;
        pairs[i] = (mixed & 0x80ff80ffu) | 0x3c003c00u;
    }
}

/* n is a multiple of SPAN. */
__global__ void read_words(uint32_t *sum, const uint4 *words, size_t n)
{
    __shared__ uint32_t shared[HW_WARP];
    uint32_t mine = 0;
    hw_begin();
    for (size_t span = (size_t)blockIdx.x * SPAN; span < n; span += (size_t)gridDim.x * SPAN) {
        uint4 v[AT_ONCE];
        for (int k = 0; k < AT_ONCE; k++) v[k] = words[span + (size_t)k * BLOCK + threadIdx.x];
        for (int k = 0; k < AT_ONCE; k++) mine += v[k].x + v[k].y + v[k].z + v[k].w;
    }
    mine = hw_block_reduce(mine, 0u, shared, [](uint32_t a, uint32_t b) { return a + b; });
    if (threadIdx.x == 0) atomicAdd(sum, mine); /* of every thread they would take as long as the reading */
}

/* Of all words, once per pass. */
uint32_t expected_sum(size_t n, uint32_t passes)
{
    const uint64_t sum = n % 2 ? (uint64_t)n * ((n - 1) / 2) : (uint64_t)(n / 2) * (n - 1);
    return passes * (uint32_t)sum;
}

dim3 grid_for(const hw_cuda_device *c, size_t n_blocks)
{
    const size_t most = (size_t)c->n_multiprocessors * BLOCKS_PER_MULTIPROCESSOR;
    return dim3((unsigned)(n_blocks < most ? n_blocks : most));
}

hw_status wait(hw_cuda_device *c, hw_error *err) { return hw_cuda_synchronize(&c->base.device, err); }

hw_status measure_read(hw_peaks *a, double *rate, hw_error *err)
{
    hw_cuda_device *c = a->device;
    uint32_t sum = 0;
    const dim3 grid = grid_for(c, a->n_words / SPAN);
    hw_status st = hw_cuda_check(err, cudaMemsetAsync(a->sum, 0, sizeof sum, c->stream), "clearing a sum");
    if (!st) st = wait(c, err);
    const uint64_t start = hw_clock_ns();
    for (int pass = 0; pass < READ_PASSES && !st; pass++)
        st = hw_cuda_launch(c, "read_words", read_words, grid, BLOCK, 0, a->sum, a->words, a->n_words);
    hw_status waited = wait(c, err);
    *rate = (double)READ_PASSES * (double)a->n_words * sizeof(uint4) / hw_seconds_since(start);
    if (waited || st) return waited ? waited : st;
    st = hw_cuda_copy_out(&c->base.device, &sum, a->sum, sizeof sum);
    waited = wait(c, err);
    if (waited || st) return waited ? waited : st;
    if (sum != expected_sum(a->n_words, READ_PASSES))
        return hw_fail(err, HW_ERR_DEVICE, "device cuda: the read kernel found another sum than was written");
    return HW_OK;
}

/* A matrix of any contents; rows padded as in weights.cu. */
hw_weight matrix_of(const hw_peaks *a, hw_peak_shape s, hw_dtype type)
{
    const size_t pad = 32 / hw_dtype_size(type);
    hw_weight w = {};
    w.dims.n_out = s.n_out, w.dims.n_in = s.n_in, w.dims.format.type = type;
    w.stride = (s.n_in + pad - 1) / pad * pad;
    w.data = a->w;
    return w;
}

/* As the device's own products are made: the algorithm that cuBLASLt itself proposes. */
hw_status measure_shape(hw_peaks *a, hw_peak_shape s, hw_dtype type, double *rate, hw_error *err)
{
    hw_cuda_device *c = a->device;
    const hw_weight w = matrix_of(a, s, type);
    hw_cuda_product p = {};
    bool done = true;
    uint64_t start = 0;
    hw_status st = HW_OK;
    p.out = a->out, p.x = a->x, p.w = &w, p.n_rows = s.n_rows;
    *rate = 0;
    for (int i = -1; i < PRODUCT_REPEATS && !st && done; i++) { /* one to warm up */
        if (i <= 0) st = wait(c, err), start = hw_clock_ns();
        if (!st) st = hw_cuda_blas_product(c, &p, &done);
    }
    const hw_status waited = wait(c, err);
    const double flops = 2.0 * (double)s.n_rows * (double)s.n_out * (double)s.n_in;
    if (done) *rate = PRODUCT_REPEATS * flops / hw_seconds_since(start);
    return waited ? waited : st;
}

hw_status measure_products(hw_peaks *a, hw_dtype type, double *rate, hw_error *err)
{
    hw_status st = HW_OK;
    *rate = 0;
    for (int i = 0; i < a->sizes.n_shapes && !st; i++) {
        double one;
        st = measure_shape(a, a->sizes.shapes[i], type, &one, err);
        if (!st && one > *rate) *rate = one;
    }
    return st;
}

void destroy(hw_peaks *a)
{
    hw_device *d = &a->device->base.device;
    hw_cuda_free(d, a->words);
    hw_cuda_free(d, a->sum);
    hw_cuda_free(d, a->w);
    hw_cuda_free(d, a->x);
    hw_cuda_free(d, a->out);
    free(a);
}

/* Room for every shape in turn, in float32, and numbers in it. */
hw_status make_products(hw_peaks *a, hw_error *err)
{
    hw_cuda_device *c = a->device;
    size_t n_w = 0, n_x = 0, n_out = 0;
    for (int i = 0; i < a->sizes.n_shapes; i++) {
        const hw_peak_shape s = a->sizes.shapes[i];
        const size_t w = s.n_out * matrix_of(a, s, HW_BF16).stride, x = s.n_rows * s.n_in;
        if (w > n_w) n_w = w;
        if (x > n_x) n_x = x;
        if (s.n_rows * s.n_out > n_out) n_out = s.n_rows * s.n_out;
    }
    if (!n_w) return HW_OK;
    hw_status st = hw_cuda_take((void **)&a->w, n_w * sizeof(float), err);
    if (!st) st = hw_cuda_take((void **)&a->x, n_x * sizeof(float), err);
    if (!st) st = hw_cuda_take((void **)&a->out, n_out * sizeof(float), err);
    if (!st)
        st = hw_cuda_launch(c, "fill_numbers", fill_numbers, grid_for(c, hw_cuda_blocks(n_w, BLOCK)), BLOCK,
                            0, (uint32_t *)a->w, n_w);
    if (!st)
        st = hw_cuda_launch(c, "fill_numbers", fill_numbers, grid_for(c, hw_cuda_blocks(n_x, BLOCK)), BLOCK,
                            0, (uint32_t *)a->x, n_x);
    return st;
}

hw_status create(hw_peaks **out, hw_device *d, const hw_peak_sizes *sizes, hw_error *err)
{
    hw_cuda_device *c = hw_cuda_of(d);
    *out = nullptr;
    hw_peaks *a = (hw_peaks *)calloc(1, sizeof *a);
    if (!a) return hw_fail(err, HW_ERR_NO_MEMORY, "peaks: no memory");
    a->device = c;
    a->sizes = *sizes;
    const size_t read_bytes = sizes->read_bytes ? sizes->read_bytes : READ_CACHES * c->cache_bytes;
    a->n_words = (read_bytes / sizeof(uint4) + SPAN - 1) / SPAN * SPAN;
    hw_status st = hw_cuda_take((void **)&a->words, a->n_words * sizeof(uint4), err);
    if (!st) st = hw_cuda_take((void **)&a->sum, sizeof *a->sum, err);
    if (!st)
        st = hw_cuda_launch(c, "fill_words", fill_words, grid_for(c, a->n_words / BLOCK), BLOCK, 0, a->words,
                            a->n_words);
    if (!st) st = make_products(a, err);
    const hw_status waited = wait(c, err);
    if (waited) st = waited;
    if (st) destroy(a);
    else *out = a;
    return st;
}

bool has(const hw_peaks *a, hw_peak which)
{
    if (which == HW_PEAK_READ) return true;
    return (which == HW_PEAK_PRODUCT_F32 || which == HW_PEAK_PRODUCT_BF16) && a->sizes.n_shapes > 0;
}

hw_status measure(hw_peaks *a, hw_peak which, double *rate, hw_error *err)
{
    if (which == HW_PEAK_PRODUCT_F32) return measure_products(a, HW_F32, rate, err);
    if (which == HW_PEAK_PRODUCT_BF16) return measure_products(a, HW_BF16, rate, err);
    return measure_read(a, rate, err);
}

hw_peak_ops make_ops()
{
    hw_peak_ops ops = {};
    ops.create = create;
    ops.destroy = destroy;
    ops.has = has;
    ops.measure = measure;
    return ops;
}

} // namespace

const hw_peak_ops hw_cuda_peaks = make_ops();
