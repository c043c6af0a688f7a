/* Memory of the device and copies, in the order of its stream. */
#include <algorithm>
#include <stdio.h>

#include "kernels/cuda/cuda.h"
#include "runtime/base/checked.h"

namespace
{

/* What the message of an allocation that failed needs to be of use. */
hw_status refuse(hw_error *err, cudaError_t code, size_t n_bytes)
{
    size_t n_free = 0, n_total = 0;
    (void)cudaGetLastError();
    if (code != cudaErrorMemoryAllocation) return hw_cuda_check(err, code, "allocating memory");
    if (cudaMemGetInfo(&n_free, &n_total) != cudaSuccess) (void)cudaGetLastError();
    return hw_fail(err, HW_ERR_NO_MEMORY, "device cuda: no memory for %zu bytes; %zu of %zu MiB are free",
                   n_bytes, n_free >> 20, n_total >> 20);
}

hw_status copy(hw_device *d, void *dst, const void *src, size_t n_bytes, cudaMemcpyKind kind,
               const char *what)
{
    hw_cuda_device *c = hw_cuda_of(d);
    if (!n_bytes) return HW_OK;
    return hw_cuda_note(&c->failure, cudaMemcpyAsync(dst, src, n_bytes, kind, c->stream), what);
}

enum { STAGE_ALIGN = 64 };

/* Whether copies from there may read it when they run. */
bool is_pinned(const void *p)
{
    cudaPointerAttributes a = {};
    if (cudaPointerGetAttributes(&a, p) == cudaSuccess) return a.type == cudaMemoryTypeHost;
    (void)cudaGetLastError();
    return false;
}

} // namespace

cudaError_t hw_cuda_stage(hw_cuda_device *c, char **out, size_t n_bytes)
{
    const size_t n = hw_round_up(n_bytes, STAGE_ALIGN);
    cudaError_t code = cudaSuccess;
    if (n > HW_CUDA_STAGE_BYTES - c->stage_used) {
        code = cudaEventRecord(c->stage_copied[c->stage_half], c->stream);
        c->stage_half = (c->stage_half + 1) % HW_CUDA_STAGE_HALVES;
        c->stage_used = 0;
        if (!code) code = cudaEventSynchronize(c->stage_copied[c->stage_half]);
    }
    *out = c->stage[c->stage_half] + c->stage_used;
    c->stage_used += n;
    return code;
}

hw_status hw_cuda_take(void **out, size_t n_bytes, hw_error *err)
{
    *out = nullptr;
    const cudaError_t code = cudaMalloc(out, n_bytes ? n_bytes : 1);
    if (!code) return HW_OK;
    *out = nullptr;
    return refuse(err, code, n_bytes);
}

hw_status hw_cuda_alloc(hw_device *d, void **out, size_t n_bytes, hw_error *err)
{
    hw_status st = hw_cuda_take(out, n_bytes, err);
    if (st) return st;
    hw_cuda_of(d)->n_allocations++;
    st = hw_cuda_check(err, cudaMemsetAsync(*out, 0, n_bytes, hw_cuda_of(d)->stream), "clearing memory");
    if (!st) return HW_OK;
    hw_cuda_free(d, *out);
    *out = nullptr;
    return st;
}

void hw_cuda_free(hw_device *, void *p)
{
    if (p && cudaFree(p) != cudaSuccess)
        (void)cudaGetLastError(); /* whatever broke has been told or will be */
}

hw_status hw_cuda_host_alloc(hw_device *, void **out, size_t n_bytes, hw_error *err)
{
    *out = nullptr;
    void *p = nullptr;
    cudaError_t code = cudaMallocHost(&p, n_bytes ? n_bytes : 1);
    if (code) {
        (void)cudaGetLastError();
        return hw_fail(err, hw_cuda_status(code), "device cuda: no pinned host memory for %zu bytes: %s",
                       n_bytes, cudaGetErrorString(code));
    }
    memset(p, 0, n_bytes);
    *out = p;
    return HW_OK;
}

void hw_cuda_host_free(hw_device *, void *p)
{
    if (p && cudaFreeHost(p) != cudaSuccess) (void)cudaGetLastError();
}

/* Ranks on one GPU share what is free. */
uint64_t hw_cuda_available(const hw_device *d)
{
    const hw_cuda_device *c = (const hw_cuda_device *)(const void *)d;
    size_t n_free = 0, n_total = 0;
    if (cudaMemGetInfo(&n_free, &n_total) != cudaSuccess) {
        (void)cudaGetLastError();
        return UINT64_MAX;
    }
    return (uint64_t)n_free / (uint64_t)c->n_sharing;
}

hw_status hw_cuda_copy_in(hw_device *d, void *dst, const void *src, size_t n_bytes)
{
    hw_cuda_device *c = hw_cuda_of(d);
    const char *const what = "copying to the device";
    hw_status st = HW_OK;
    if (is_pinned(src)) return copy(d, dst, src, n_bytes, cudaMemcpyHostToDevice, what);
    for (size_t done = 0, now; done < n_bytes && !st; done += now) {
        char *stage;
        now = std::min(n_bytes - done, (size_t)HW_CUDA_STAGE_BYTES);
        st = hw_cuda_note(&c->failure, hw_cuda_stage(c, &stage, now), what);
        if (st) break;
        memcpy(stage, (const char *)src + done, now);
        st = copy(d, (char *)dst + done, stage, now, cudaMemcpyHostToDevice, what);
    }
    return st;
}

hw_status hw_cuda_copy_out(hw_device *d, void *dst, const void *src, size_t n_bytes)
{
    return copy(d, dst, src, n_bytes, cudaMemcpyDeviceToHost, "copying from the device");
}

hw_status hw_cuda_copy(hw_device *d, void *dst, const void *src, size_t n_bytes)
{
    return copy(d, dst, src, n_bytes, cudaMemcpyDeviceToDevice, "copying on the device");
}

hw_status hw_cuda_started(hw_cuda_device *c, cudaError_t code, const char *name)
{
    c->last = name;
    c->n_launches++;
    c->n_starts++;
    if (!code && c->waits) code = cudaStreamSynchronize(c->stream);
    return hw_cuda_note(&c->failure, code, name);
}

/* A kernel that could not be started is known by name. One that went wrong on the way is the last that was
 * started or one before it. */
hw_status hw_cuda_waited(hw_cuda_device *c, cudaError_t code, hw_error *err)
{
    char where[128];
    snprintf(where, sizeof where, "kernel '%.40s' or one before it (HW_CUDA_SYNC=1 tells which)",
             c->last ? c->last : "none");
    const hw_status st = hw_cuda_check(err, code, where);
    const hw_status told = hw_cuda_tell(&c->failure, err); /* what came first says more */
    return hw_context(err, told ? told : st, "GPU %d", c->index);
}

hw_status hw_cuda_synchronize(hw_device *d, hw_error *err)
{
    hw_cuda_device *c = hw_cuda_of(d);
    return hw_cuda_waited(c, cudaStreamSynchronize(c->stream), err);
}
