/* What kernels/cuda/ uses of CUDA C++ and of the CUDA runtime, on the host. The names are NVIDIA's;
 * README.md says what they do here. */
#ifndef HW_TESTS_SIMT_CUDA_RUNTIME_H
#define HW_TESTS_SIMT_CUDA_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>

/* ---- the language. One block of threads runs at a time, so that what its threads share can be static. */

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

void __syncthreads();
unsigned char *hw_simt_dynamic_shared();
void hw_simt_wait_for_previous(); /* every thread of every kernel has to */

/* Every lane of the warp gives `x` and gets the one of lane ^ lane_mask. */
uint64_t hw_simt_shuffle_xor(unsigned lanes, uint64_t x, int lane_mask);
template <typename T> T __shfl_xor_sync(unsigned lanes, T x, int lane_mask)
{
    uint64_t bits = 0;
    static_assert(sizeof x <= sizeof bits);
    memcpy(&bits, &x, sizeof x);
    bits = hw_simt_shuffle_xor(lanes, bits, lane_mask);
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Every lane gives `x` and gets the one of lane `from`. */
uint64_t hw_simt_shuffle(unsigned lanes, uint64_t x, int from);
template <typename T> T __shfl_sync(unsigned lanes, T x, int from)
{
    uint64_t bits = 0;
    static_assert(sizeof x <= sizeof bits);
    memcpy(&bits, &x, sizeof x);
    bits = hw_simt_shuffle(lanes, bits, from);
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline void __threadfence() {}

template <typename T> T atomicAdd(T *to, T x)
{
    T old = *to;
    *to = old + x;
    return old;
}
template <typename T> T atomicMax(T *to, T x)
{
    T old = *to;
    if (x > old) *to = x;
    return old;
}

/* ---- the runtime */

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorECCUncorrectable = 214,
    cudaErrorNotReady = 600,
    cudaErrorLaunchFailure = 719,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
    cudaErrorUnknown = 999,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };

typedef struct hw_simt_stream *cudaStream_t;
typedef struct hw_simt_event *cudaEvent_t;
typedef struct hw_simt_graph *cudaGraph_t, *cudaGraphExec_t;
typedef struct hw_simt_node *cudaGraphNode_t;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone = 0, cudaStreamCaptureStatusActive = 1 };

struct cudaUUID_t {
    char bytes[16];
};

enum cudaMemoryType { cudaMemoryTypeUnregistered = 0, cudaMemoryTypeHost = 1, cudaMemoryTypeDevice = 2 };
struct cudaPointerAttributes {
    cudaMemoryType type;
};

struct cudaDeviceProp {
    char name[256];
    cudaUUID_t uuid;
    int multiProcessorCount, major, minor, l2CacheSize;
    size_t sharedMemPerBlockOptin;
};

enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization = 6 };
union cudaLaunchAttributeValue {
    int programmaticStreamSerializationAllowed;
};
struct cudaLaunchAttribute {
    cudaLaunchAttributeID id;
    cudaLaunchAttributeValue val;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute *attrs;
    unsigned numAttrs;
};

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
cudaError_t hw_simt_allow_shared(const void *kernel, int n_bytes);
template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute, int value)
{
    return hw_simt_allow_shared((const void *)kernel, value);
}

/* What a kernel was compiled for: a GPU, from code for a GPU. */
struct cudaFuncAttributes {
    int binaryVersion, ptxVersion;
};
cudaError_t hw_simt_attributes(cudaFuncAttributes *out);
template <typename... Parameters>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *out, void (*)(Parameters...))
{
    return hw_simt_attributes(out);
}

cudaError_t hw_simt_launch(const cudaLaunchConfig_t *config, const void *kernel,
                           std::function<void()> thread);

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Parameters...),
                               Arguments... arguments)
{
    return hw_simt_launch(config, (const void *)kernel,
                          [=] { kernel(static_cast<Parameters>(arguments)...); });
}

const char *cudaGetErrorString(cudaError_t code);
const char *cudaGetErrorName(cudaError_t code);
cudaError_t cudaGetLastError();
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int index);
cudaError_t cudaGetDevice(int *index);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int index);
cudaError_t cudaMalloc(void **out, size_t n_bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocHost(void **out, size_t n_bytes);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *out, const void *p);
cudaError_t cudaMemGetInfo(size_t *n_free, size_t *n_total);
cudaError_t cudaMemsetAsync(void *p, int value, size_t n_bytes, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n_bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out);
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);

#endif
