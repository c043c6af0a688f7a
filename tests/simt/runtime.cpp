/* The CUDA runtime of the SIMT layer: what the device is, how kernels start, and memory that only work in the
 * stream may touch. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>

#include "tests/simt/simt.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

namespace
{

enum { PAGE = 4096, MOST_THREADS = 1024, WARP = 32, MOST_BLOCKS_YZ = 65535 };
const size_t SHARED_BYTES = 48 << 10, MOST_SHARED_BYTES = 64 << 10;
const size_t STATIC_BYTES = 4 << 10; /* kept for a kernel's own variables, whose size is not known here */
const size_t DEVICE_BYTES = (size_t)2 << 30, FILLED_BYTES = 64 << 10;

/* Addresses for the device's memory. Between pieces of work nobody may touch them: a host that follows a
 * pointer into the device ends here as it would with a GPU. */
char *arena;
size_t used_bytes;
std::map<size_t, size_t> blocks;               /* offset, size in whole pages and one that stays empty */
std::map<const char *, size_t> pinned;         /* host memory that copies read and write when they run */
std::map<const void *, size_t> allowed_shared; /* of kernels that asked for more */
long n_launches, n_grids, n_skippable, n_hanging, n_allocations;
cudaError_t broken; /* what the device said last; it stays that way */

size_t pages(size_t n) { return (n + PAGE - 1) / PAGE * PAGE; }

bool is_pinned(const void *p)
{
    auto after = pinned.upper_bound((const char *)p);
    if (after == pinned.begin()) return false;
    --after;
    return (const char *)p < after->first + after->second;
}

/* First gap that is large enough. */
bool find_gap(size_t n, size_t *at)
{
    *at = 0;
    for (const auto &b : blocks) {
        if (b.first - *at >= n) return true;
        *at = b.first + b.second;
    }
    return *at + n <= DEVICE_BYTES * 2;
}

int setting(const char *name, int standard)
{
    const char *text = getenv(name);
    return text ? atoi(text) : standard;
}

} // namespace

cudaError_t hw_simt_broken() { return broken; }

void hw_simt_open_memory(bool open)
{
    if (!arena || blocks.empty()) return;
    const auto last = blocks.rbegin();
    if (mprotect(arena, last->first + last->second, open ? PROT_READ | PROT_WRITE : PROT_NONE)) abort();
}

bool hw_simt_is_to_fail(const char *variable, long *count)
{
    const char *which = getenv(variable), *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (!which) return false;
    const char *at = strchr(which, '@');
    return ++*count == atol(which) && (!at || atol(at + 1) == (rank ? atol(rank) : 0));
}

void hw_simt_first_use(bool *used)
{
    if (!*used) usleep((unsigned)setting("HW_SIMT_LAZY_MS", 0) * 1000);
    *used = true;
}

cudaError_t hw_simt_allow_shared(const void *kernel, int n_bytes)
{
    HW_SIMT_CALL();
    if (n_bytes < 0 || (size_t)n_bytes > MOST_SHARED_BYTES - STATIC_BYTES) return cudaErrorInvalidValue;
    allowed_shared[kernel] = (size_t)n_bytes;
    return cudaSuccess;
}

/* HW_SIMT_PTX: the GPU that kernels were written for, as the driver then compiled them for this one. */
cudaError_t hw_simt_attributes(cudaFuncAttributes *out)
{
    HW_SIMT_CALL();
    out->binaryVersion = 90;
    out->ptxVersion = setting("HW_SIMT_PTX", 90);
    return cudaSuccess;
}

/* The wait is compiled only into kernels for GPUs that can overlap them. */
static void check_overlap(const cudaLaunchConfig_t *config)
{
    bool overlaps = false;
    for (unsigned i = 0; i < config->numAttrs; i++)
        overlaps = overlaps || config->attrs[i].val.programmaticStreamSerializationAllowed;
    if (!overlaps || setting("HW_SIMT_PTX", 90) >= 90) return;
    fprintf(stderr,
            "SIMT layer: a kernel is started while the one before it runs, and does not wait for it\n");
    abort();
}

/* HW_SIMT_FAIL_LAUNCH lets a launch fail; HW_SIMT_FAIL_KERNEL a kernel that runs, which is told when
 * somebody waits and by every call after that. HW_SIMT_SKIP_KERNEL: one that writes nothing; HW_SIMT_HANG_KERNEL: one that
 * does not end. */
cudaError_t hw_simt_launch(const cudaLaunchConfig_t *config, const void *kernel, std::function<void()> thread)
{
    HW_SIMT_CALL();
    const dim3 grid = config->gridDim, block = config->blockDim;
    const size_t n = (size_t)block.x * block.y * block.z, shared = config->dynamicSmemBytes;
    if (broken) return broken;
    check_overlap(config);
    if (hw_simt_is_to_fail("HW_SIMT_FAIL_LAUNCH", &n_launches)) return cudaErrorLaunchFailure;
    const auto asked = allowed_shared.find(kernel);
    const size_t most_shared = asked == allowed_shared.end() ? SHARED_BYTES - STATIC_BYTES : asked->second;
    if (!n || n > MOST_THREADS || n % WARP || !grid.x || !grid.y || !grid.z || grid.x > INT32_MAX ||
        grid.y > MOST_BLOCKS_YZ || grid.z > MOST_BLOCKS_YZ || shared > most_shared)
        return cudaErrorInvalidConfiguration;
    if (hw_simt_is_to_fail("HW_SIMT_HANG_KERNEL", &n_hanging)) hw_simt_enqueue_poll([] { return false; });
    if (hw_simt_is_to_fail("HW_SIMT_SKIP_KERNEL", &n_skippable)) return cudaSuccess;
    hw_simt_enqueue([=] {
        if (hw_simt_is_to_fail("HW_SIMT_FAIL_KERNEL", &n_grids)) broken = cudaErrorECCUncorrectable;
        if (!broken) hw_simt_run_grid(grid, block, shared, thread);
    });
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t code)
{
    switch (code) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorECCUncorrectable: return "uncorrectable ECC error encountered";
    case cudaErrorUnknown: return "unknown error";
    case cudaErrorNotReady: return "device not ready";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    }
    return "unrecognized error code";
}

const char *cudaGetErrorName(cudaError_t code)
{
    if (code == cudaErrorECCUncorrectable) return "cudaErrorECCUncorrectable";
    return code == cudaErrorLaunchFailure ? "cudaErrorLaunchFailure" : "an error of the SIMT layer";
}

cudaError_t cudaGetLastError() { return cudaSuccess; }

/* The driver calls the runtime that started it when the process ends, as libcuda does: where that has been unmapped,
 * it jumps into nothing. */
static void end_driver(int, void *) {}

static void start_driver()
{
    static const bool started = !on_exit(end_driver, nullptr);
    if (!started) abort();
}

/* HW_SIMT_DRIVER: what the driver says it is for, 0 where there is none; HW_SIMT_DEVICES: how many there are. */
cudaError_t cudaDriverGetVersion(int *version)
{
    return *version = setting("HW_SIMT_DRIVER", 13000), cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) { return *version = 13000, cudaSuccess; }

cudaError_t cudaGetDeviceCount(int *n)
{
    HW_SIMT_CALL();
    *n = setting("HW_SIMT_DEVICES", 1);
    if (setting("HW_SIMT_DRIVER", 13000)) start_driver();
    if (setting("HW_SIMT_DRIVER", 13000) < 13000) return cudaErrorInsufficientDriver;
    return *n ? cudaSuccess : cudaErrorNoDevice;
}

static int current_device;

cudaError_t cudaSetDevice(int index)
{
    if (index >= setting("HW_SIMT_DEVICES", 1)) return cudaErrorInvalidValue;
    current_device = index;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *index) { return *index = current_device, cudaSuccess; }

/* Few multiprocessors, so that tests of small sizes meet both sides of every decision that depends on them. */
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int index)
{
    HW_SIMT_CALL();
    *out = {};
    snprintf(out->name, sizeof out->name, "SIMT layer on the host, no GPU");
    out->multiProcessorCount = 2;
    out->major = 9;
    out->sharedMemPerBlockOptin = MOST_SHARED_BYTES;
    out->l2CacheSize = 32 << 10;
    out->uuid.bytes[0] = (char)(index + 1);
    return index < setting("HW_SIMT_DEVICES", 1) ? cudaSuccess : cudaErrorInvalidValue;
}

/* ---- memory. What nothing was written to holds NaN, as it might hold anything; what is past the end is
 * for nobody. HW_SIMT_FAIL_MALLOC=n lets the n-th allocation fail. */

cudaError_t cudaMalloc(void **out, size_t n_bytes)
{
    HW_SIMT_CALL();
    size_t at;
    if (hw_simt_spoils_capture()) return cudaErrorStreamCaptureUnsupported;
    if (hw_simt_is_to_fail("HW_SIMT_FAIL_MALLOC", &n_allocations)) return cudaErrorMemoryAllocation;
    if (n_bytes > DEVICE_BYTES - used_bytes || !find_gap(pages(n_bytes) + PAGE, &at))
        return cudaErrorMemoryAllocation;
    if (!arena) {
        void *p =
            mmap(nullptr, DEVICE_BYTES * 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) return cudaErrorMemoryAllocation;
        arena = (char *)p;
    }
    hw_simt_run_all();
    blocks[at] = pages(n_bytes) + PAGE;
    used_bytes += pages(n_bytes);
    char *p = arena + at;
    hw_simt_open_memory(true);
    ASAN_UNPOISON_MEMORY_REGION(p, n_bytes);
    memset(p, 0xff, n_bytes < FILLED_BYTES ? n_bytes : FILLED_BYTES);
    hw_simt_open_memory(false);
    ASAN_POISON_MEMORY_REGION(p + n_bytes, pages(n_bytes) + PAGE - n_bytes);
    *out = p;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p) return cudaSuccess;
    if (hw_simt_spoils_capture()) return cudaErrorStreamCaptureUnsupported;
    hw_simt_run_all();
    auto block = blocks.find((size_t)((char *)p - arena));
    if (block == blocks.end()) return cudaErrorInvalidValue;
    const size_t n = block->second - PAGE;
    (void)madvise(p, n, MADV_DONTNEED);
    ASAN_POISON_MEMORY_REGION(p, n);
    used_bytes -= n;
    blocks.erase(block);
    return hw_simt_is_lost() ? cudaErrorUnknown : cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t n_bytes)
{
    HW_SIMT_CALL();
    *out = aligned_alloc(PAGE, pages(n_bytes));
    if (!*out) return cudaErrorMemoryAllocation;
    pinned[(const char *)*out] = n_bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    hw_simt_run_all();
    if (!pinned.erase((const char *)p)) return cudaErrorInvalidValue;
    free(p);
    return hw_simt_is_lost() ? cudaErrorUnknown : cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *out, const void *p)
{
    HW_SIMT_CALL();
    const bool here = arena && (const char *)p >= arena && (const char *)p < arena + DEVICE_BYTES * 2;
    out->type = is_pinned(p) ? cudaMemoryTypeHost : here ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *n_free, size_t *n_total)
{
    HW_SIMT_CALL();
    *n_free = DEVICE_BYTES - used_bytes;
    *n_total = DEVICE_BYTES;
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t n_bytes, cudaStream_t)
{
    HW_SIMT_CALL();
    hw_simt_enqueue([=] { memset(p, value, n_bytes); });
    return cudaSuccess;
}

/* Rows [height, width]. All memory is read and written when the copy runs: where the device reaches pageable memory by
 * itself (GH200), that is read late too. What pageable memory gets from the device is there when the call returns; in
 * a graph there is no such moment. */
cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t)
{
    HW_SIMT_CALL();
    if (width > dst_pitch || width > src_pitch) return cudaErrorInvalidValue;
    const bool is_pageable = (kind == cudaMemcpyHostToDevice && !is_pinned(src)) ||
                             (kind == cudaMemcpyDeviceToHost && !is_pinned(dst));
    if (is_pageable && hw_simt_spoils_capture()) return cudaErrorStreamCaptureUnsupported;
    hw_simt_enqueue([=] {
        for (size_t r = 0; r < height; r++)
            memcpy((char *)dst + r * dst_pitch, (const char *)src + r * src_pitch, width);
    });
    if (kind == cudaMemcpyDeviceToHost && !is_pinned(dst)) hw_simt_run_all();
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n_bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    HW_SIMT_CALL();
    return cudaMemcpy2DAsync(dst, n_bytes, src, n_bytes, n_bytes, 1, kind, stream);
}
