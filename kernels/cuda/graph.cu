/* Work of the stream, kept as a graph that is started by one call. */
#include <stdlib.h>

#include "kernels/cuda/cuda.h"

struct hw_graph {
    cudaGraphExec_t exec;
    uint64_t n_kernels;
};

namespace
{

/* HW_CUDA_SYNC waits after every kernel, which a capture does not allow. */
bool can_capture(const hw_device *d) { return !reinterpret_cast<const hw_cuda_device *>(d)->waits; }

hw_status capture_begin(hw_device *d, hw_error *err)
{
    hw_cuda_device *c = hw_cuda_of(d);
    c->n_before_capture = c->n_launches;
    return hw_cuda_check(err, cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal),
                         "beginning a graph");
}

/* What an op noted says more than that the capture was lost. */
hw_status capture_end(hw_device *d, hw_graph **out, hw_error *err)
{
    hw_cuda_device *c = hw_cuda_of(d);
    cudaGraph_t graph = nullptr;
    *out = nullptr;
    const uint64_t n_kernels = c->n_launches - c->n_before_capture;
    c->n_launches -= n_kernels;
    c->n_starts -= n_kernels;
    hw_status st = hw_cuda_check(err, cudaStreamEndCapture(c->stream, &graph), "making a graph");
    const hw_status told = hw_cuda_tell(&c->failure, err);
    if (told) st = told;
    hw_graph *g = st ? nullptr : static_cast<hw_graph *>(calloc(1, sizeof *g));
    if (!st && !g) st = hw_fail(err, HW_ERR_NO_MEMORY, "device cuda: no memory for a graph");
    if (!st) st = hw_cuda_check(err, cudaGraphInstantiate(&g->exec, graph, 0), "making a graph ready");
    if (graph) (void)cudaGraphDestroy(graph);
    if (st) free(g);
    else g->n_kernels = n_kernels, *out = g;
    return hw_context(err, st, "GPU %d", c->index);
}

hw_status launch(hw_device *d, hw_graph *g)
{
    hw_cuda_device *c = hw_cuda_of(d);
    c->n_launches += g->n_kernels - 1; /* the launch itself is counted as one below */
    return hw_cuda_started(c, cudaGraphLaunch(g->exec, c->stream), "a decode step's graph");
}

void destroy(hw_device *, hw_graph *g)
{
    if (!g) return;
    if (cudaGraphExecDestroy(g->exec) != cudaSuccess) (void)cudaGetLastError();
    free(g);
}

} // namespace

const hw_graph_ops hw_cuda_graph = {can_capture, capture_begin, capture_end, launch, destroy};
