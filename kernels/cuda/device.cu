/* Creating a device, its op table, and what the plug-in exports. */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/numbers.h"
#include "kernels/plugin.h"

namespace
{

const hw_cuda_device *state_of(const hw_device *d) { return (const hw_cuda_device *)(const void *)d; }

uint64_t n_launches(const hw_device *d) { return state_of(d)->n_launches; }
uint64_t n_starts(const hw_device *d) { return state_of(d)->n_starts; }
uint64_t n_allocations(const hw_device *d) { return state_of(d)->n_allocations; }
const hw_counter_ops counters = {n_launches, n_starts, n_allocations};

void *stream_of(hw_device *d) { return hw_cuda_of(d)->stream; }

hw_kernels make_table()
{
    hw_kernels t = {};
    t.name = "cuda";
    t.alloc = hw_cuda_alloc;
    t.free = hw_cuda_free;
    t.copy_in = hw_cuda_copy_in;
    t.copy_out = hw_cuda_copy_out;
    t.copy = hw_cuda_copy;
    t.synchronize = hw_cuda_synchronize;
    t.host_alloc = hw_cuda_host_alloc;
    t.host_free = hw_cuda_host_free;
    t.available = hw_cuda_available;
    t.stream = stream_of;
    t.weight_create = hw_cuda_weight_create;
    t.weight_put = hw_cuda_weight_put;
    t.weight_destroy = hw_cuda_weight_destroy;
    t.weight_bytes = hw_cuda_weight_bytes;
    t.weight_dims = hw_cuda_weight_dims;
    t.gather = hw_cuda_gather;
    t.select_rows = hw_cuda_select_rows;
    t.rmsnorm = hw_cuda_rmsnorm;
    t.qk_norm = hw_cuda_qk_norm;
    t.layernorm = hw_cuda_layernorm;
    t.matmul = hw_cuda_matmul;
    t.logits = hw_cuda_logits;
    t.rope_angles = hw_cuda_rope_angles;
    t.rope_append = hw_cuda_rope_append;
    t.attention = hw_cuda_attention;
    t.attention_scratch = hw_cuda_attention_scratch;
    t.attends.window = true;
    t.activate = hw_cuda_activate;
    t.add_bias_residual = hw_cuda_add_bias_residual;
    t.penalize = hw_cuda_penalize;
    t.row_best = hw_cuda_row_best;
    t.row_mass = hw_cuda_row_mass;
    t.row_draw = hw_cuda_row_draw;
    t.fused = &hw_cuda_fused;
    t.graph = &hw_cuda_graph;
    t.device_loop = &hw_cuda_device_loop;
    t.counters = &counters;
    t.peaks = &hw_cuda_peaks;
    return t;
}

const hw_kernels table = make_table();

void destroy(hw_device_base *base)
{
    hw_cuda_device *c = (hw_cuda_device *)(void *)base;
    hw_device *d = &base->device;
    if (c->stream) (void)cudaStreamSynchronize(c->stream);
    hw_cuda_free(d, c->keys);
    hw_cuda_free(d, c->found);
    hw_cuda_free(d, c->ids);
    hw_cuda_free(d, c->counters);
    hw_cuda_free(d, c->blas_workspace);
    hw_cuda_host_free(d, c->host_keys);
    for (int i = 0; i < HW_CUDA_STAGE_HALVES; i++) {
        hw_cuda_host_free(d, c->stage[i]);
        if (c->stage_copied[i]) (void)cudaEventDestroy(c->stage_copied[i]);
    }
    for (cudaEvent_t event : c->events)
        if (event) (void)cudaEventDestroy(event);
    if (c->blas) (void)c->lt.cublasLtDestroy(c->blas);
    if (c->stream) (void)cudaStreamDestroy(c->stream);
    (void)cudaGetLastError();
    free(c);
}

/* Why there is no GPU to use, in the order in which somebody would look for the reason. */
hw_status count_devices(int *n, bool *has_driver, hw_error *err)
{
    int driver = 0, runtime = 0;
    *n = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
    (void)cudaRuntimeGetVersion(&runtime);
    *has_driver = driver != 0;
    if (!driver)
        return hw_fail(
            err, HW_ERR_DEVICE,
            "device cuda: this host has no NVIDIA driver (libcuda.so.1); install one, or use --device cpu");
    const cudaError_t code = cudaGetDeviceCount(n);
    if (code == cudaErrorInsufficientDriver)
        return hw_fail(
            err, HW_ERR_DEVICE,
            "device cuda: the NVIDIA driver is for CUDA %d.%d, this build wants %d.%d or later; update the "
            "driver, or use --device cpu",
            driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    if (code == cudaErrorNoDevice || (!code && !*n)) {
        const char *visible = getenv("CUDA_VISIBLE_DEVICES");
        return hw_fail(err, HW_ERR_DEVICE, "device cuda: no GPU is visible here%s%s%s; use --device cpu",
                       visible ? " (CUDA_VISIBLE_DEVICES is '" : "", visible ? visible : "",
                       visible ? "')" : "");
    }
    return hw_cuda_check(err, code, "looking for GPUs");
}

bool is_set(const char *variable)
{
    const char *value = getenv(variable);
    return value && *value && strcmp(value, "0");
}

/* A block that takes at most half of what a multiprocessor has leaves room for another one. */
const size_t MOST_SHARED_BYTES = 96 << 10;

void take_properties(hw_cuda_device *c, const cudaDeviceProp *p)
{
    const size_t most = p->sharedMemPerBlockOptin - HW_CUDA_STATIC_SHARED_BYTES;
    c->n_multiprocessors = p->multiProcessorCount;
    c->most_shared_bytes = most < MOST_SHARED_BYTES ? most : MOST_SHARED_BYTES;
    c->cache_bytes = (size_t)p->l2CacheSize;
    c->waits = is_set("HW_CUDA_SYNC");
    c->plain = is_set("HW_CUDA_PLAIN");
}

/* Never launched: it is asked what all kernels were compiled for. */
__global__ void any_kernel() { hw_begin(); }

/* Whether a kernel may be started while the one before it still runs: if the GPU can do that, and the kernels wait. From
 * PTX for an older GPU the driver compiles kernels for this one in which hw_wait_for_previous is empty. */
hw_status settle_overlap(hw_cuda_device *c, const cudaDeviceProp *p, hw_error *err)
{
    cudaFuncAttributes a = {};
    const hw_status st = hw_cuda_check(err, cudaFuncGetAttributes(&a, any_kernel), "asking about a kernel");
    const bool kernels_wait =
        a.ptxVersion >= HW_OLDEST_OVERLAPPING && a.binaryVersion >= HW_OLDEST_OVERLAPPING;
    c->overlaps = !st && p->major * 10 >= HW_OLDEST_OVERLAPPING && kernels_wait && !c->waits &&
                  !is_set("HW_CUDA_NO_OVERLAP");
    return st;
}

/* FNV-1a. A GPU has one UUID wherever it is seen from. */
uint64_t hash(const void *bytes, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ static_cast<const unsigned char *>(bytes)[i]) * 1099511628211u;
    return h;
}

hw_status choose_gpu(hw_cuda_device *c, hw_device_place place, bool *found, hw_error *err)
{
    int n = 0;
    hw_status st = count_devices(&n, found, err);
    if (st) return st;
    const int index = place.local_rank % n;
    c->n_sharing = (place.n_local_ranks - index + n - 1) / n;
    cudaDeviceProp properties;
    st = hw_cuda_check(err, cudaSetDevice(index), "choosing a GPU");
    if (!st) st = hw_cuda_check(err, cudaGetDeviceProperties(&properties, index), "asking about a GPU");
    if (!st) take_properties(c, &properties);
    if (!st) st = settle_overlap(c, &properties, err);
    if (st) return hw_context(err, st, "GPU %d of %d", index, n);
    c->index = index;
    c->base.device.n_alike = n;
    c->base.device.hardware = hash(&properties.uuid, sizeof properties.uuid);
    snprintf(c->base.description, sizeof c->base.description, "cuda %d, %.40s", index, properties.name);
    return HW_OK;
}

hw_status make_memory(hw_cuda_device *c, hw_error *err)
{
    hw_device *d = &c->base.device;
    const size_t keys = (HW_CUDA_MAX_KEYS + 1) * sizeof *c->keys;
    hw_status st = hw_cuda_take((void **)&c->keys, keys, err);
    if (!st) st = hw_cuda_take((void **)&c->found, HW_CUDA_MAX_KEYS * sizeof *c->found, err);
    if (!st) st = hw_cuda_take((void **)&c->ids, HW_CUDA_MAX_KEYS * sizeof *c->ids, err);
    if (!st) st = hw_cuda_alloc(d, (void **)&c->counters, HW_CUDA_MAX_COUNTERS * sizeof *c->counters, err);
    if (!st) st = hw_cuda_take(&c->blas_workspace, HW_CUDA_BLAS_BYTES, err);
    if (!st) st = hw_cuda_host_alloc(d, (void **)&c->host_keys, keys, err);
    for (int i = 0; i < HW_CUDA_STAGE_HALVES && !st; i++) {
        st = hw_cuda_host_alloc(d, (void **)&c->stage[i], HW_CUDA_STAGE_BYTES, err);
        if (!st)
            st = hw_cuda_check(err, cudaEventCreateWithFlags(&c->stage_copied[i], cudaEventDisableTiming),
                               "making an event");
    }
    for (int i = 0; i < HW_N_EVENTS && !st; i++)
        st = hw_cuda_check(err, cudaEventCreateWithFlags(&c->events[i], cudaEventDisableTiming),
                           "making an event");
    return st;
}

/* A device that hangs is kept until the process ends: taking it apart would wait for it. Volatile, because nobody reads
 * it and leak checkers are to find the device here. */
hw_cuda_device *volatile given_up;

hw_status create(hw_device **out, const hw_plugin_request *request, hw_error *err)
{
    hw_cuda_device *c = (hw_cuda_device *)calloc(1, sizeof *c);
    *out = nullptr;
    if (!c) return hw_fail(err, HW_ERR_NO_MEMORY, "device cuda: no memory for %zu bytes", sizeof *c);
    c->base.device.k = &table;
    c->base.device.act = request->act;
    c->base.device.n_threads = 1;
    c->base.destroy = destroy;
    hw_status st = choose_gpu(c, request->place, request->found, err);
    if (!st)
        st = hw_cuda_check(err, cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking),
                           "making a stream");
    if (!st) st = hw_blas_open(&c->lt, err);
    if (!st) st = hw_cuda_blas_check(err, c->lt.cublasLtCreate(&c->blas), "starting");
    if (!st) st = make_memory(c, err);
    if (!st) st = hw_cuda_prove(c, err);
    if (st && c->hangs) given_up = c;
    else if (st) destroy(&c->base);
    if (st) return st;
    *out = &c->base.device;
    return HW_OK;
}

} // namespace

extern "C" __attribute__((visibility("default"))) hw_status
hw_plugin_create(hw_device **out, const hw_plugin_request *request, hw_error *err)
{
    *out = nullptr;
    if (request->version != HW_PLUGIN_VERSION || request->table_bytes != sizeof(hw_kernels))
        return hw_fail(
            err, HW_ERR_UNSUPPORTED,
            "device cuda: the plug-in and the program are from different versions of Headway (%d and %d); "
            "install both from one build",
            (int)HW_PLUGIN_VERSION, (int)request->version);
    if (request->act != HW_F32 && request->act != HW_F16 && request->act != HW_BF16)
        return hw_fail(err, HW_ERR_INVALID,
                       "device cuda: activations of %s, wanted float32, float16 or bfloat16",
                       hw_dtype_name(request->act));
    return create(out, request, err);
}
