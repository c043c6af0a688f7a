/* Collectives by NCCL, which has no deadlines: a rank whose partners do not come gives up after one. What NCCL may not
 * come back from gets a thread of its own. While the stream is waited for ncclCommGetAsyncError is asked, and
 * ncclCommAbort ends kernels that wait on the device. Communicators are blocking: with others each collective is a
 * thread's work, in a graph too. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "parallel/comm_device.h"
#include "parallel/nccl/library.h"
#include "runtime/base/clock.h"

namespace
{

/* More collectives than a step has; an event behind each says whether it ended. */
enum { N_EVENTS = 1024, POLLS_PER_LOOK = 256, OLDEST_SHARING = 23000 };

const double ABORT_S = 10; /* for NCCL to let go of the device, and to end */

struct group;

/* A call that may not come back, on a thread of its own. */
struct errand {
    group *g;
    ncclResult_t (*call)(group *g);
    pthread_t thread;
    ncclResult_t code; /* what came back */
};

struct group {
    hw_nccl_library library;
    ncclComm_t comm;   /* NULL: none was made, or it was broken up */
    ncclComm_t broken; /* which is being taken apart by `abort` */
    errand *abort;
    bool is_lost; /* a call never came back: the group is left to its thread */
    int rank, n_ranks, device;
    ncclUniqueId id;
    cudaStream_t stream;
    double deadline_s;
    struct {
        void *buffer;
        size_t count;
        ncclDataType_t type;
        ncclRedOp_t op;
    } first;                     /* of a call of first_all_reduce */
    cudaEvent_t ended[N_EVENTS]; /* made when first used */
    uint64_t numbers[N_EVENTS], n_noted;
};

group *of(void *state) { return static_cast<group *>(state); }

void *run_errand(void *arg)
{
    errand *e = static_cast<errand *>(arg);
    (void)cudaSetDevice(e->g->device); /* each thread has a current one */
    e->code = e->call(e->g);
    return nullptr;
}

/* NULL: there is no memory, or no thread. */
errand *begin_errand(group *g, ncclResult_t (*call)(group *g))
{
    errand *e = static_cast<errand *>(calloc(1, sizeof *e));
    if (!e) return nullptr;
    e->g = g, e->call = call;
    if (!pthread_create(&e->thread, nullptr, run_errand, e)) return e;
    free(e);
    return nullptr;
}

/* Whether it has ended within so many seconds; it is freed then. Otherwise it goes on with the group for ever. */
bool end_errand(errand *e, double seconds, ncclResult_t *code)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    const uint64_t ns = (uint64_t)until.tv_nsec + (uint64_t)(seconds * 1e9);
    until.tv_sec += (time_t)(ns / 1000000000), until.tv_nsec = (long)(ns % 1000000000);
    if (pthread_clockjoin_np(e->thread, nullptr, CLOCK_MONOTONIC, &until)) {
        (void)pthread_detach(e->thread);
        return false;
    }
    *code = e->code;
    free(e);
    return true;
}

ncclResult_t abort_broken(group *g) { return g->library.ncclCommAbort(g->broken); }

bool is_pending(const group *g, cudaEvent_t until)
{
    return (until ? cudaEventQuery(until) : cudaStreamQuery(g->stream)) == cudaErrorNotReady;
}

/* ncclCommAbort ends kernels that wait on the device, and then waits itself until there is no graph any more that holds a
 * collective. Graphs are destroyed by those who made them, after this: so the call gets a thread, and what is waited for
 * here is the stream. */
void break_up(group *g)
{
    const uint64_t start = hw_clock_ns();
    if (!g->comm) return;
    g->broken = g->comm;
    g->comm = nullptr;
    g->abort = begin_errand(g, abort_broken);
    while (g->abort && is_pending(g, nullptr) && hw_seconds_since(start) < ABORT_S) sched_yield();
    (void)cudaGetLastError();
}

/* A call that other ranks have to make as well. */
hw_status call_with_others(group *g, ncclResult_t (*call)(group *g), const char *what, hw_error *err)
{
    ncclResult_t code;
    errand *e = begin_errand(g, call);
    if (!e) return hw_fail(err, HW_ERR_NO_MEMORY, "NCCL: %s: there is no thread for it", what);
    if (end_errand(e, g->deadline_s, &code)) return hw_nccl_check(&g->library, err, code, what);
    g->is_lost = true;
    return hw_fail(err, HW_ERR_RANK, "NCCL: %s: other ranks did not come within %g s", what, g->deadline_s);
}

hw_status open_library(void **state, hw_error *err)
{
    group *g = static_cast<group *>(calloc(1, sizeof *g));
    *state = nullptr;
    if (!g) return hw_fail(err, HW_ERR_NO_MEMORY, "NCCL: no memory");
    const hw_status st = hw_nccl_open(&g->library, err);
    if (st) free(g);
    else *state = g;
    return st;
}

/* Since 2.30, and only when asked to. */
bool may_share(void *state)
{
    const char *enabled = getenv("NCCL_MULTI_RANK_GPU_ENABLE");
    return of(state)->library.version >= OLDEST_SHARING && enabled && atoi(enabled) == 1;
}

hw_status make_id(void *state, char id[HW_COMM_ID_BYTES], hw_error *err)
{
    ncclUniqueId made;
    static_assert(sizeof made == HW_COMM_ID_BYTES);
    const hw_status st =
        hw_nccl_check(&of(state)->library, err, of(state)->library.ncclGetUniqueId(&made), "naming a group");
    if (!st) memcpy(id, &made, sizeof made);
    return st;
}

hw_status cuda_check(hw_error *err, cudaError_t code, const char *what)
{
    if (code == cudaSuccess) return HW_OK;
    (void)cudaGetLastError();
    return hw_fail(err, HW_ERR_DEVICE, "NCCL: %s: %s", what, cudaGetErrorString(code));
}

ncclResult_t make_comm(group *g)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 1;
    const ncclResult_t code =
        g->library.ncclCommInitRankConfig(&g->comm, g->n_ranks, g->id, g->rank, &config);
    if (code) g->comm = nullptr;
    return code;
}

hw_status join(void *state, const hw_comm_member *m, hw_error *err)
{
    group *g = of(state);
    memcpy(&g->id, m->id, sizeof g->id);
    g->rank = m->rank;
    g->n_ranks = m->n_ranks;
    g->stream = static_cast<cudaStream_t>(m->stream);
    g->deadline_s = m->deadline_s;
    hw_status st = cuda_check(err, cudaGetDevice(&g->device), "asking which GPU is meant");
    if (!st) st = call_with_others(g, make_comm, "making the communicator", err);
    if (st && err) err->rank = m->rank;
    return hw_context(err, st, "rank %d of %d", m->rank, m->n_ranks);
}

/* One that cannot be finalised can still be aborted, unlike one that was destroyed. */
ncclResult_t end_comm(group *g)
{
    const ncclResult_t code = g->library.ncclCommFinalize(g->comm);
    if (!code) (void)g->library.ncclCommDestroy(g->comm);
    return code;
}

void close_group(void *state)
{
    group *g = of(state);
    ncclResult_t code;
    if (!g || g->is_lost) return;
    if (g->comm && call_with_others(g, end_comm, "ending", nullptr) && !g->is_lost) break_up(g);
    if (g->abort && !end_errand(g->abort, ABORT_S, &code)) g->is_lost = true;
    if (g->is_lost) return;
    for (cudaEvent_t e : g->ended)
        if (e) (void)cudaEventDestroy(e);
    free(g);
}

bool is_captured(const group *g)
{
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(g->stream, &status) == cudaSuccess && status != cudaStreamCaptureStatusNone;
}

/* An event of a graph would say nothing of the collectives inside. */
hw_status note_end(group *g, uint64_t number, hw_error *err)
{
    cudaEvent_t *e = &g->ended[g->n_noted % N_EVENTS];
    cudaError_t code = cudaSuccess;
    if (is_captured(g)) return HW_OK;
    if (!*e) code = cudaEventCreateWithFlags(e, cudaEventDisableTiming);
    if (!code) code = cudaEventRecord(*e, g->stream);
    if (code) return cuda_check(err, code, "an event behind a collective");
    g->numbers[g->n_noted++ % N_EVENTS] = number;
    return HW_OK;
}

bool type_of(hw_dtype type, ncclDataType_t *out)
{
    switch (type) {
    case HW_F32: return *out = ncclFloat32, true;
    case HW_F16: return *out = ncclFloat16, true;
    case HW_BF16: return *out = ncclBfloat16, true;
    case HW_U64: return *out = ncclUint64, true;
    default: return false;
    }
}

ncclResult_t add(group *g, void *buffer, size_t count, ncclDataType_t type, ncclRedOp_t op)
{
    return g->library.ncclAllReduce(buffer, buffer, count, type, op, g->comm, g->stream);
}

ncclResult_t add_first(group *g)
{
    return add(g, g->first.buffer, g->first.count, g->first.type, g->first.op);
}

/* Whether a sum can be made, and of which type. */
hw_status prepare(const group *g, hw_dtype type, ncclDataType_t *t, hw_error *err)
{
    if (!type_of(type, t))
        return hw_fail(err, HW_ERR_INVALID, "NCCL: an all-reduce of %s", hw_dtype_name(type));
    if (!g->comm || g->is_lost)
        return hw_fail(err, HW_ERR_RANK, "NCCL: an all-reduce of ranks that were given up");
    return HW_OK;
}

hw_status all_reduce(void *state, uint64_t number, void *buffer, size_t count, hw_dtype type, hw_reduce op,
                     hw_error *err)
{
    group *g = of(state);
    ncclDataType_t t = ncclFloat32;
    hw_status st = prepare(g, type, &t, err);
    if (!st)
        st = hw_nccl_check(&g->library, err, add(g, buffer, count, t, op == HW_SUM ? ncclSum : ncclMax),
                           "all-reduce");
    return st ? st : note_end(g, number, err);
}

hw_status first_all_reduce(void *state, uint64_t number, void *buffer, size_t count, hw_dtype type,
                           hw_reduce op, hw_error *err)
{
    group *g = of(state);
    hw_status st = prepare(g, type, &g->first.type, err);
    g->first.buffer = buffer, g->first.count = count, g->first.op = op == HW_SUM ? ncclSum : ncclMax;
    if (!st) st = call_with_others(g, add_first, "connecting ranks for an all-reduce", err);
    return st ? st : note_end(g, number, err);
}

/* The oldest event that has not happened. */
uint64_t first_missing(const group *g)
{
    const uint64_t oldest = g->n_noted > N_EVENTS ? g->n_noted - N_EVENTS : 0;
    for (uint64_t i = oldest; i < g->n_noted; i++)
        if (cudaEventQuery(g->ended[i % N_EVENTS]) == cudaErrorNotReady) {
            (void)cudaGetLastError();
            return g->numbers[i % N_EVENTS];
        }
    return UINT64_MAX;
}

hw_status give_up(group *g, hw_status st, uint64_t *number)
{
    *number = first_missing(g);
    break_up(g);
    return st;
}

hw_status wait(void *state, void *until, uint64_t *number, char *why, size_t capacity)
{
    group *g = of(state);
    const uint64_t start = hw_clock_ns();
    for (uint64_t polls = 1; is_pending(g, static_cast<cudaEvent_t>(until)); polls++) {
        (void)cudaGetLastError(); /* "not ready" is no error */
        sched_yield();
        if (polls % POLLS_PER_LOOK) continue;
        ncclResult_t code = ncclSuccess;
        if (g->comm && !g->is_lost && g->library.ncclCommGetAsyncError(g->comm, &code) == ncclSuccess &&
            code) {
            snprintf(why, capacity, "%s", g->library.ncclGetErrorString(code));
            return give_up(g, code == ncclRemoteError ? HW_ERR_RANK : HW_ERR_DEVICE, number);
        }
        if (hw_seconds_since(start) > g->deadline_s) {
            snprintf(why, capacity, "no progress");
            return give_up(g, HW_ERR_RANK, number);
        }
    }
    return HW_OK;
}

/* ---- what it takes */

hw_status wait_measured(group *g, hw_error *err)
{
    uint64_t number;
    char why[256] = "";
    const hw_status st = wait(g, nullptr, &number, why, sizeof why);
    return st ? hw_fail(err, st, "NCCL: measuring an all-reduce: %s", why)
              : cuda_check(err, cudaStreamQuery(g->stream), "measuring an all-reduce");
}

/* No event stands behind these: what is measured is the collective alone. */
hw_status keep_repeats(group *g, cudaGraphExec_t *out, void *buffer, size_t count, ncclDataType_t type,
                       int repeats, hw_error *err)
{
    cudaGraph_t graph = nullptr;
    hw_status st = cuda_check(err, cudaStreamBeginCapture(g->stream, cudaStreamCaptureModeThreadLocal),
                              "beginning a graph");
    if (st) return st;
    for (int i = 0; i < repeats && !st; i++)
        st = hw_nccl_check(&g->library, err, add(g, buffer, count, type, ncclSum), "all-reduce");
    const cudaError_t code = cudaStreamEndCapture(g->stream, &graph);
    if (!st) st = cuda_check(err, code, "making a graph");
    if (!st) st = cuda_check(err, cudaGraphInstantiate(out, graph, 0), "making a graph ready");
    if (graph) (void)cudaGraphDestroy(graph);
    return st;
}

/* One alone first, so that connections are made before they are kept; then the graph without the clock,
 * after which all ranks are there. */
hw_status measure(void *state, void *buffer, size_t count, hw_dtype type, int repeats, double *seconds,
                  hw_error *err)
{
    group *g = of(state);
    cudaGraphExec_t exec = nullptr;
    ncclDataType_t t = ncclFloat32;
    uint64_t start = 0;
    hw_status st = prepare(g, type, &t, err);
    if (!st) st = hw_nccl_check(&g->library, err, add(g, buffer, count, t, ncclSum), "all-reduce");
    if (!st) st = keep_repeats(g, &exec, buffer, count, t, repeats, err);
    for (int timed = 0; timed < 2 && !st; timed++) {
        start = hw_clock_ns();
        st = cuda_check(err, cudaGraphLaunch(exec, g->stream), "starting a graph");
        if (!st) st = wait_measured(g, err);
    }
    *seconds = hw_seconds_since(start) / repeats;
    if (exec) (void)cudaGraphExecDestroy(exec);
    return st;
}

} // namespace

extern "C" __attribute__((visibility("default"))) const hw_comm_device_ops hw_plugin_collectives = {
    HW_COMM_DEVICE_VERSION, "nccl",  open_library, may_share, make_id, join, close_group, all_reduce,
    first_all_reduce,       measure, wait};
