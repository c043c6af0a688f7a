/* NCCL of the SIMT layer: collectives as work in the stream that is done when all ranks' messages are there.
 * Every rank gives its buffer to every other (by collectives of MPI's own, which a count of messages lists
 * apart) and adds in rank order, so that all have the same bits. What ranks call is compared first: a
 * different collective on another rank ends the process, where NCCL would hang or do harm. */
#define OMPI_SKIP_MPICXX
#include <mpi.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <vector>

#include "runtime/base/dtype.h"
#include "tests/simt/simt.h"

#define EXPORT __attribute__((visibility("default")))

namespace
{

enum { SHORT_BYTES = 2048 };

struct members {
    MPI_Comm mpi = MPI_COMM_NULL;
    int rank = 0, n_ranks = 1;
    uint64_t n_started = 0; /* collectives, in the order of the stream */
    bool connected[2] = {}; /* for what is short, and for what is long */
    std::atomic<bool> broken_up{false};
    std::shared_ptr<char> in_graphs =
        std::make_shared<char>(); /* each collective that was captured has a share */
};

size_t size_of(ncclDataType_t type)
{
    switch (type) {
    case ncclFloat16:
    case ncclBfloat16: return 2;
    case ncclFloat32: return 4;
    case ncclUint64: return 8;
    }
    return 0;
}

/* What a rank calls. */
struct header {
    uint64_t number, kind, type, count;
};

enum kind { ALL_REDUCE_SUM, ALL_REDUCE_MAX };
enum stage { BEFORE, COMPARING, EXCHANGING };

struct collective {
    std::shared_ptr<members> group;
    std::shared_ptr<char> in_graph; /* NULL: it was not captured */
    kind what;
    const char *send;
    char *recv;
    size_t count;
    ncclDataType_t type;
    stage is = BEFORE;
    header mine = {};
    std::vector<header> headers; /* by rank */
    std::vector<char> kept, all; /* what this rank gives; [n_ranks, bytes] */
    MPI_Request request = MPI_REQUEST_NULL;

    size_t bytes() const { return count * size_of(type); }
    const char *data(int rank) const { return all.data() + (size_t)rank * bytes(); }
    bool has_arrived();
    void compare();
    void exchange();
    void finish();
    bool run();
};

/* HW_SIMT_NCCL_STOP=rank:number: this rank never comes to that collective. */
bool is_stopped(const members &g)
{
    const char *text = getenv("HW_SIMT_NCCL_STOP");
    int rank;
    unsigned long long number;
    return text && sscanf(text, "%d:%llu", &rank, &number) == 2 && rank == g.rank && number == g.n_started;
}

bool collective::has_arrived()
{
    int yes = 0;
    if (request == MPI_REQUEST_NULL) return true; /* one rank, perhaps without MPI */
    MPI_Test(&request, &yes, MPI_STATUS_IGNORE);
    return yes;
}

void collective::compare()
{
    is = COMPARING;
    mine = {group->n_started++, (uint64_t)what, (uint64_t)type, count};
    headers.assign((size_t)group->n_ranks, mine);
    if (group->n_ranks > 1)
        MPI_Iallgather(&mine, sizeof mine, MPI_BYTE, headers.data(), sizeof mine, MPI_BYTE, group->mpi,
                       &request);
}

void collective::exchange()
{
    for (int r = 0; r < group->n_ranks; r++) {
        const header &h = headers[(size_t)r];
        if (!memcmp(&h, &mine, sizeof h)) continue;
        fprintf(
            stderr,
            "SIMT layer: NCCL: collective %llu of rank %d is (kind %llu, type %llu, count %llu), of rank %d "
            "(kind %llu, type %llu, count %llu)\n",
            (unsigned long long)mine.number, group->rank, (unsigned long long)mine.kind,
            (unsigned long long)mine.type, (unsigned long long)mine.count, r, (unsigned long long)h.kind,
            (unsigned long long)h.type, (unsigned long long)h.count);
        abort();
    }
    is = EXCHANGING;
    kept.assign(send, send + bytes());
    all = kept;
    all.resize((size_t)group->n_ranks * bytes());
    if (group->n_ranks > 1)
        MPI_Iallgather(kept.data(), (int)bytes(), MPI_BYTE, all.data(), (int)bytes(), MPI_BYTE, group->mpi,
                       &request);
}

template <typename T> T load(const char *from, size_t i)
{
    T x;
    memcpy(&x, from + i * sizeof x, sizeof x);
    return x;
}
template <typename T> void store(char *to, size_t i, T x) { memcpy(to + i * sizeof x, &x, sizeof x); }

/* 16-bit sums are rounded after each addition, as they are from hop to hop of a ring. */
void add(char *to, const char *from, size_t count, ncclDataType_t type)
{
    for (size_t i = 0; i < count; i++) switch (type) {
        case ncclFloat32: store(to, i, load<float>(to, i) + load<float>(from, i)); break;
        case ncclFloat16:
            store(
                to, i,
                hw_f32_to_f16(hw_f16_to_f32(load<uint16_t>(to, i)) + hw_f16_to_f32(load<uint16_t>(from, i))));
            break;
        case ncclBfloat16:
            store(to, i,
                  hw_f32_to_bf16(hw_bf16_to_f32(load<uint16_t>(to, i)) +
                                 hw_bf16_to_f32(load<uint16_t>(from, i))));
            break;
        case ncclUint64: store(to, i, load<uint64_t>(to, i) + load<uint64_t>(from, i)); break;
        }
}

/* HW_SIMT_NCCL_WRONG: what the last rank gives is missing in sums. */
void collective::finish()
{
    is = BEFORE; /* it can be done again, by the next launch of a graph */
    for (int r = 0; r < group->n_ranks; r++) {
        if (r == 0) memcpy(recv, data(0), bytes());
        else if (what == ALL_REDUCE_SUM && r + 1 == group->n_ranks && getenv("HW_SIMT_NCCL_WRONG")) continue;
        else if (what == ALL_REDUCE_SUM) add(recv, data(r), count, type);
        else
            for (size_t i = 0; i < count; i++) {
                const uint64_t a = load<uint64_t>(recv, i), b = load<uint64_t>(data(r), i);
                store(recv, i, a > b ? a : b);
            }
    }
}

/* One look: whether it is done. */
bool collective::run()
{
    if (group->broken_up) return true;
    if (is == BEFORE && is_stopped(*group)) return false;
    if (is == BEFORE) compare();
    if (is == COMPARING && !has_arrived()) return false;
    if (is == COMPARING) exchange();
    if (!has_arrived()) return false;
    finish();
    return true;
}

} // namespace

struct ncclComm {
    std::shared_ptr<members> group;
};

namespace
{

ncclResult_t enqueue(ncclComm_t comm, kind what, const void *send, void *recv, size_t count,
                     ncclDataType_t type, cudaStream_t stream)
{
    cudaStreamCaptureStatus captured = cudaStreamCaptureStatusNone;
    if (hw_simt_is_lost()) return ncclUnhandledCudaError;
    auto c = std::make_shared<collective>();
    c->group = comm->group;
    (void)cudaStreamIsCapturing(stream, &captured);
    if (captured == cudaStreamCaptureStatusActive) c->in_graph = comm->group->in_graphs;
    c->what = what;
    c->send = static_cast<const char *>(send), c->recv = static_cast<char *>(recv);
    c->count = count, c->type = type;
    if (comm->group->broken_up) return ncclInvalidUsage;
    hw_simt_first_use(&comm->group->connected[c->bytes() > SHORT_BYTES]);
    if (!size_of(type) || (what == ALL_REDUCE_MAX && type != ncclUint64)) return ncclInvalidArgument;
    hw_simt_enqueue_poll([c] { return c->run(); });
    return ncclSuccess;
}

} // namespace

extern "C" {

EXPORT ncclResult_t ncclGetVersion(int *version) { return *version = 22809, ncclSuccess; }

EXPORT const char *ncclGetErrorString(ncclResult_t code)
{
    switch (code) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error";
    case ncclSystemError: return "unhandled system error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    case ncclInProgress: return "NCCL operation in progress";
    }
    return "unknown result code";
}

EXPORT ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "group of %p", (void *)id);
    return ncclSuccess;
}

/* HW_SIMT_NCCL_STOP=rank:init: this rank never comes here, and so nobody ever returns. */
static void wait_for_all()
{
    const char *stop = getenv("HW_SIMT_NCCL_STOP");
    while (stop && strstr(stop, ":init")) usleep(1000);
}

/* Communicators that do not block are refused: NCCL gives each of their collectives a thread, also while the stream is
 * being captured. */
EXPORT ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int n_ranks, ncclUniqueId id, int rank,
                                           ncclConfig_t *config)
{
    int is_initialized = 0;
    *comm = nullptr;
    if (config->magic != 0xcafebeef || !config->blocking || rank < 0 || rank >= n_ranks || !id.internal[0])
        return ncclInvalidArgument;
    if (n_ranks > 1) wait_for_all();
    auto g = std::make_shared<members>();
    g->rank = rank, g->n_ranks = n_ranks;
    if (n_ranks > 1) {
        MPI_Initialized(&is_initialized);
        if (!is_initialized || MPI_Comm_dup(MPI_COMM_WORLD, &g->mpi)) return ncclSystemError;
        ncclUniqueId first = id;
        MPI_Bcast(first.internal, sizeof first.internal, MPI_BYTE, 0, g->mpi);
        if (memcmp(&first, &id, sizeof id)) return ncclInvalidArgument;
    }
    *comm = new ncclComm{g};
    return ncclSuccess;
}

EXPORT ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t *code)
{
    *code = ncclSuccess;
    return ncclSuccess;
}

EXPORT ncclResult_t ncclCommFinalize(ncclComm_t) { return ncclSuccess; }

EXPORT ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    if (comm->group->mpi != MPI_COMM_NULL) MPI_Comm_free(&comm->group->mpi);
    delete comm;
    return ncclSuccess;
}

/* As NCCL does: it lets go of what is in the stream, and then waits until every graph with a collective of it is gone,
 * whatever else happens. */
EXPORT ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    comm->group->broken_up = true;
    while (comm->group->in_graphs.use_count() > 1) usleep(1000);
    delete comm;
    return ncclSuccess;
}

EXPORT ncclResult_t ncclAllReduce(const void *send, void *recv, size_t count, ncclDataType_t type,
                                  ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream)
{
    return enqueue(comm, op == ncclSum ? ALL_REDUCE_SUM : ALL_REDUCE_MAX, send, recv, count, type, stream);
}
}
