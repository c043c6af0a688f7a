/* Streams, events and graphs of the SIMT layer: there is one order for all work, and it is done when somebody
 * waits. Between the beginning and the end of a capture work goes into a graph instead, whose launches put it
 * into the stream. */
#include <sched.h>
#include <stdlib.h>

#include <deque>
#include <memory>
#include <vector>

#include "tests/simt/simt.h"

typedef std::function<bool()> work; /* says whether it is done */

struct hw_simt_stream {
    int unused;
};
struct hw_simt_event {
    std::shared_ptr<bool> happened; /* the last time it was recorded */
};
struct hw_simt_graph {
    std::vector<work> nodes;
};

namespace
{

std::deque<work> queue;
hw_simt_graph *captured;
bool is_spoilt, is_lost;
long n_graph_launches, n_calls;

} // namespace

bool hw_simt_is_lost()
{
    is_lost = is_lost || hw_simt_is_to_fail("HW_SIMT_FAIL_AFTER", &n_calls);
    return is_lost;
}

void hw_simt_enqueue_poll(std::function<bool()> w)
{
    if (captured) captured->nodes.push_back(std::move(w));
    else queue.push_back(std::move(w));
}

void hw_simt_enqueue(std::function<void()> w)
{
    hw_simt_enqueue_poll([w = std::move(w)] {
        w();
        return true;
    });
}

/* Until `enough` says so, the stream is empty, or something waits for others. */
static void run_until(const std::function<bool()> &enough)
{
    if (is_lost) queue.clear();
    if (queue.empty() || enough()) return;
    hw_simt_open_memory(true);
    while (!queue.empty() && !enough() && queue.front()()) queue.pop_front();
    hw_simt_open_memory(false);
}

bool hw_simt_run_some()
{
    run_until([] { return false; });
    return queue.empty();
}

void hw_simt_run_all()
{
    while (!hw_simt_run_some()) sched_yield();
}

bool hw_simt_spoils_capture()
{
    is_spoilt = is_spoilt || captured;
    return captured;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    HW_SIMT_CALL();
    *out = new hw_simt_stream();
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    HW_SIMT_CALL();
    if (hw_simt_spoils_capture()) return cudaErrorStreamCaptureUnsupported;
    hw_simt_run_all();
    return hw_simt_broken();
}

cudaError_t cudaStreamQuery(cudaStream_t)
{
    HW_SIMT_CALL();
    if (hw_simt_spoils_capture()) return cudaErrorStreamCaptureUnsupported;
    return hw_simt_run_some() ? hw_simt_broken() : cudaErrorNotReady;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    hw_simt_run_all();
    delete stream;
    return hw_simt_is_lost() ? cudaErrorUnknown : cudaSuccess;
}

/* ---- events */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    HW_SIMT_CALL();
    *out = new hw_simt_event{std::make_shared<bool>(true)};
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t)
{
    HW_SIMT_CALL();
    auto happened = std::make_shared<bool>(false);
    event->happened = happened;
    hw_simt_enqueue([happened] { *happened = true; });
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    HW_SIMT_CALL();
    if (hw_simt_spoils_capture()) return cudaErrorStreamCaptureUnsupported;
    run_until([event] { return *event->happened; });
    return *event->happened ? hw_simt_broken() : cudaErrorNotReady;
}

/* What comes after the event is left for later, as far as the host can rely on it. */
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    HW_SIMT_CALL();
    cudaError_t code;
    while ((code = cudaEventQuery(event)) == cudaErrorNotReady) sched_yield();
    return code;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return hw_simt_is_lost() ? cudaErrorUnknown : cudaSuccess;
}

/* ---- graphs */

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode)
{
    HW_SIMT_CALL();
    if (captured) return cudaErrorStreamCaptureUnsupported;
    captured = new hw_simt_graph();
    is_spoilt = false;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus *status)
{
    *status = captured ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *out)
{
    hw_simt_graph *g = captured;
    *out = nullptr;
    captured = nullptr;
    if (!g) return cudaErrorInvalidValue;
    if (is_spoilt) {
        delete g;
        return cudaErrorStreamCaptureInvalidated;
    }
    *out = g;
    return hw_simt_is_lost() ? cudaErrorUnknown : cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *, size_t *n)
{
    HW_SIMT_CALL();
    *n = graph->nodes.size();
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return hw_simt_is_lost() ? cudaErrorUnknown : cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    HW_SIMT_CALL();
    *out = new hw_simt_graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return hw_simt_is_lost() ? cudaErrorUnknown : cudaSuccess;
}

/* HW_SIMT_FAIL_GRAPH=n lets the n-th launch of a graph fail as a fault of the device would. */
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t)
{
    HW_SIMT_CALL();
    const char *fail = getenv("HW_SIMT_FAIL_GRAPH");
    if (hw_simt_spoils_capture()) return cudaErrorStreamCaptureUnsupported;
    if (hw_simt_broken()) return hw_simt_broken();
    if (fail && ++n_graph_launches == atol(fail)) return cudaErrorLaunchFailure;
    for (const work &w : exec->nodes) queue.push_back(w);
    return cudaSuccess;
}
