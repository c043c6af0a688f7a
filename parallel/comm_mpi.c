/* Collectives over MPI point-to-point messages, with algorithms of our own.
 *
 * MPI's collectives are not used for two reasons: results depend on the order of additions (comm.h), and the bytes
 * sent must be known exactly instead of being the library's choice.
 *
 * All-reduce, any number of ranks n, p = largest power of two <= n, extra = n - p:
 *   fold      ranks 2i and 2i + 1 below 2 * extra add up on rank 2i; p "nodes" remain, in rank order
 *   exchange  among the nodes, nearest neighbours first (distance 1, 2, 4 ...), so that every element is
 *             added as the balanced tree over the node index, whichever of the two ways is taken:
 *             short: whole vectors (recursive doubling, log2 p messages of S bytes)
 *             long:  halves of the vector (reduce-scatter by recursive halving and all-gather on the way
 *                    back, 2 log2 p messages, 2 (p - 1) / p S bytes: Rabenseifner 2004 with the distances in
 *                    ascending order)
 *   unfold    rank 2i gives the sum to rank 2i + 1
 * traffic_model.c has the same in closed form: what each rank sends for it. Change both together. */
#include <limits.h>
#include <mpi.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "parallel/combine.h"
#include "parallel/comm_mpi.h"
#include "parallel/traffic_model.h"

enum {
    MAX_STEPS = 32, /* log2 of the number of ranks */
    TAG_REDUCE = 1,
    TAG_GATHER,
    TAG_BROADCAST,
    TAG_MESSAGE,
    TAG_WAKE,
    /* How a rank waits for work. A busy look takes about a microsecond; naps take 50 us to 6.4 ms. */
    BUSY_LOOKS = 1000,
    FIRST_NAP_NS = 50000,
    NAP_DOUBLINGS = 7,
};

typedef struct mpi_state {
    MPI_Comm comm;
    int rank, n_ranks;
    int *job_ranks; /* [n_ranks] their numbers in the job, for the meter */
    int must_finalize;
    void *scratch; /* incoming vectors; grows to the largest message and stays */
    size_t scratch_bytes;
    MPI_Request *requests; /* [2 * n_ranks] */
    hw_meter *meter;       /* of the collective that is running */
} mpi_state;

static hw_status check(int code, const char *what, hw_error *err)
{
    if (code == MPI_SUCCESS) return HW_OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int n;
    MPI_Error_string(code, text, &n);
    return hw_fail(err, HW_ERR_DEVICE, "MPI: %s: %s", what, text);
}

static void destroy(void *state)
{
    mpi_state *m = state;
    if (!m) return;
    int must_finalize = m->must_finalize;
    if (m->comm != MPI_COMM_NULL) MPI_Comm_free(&m->comm);
    free(m->scratch);
    free(m->requests);
    free(m->job_ranks);
    free(m);
    if (must_finalize) MPI_Finalize();
}

/* The lowest rank that shares memory with each rank. Collective. */
static hw_status find_hosts(const mpi_state *m, int *host_of, hw_error *err)
{
    MPI_Comm host;
    int lowest = m->rank;
    hw_status st = check(MPI_Comm_split_type(m->comm, MPI_COMM_TYPE_SHARED, m->rank, MPI_INFO_NULL, &host),
                         "ranks of a host", err);
    if (st) return st;
    st = check(MPI_Bcast(&lowest, 1, MPI_INT, 0, host), "ranks of a host", err);
    MPI_Comm_free(&host);
    return st ? st
              : check(MPI_Allgather(&lowest, 1, MPI_INT, host_of, 1, MPI_INT, m->comm), "ranks of a host",
                      err);
}

static hw_status no_memory(const mpi_state *m, hw_error *err)
{
    return hw_fail(err, HW_ERR_NO_MEMORY, "MPI: no memory for %d ranks", m->n_ranks);
}

/* The lists of a communicator. Initially ranks have their numbers in the job. */
static hw_status make_lists(mpi_state *m, hw_error *err)
{
    MPI_Comm_rank(m->comm, &m->rank);
    MPI_Comm_size(m->comm, &m->n_ranks);
    m->requests = calloc(2 * (size_t)m->n_ranks, sizeof *m->requests);
    m->job_ranks = calloc((size_t)m->n_ranks, sizeof *m->job_ranks);
    if (!m->requests || !m->job_ranks) return no_memory(m, err);
    for (int r = 0; r < m->n_ranks; r++) m->job_ranks[r] = r;
    return HW_OK;
}

static hw_status create(void **state, hw_ranks *ranks, hw_error *err)
{
    int initialized = 0, level, *host_of = NULL;
    *state = NULL;
    mpi_state *m = calloc(1, sizeof *m);
    if (!m) return hw_fail(err, HW_ERR_NO_MEMORY, "MPI: no memory");
    m->comm = MPI_COMM_NULL;
    MPI_Initialized(&initialized);
    hw_status st = HW_OK;
    /* hwloc looks for X displays, which waits for a name server if "localhost" has no address. */
    setenv("HWLOC_COMPONENTS", "-gl", 0);
    if (!initialized &&
        !(st = check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level), "MPI_Init", err)))
        m->must_finalize = 1;
    if (!st) st = check(MPI_Comm_dup(MPI_COMM_WORLD, &m->comm), "MPI_Comm_dup", err);
    if (!st) st = check(MPI_Comm_set_errhandler(m->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler", err);
    if (!st) st = make_lists(m, err);
    if (!st && !(host_of = calloc((size_t)m->n_ranks, sizeof *host_of))) st = no_memory(m, err);
    if (!st) st = find_hosts(m, host_of, err);
    if (st) {
        free(host_of);
        destroy(m);
        return st;
    }
    *state = m;
    *ranks = (hw_ranks){
        .rank = m->rank, .n_ranks = m->n_ranks, .job_rank = m->rank, .host_of = host_of, .n_sharing = 1};
    return HW_OK;
}

static hw_status reserve(mpi_state *m, size_t n_bytes, hw_error *err)
{
    if (n_bytes <= m->scratch_bytes) return HW_OK;
    free(m->scratch);
    m->scratch_bytes = 0;
    if (!(m->scratch = aligned_alloc(64, (n_bytes + 63) / 64 * 64)))
        return hw_fail(err, HW_ERR_NO_MEMORY, "MPI: no memory for a message of %zu bytes", n_bytes);
    m->scratch_bytes = n_bytes;
    return HW_OK;
}

static void meter_send(const mpi_state *m, int to, size_t n_bytes)
{
    hw_meter_send(m->meter, m->job_ranks[to], n_bytes);
}

/* Sends and receives at once, in pieces whose size fits in an int. Either size may be 0. */
static hw_status exchange(mpi_state *m, const void *out, size_t out_bytes, int to, void *in, size_t in_bytes,
                          int from, int tag, hw_error *err)
{
    const char *o = out;
    char *i = in;
    while (out_bytes || in_bytes) {
        size_t no = out_bytes < HW_PIECE_BYTES ? out_bytes : HW_PIECE_BYTES;
        size_t ni = in_bytes < HW_PIECE_BYTES ? in_bytes : HW_PIECE_BYTES;
        hw_status st =
            check(MPI_Sendrecv(o, (int)no, MPI_BYTE, no ? to : MPI_PROC_NULL, tag, i, (int)ni, MPI_BYTE,
                               ni ? from : MPI_PROC_NULL, tag, m->comm, MPI_STATUS_IGNORE),
                  "exchange with another rank", err);
        if (st) return st;
        if (no) meter_send(m, to, no);
        o += no, i += ni, out_bytes -= no, in_bytes -= ni;
    }
    return HW_OK;
}

typedef struct nodes {
    int n, extra; /* how many, and how many of them are pairs of ranks */
    int mine;     /* -1: this rank is folded into another */
} nodes;

static nodes fold_ranks(const mpi_state *m)
{
    const hw_tree tree = hw_tree_of(m->n_ranks);
    nodes t = {.n = tree.n_nodes, .extra = tree.n_pairs};
    if (m->rank >= 2 * t.extra) t.mine = m->rank - t.extra;
    else t.mine = m->rank % 2 ? -1 : m->rank / 2;
    return t;
}

static int node_rank(nodes t, int node) { return node < t.extra ? 2 * node : node + t.extra; }

static hw_status reduce_short(mpi_state *m, nodes t, char *buffer, size_t count, hw_dtype type, hw_reduce op,
                              hw_error *err)
{
    size_t n_bytes = count * hw_dtype_size(type);
    for (int distance = 1; distance < t.n; distance *= 2) {
        int peer = node_rank(t, t.mine ^ distance);
        hw_status st = exchange(m, buffer, n_bytes, peer, m->scratch, n_bytes, peer, TAG_REDUCE, err);
        if (st) return st;
        hw_combine(buffer, buffer, m->scratch, count, type, op);
    }
    return HW_OK;
}

static hw_status reduce_long(mpi_state *m, nodes t, char *buffer, size_t count, hw_dtype type, hw_reduce op,
                             hw_error *err)
{
    size_t size = hw_dtype_size(type), begin[MAX_STEPS + 1] = {0}, end[MAX_STEPS + 1] = {count};
    int step = 0;
    hw_status st;
    for (int distance = 1; distance < t.n; distance *= 2, step++) {
        int peer = node_rank(t, t.mine ^ distance), upper = (t.mine & distance) != 0;
        size_t middle = begin[step] + (end[step] - begin[step]) / 2;
        size_t keep[2] = {upper ? middle : begin[step], upper ? end[step] : middle};
        size_t give[2] = {upper ? begin[step] : middle, upper ? middle : end[step]};
        if ((st = exchange(m, buffer + give[0] * size, (give[1] - give[0]) * size, peer, m->scratch,
                           (keep[1] - keep[0]) * size, peer, TAG_REDUCE, err)))
            return st;
        hw_combine(buffer + keep[0] * size, buffer + keep[0] * size, m->scratch, keep[1] - keep[0], type, op);
        begin[step + 1] = keep[0];
        end[step + 1] = keep[1];
    }
    for (int distance = t.n / 2; distance; distance /= 2, step--) {
        int peer = node_rank(t, t.mine ^ distance), upper = (t.mine & distance) != 0;
        size_t get[2] = {upper ? begin[step - 1] : end[step], upper ? begin[step] : end[step - 1]};
        if ((st = exchange(m, buffer + begin[step] * size, (end[step] - begin[step]) * size, peer,
                           buffer + get[0] * size, (get[1] - get[0]) * size, peer, TAG_REDUCE, err)))
            return st;
    }
    return HW_OK;
}

static hw_status all_reduce(void *state, hw_meter *meter, void *buffer, size_t count, hw_dtype type,
                            hw_reduce op, hw_error *err)
{
    mpi_state *m = state;
    m->meter = meter;
    size_t n_bytes = count * hw_dtype_size(type);
    nodes t = fold_ranks(m);
    hw_status st = reserve(m, n_bytes, err);
    if (st) return st;
    if (t.mine < 0) { /* folded into the rank below: give, then wait for the sum */
        st = exchange(m, buffer, n_bytes, m->rank - 1, NULL, 0, 0, TAG_REDUCE, err);
        return st ? st : exchange(m, NULL, 0, 0, buffer, n_bytes, m->rank - 1, TAG_REDUCE, err);
    }
    if (t.mine < t.extra) {
        if ((st = exchange(m, NULL, 0, 0, m->scratch, n_bytes, m->rank + 1, TAG_REDUCE, err))) return st;
        hw_combine(buffer, buffer, m->scratch, count, type, op);
    }
    st = (n_bytes < HW_LONG_BYTES ? reduce_short : reduce_long)(m, t, buffer, count, type, op, err);
    if (st || t.mine >= t.extra) return st;
    return exchange(m, buffer, n_bytes, m->rank + 1, NULL, 0, 0, TAG_REDUCE, err);
}

static hw_status all_gather(void *state, hw_meter *meter, const void *send, size_t n_bytes, void *recv,
                            hw_error *err)
{
    mpi_state *m = state;
    m->meter = meter;
    int n = 0;
    hw_status st = HW_OK;
    if (n_bytes > HW_PIECE_BYTES)
        return hw_fail(err, HW_ERR_INVALID, "all-gather of %zu bytes per rank, at most %d are sent at once",
                       n_bytes, (int)HW_PIECE_BYTES);
    memcpy((char *)recv + (size_t)m->rank * n_bytes, send, n_bytes);
    for (int i = 1; i < m->n_ranks && !st; i++) {
        int from = (m->rank + m->n_ranks - i) % m->n_ranks;
        st = check(MPI_Irecv((char *)recv + (size_t)from * n_bytes, (int)n_bytes, MPI_BYTE, from, TAG_GATHER,
                             m->comm, &m->requests[n++]),
                   "receive", err);
    }
    for (int i = 1; i < m->n_ranks && !st; i++) {
        st = check(MPI_Isend(send, (int)n_bytes, MPI_BYTE, (m->rank + i) % m->n_ranks, TAG_GATHER, m->comm,
                             &m->requests[n++]),
                   "send", err);
        meter_send(m, (m->rank + i) % m->n_ranks, n_bytes);
    }
    return st ? st : check(MPI_Waitall(n, m->requests, MPI_STATUSES_IGNORE), "all-gather", err);
}

/* Binomial tree: in round k, each rank that has the data sends it to the rank 2^k further (numbered from the root). */
static hw_status broadcast(void *state, hw_meter *meter, void *buffer, size_t n_bytes, int root,
                           hw_error *err)
{
    mpi_state *m = state;
    m->meter = meter;
    int me = (m->rank - root + m->n_ranks) % m->n_ranks;
    for (int distance = 1; distance < m->n_ranks; distance *= 2) {
        hw_status st = HW_OK;
        int to = (me + distance + root) % m->n_ranks, from = (me - distance + root + m->n_ranks) % m->n_ranks;
        if (me < distance && me + distance < m->n_ranks)
            st = exchange(m, buffer, n_bytes, to, NULL, 0, 0, TAG_BROADCAST, err);
        else if (me >= distance && me < 2 * distance)
            st = exchange(m, NULL, 0, 0, buffer, n_bytes, from, TAG_BROADCAST, err);
        if (st) return st;
    }
    return HW_OK;
}

hw_status hw_mpi_tell(void *state, const void *mine, size_t n_bytes, void *all, hw_error *err)
{
    const mpi_state *m = state;
    return check(MPI_Allgather(mine, (int)n_bytes, MPI_BYTE, all, (int)n_bytes, MPI_BYTE, m->comm),
                 "ranks introduce themselves", err);
}

const int *hw_mpi_job_ranks(const void *state)
{
    const mpi_state *m = state;
    return m->job_ranks;
}

/* ---- groups */

/* places [m->n_ranks]: the ranks of `m` within `all`. Local. */
static hw_status find_places(int *places, const mpi_state *m, const mpi_state *all, hw_error *err)
{
    MPI_Group mine, theirs;
    hw_status st = check(MPI_Comm_group(m->comm, &mine), "MPI_Comm_group", err);
    if (st) return st;
    st = check(MPI_Comm_group(all->comm, &theirs), "MPI_Comm_group", err);
    if (!st) {
        int *numbers = m->job_ranks; /* by rank, as make_lists leaves them */
        st = check(MPI_Group_translate_ranks(mine, m->n_ranks, numbers, theirs, places), "ranks of a group",
                   err);
        MPI_Group_free(&theirs);
    }
    MPI_Group_free(&mine);
    return st;
}

/* A state for the ranks of `all` with this color, ordered by key; NULL on ranks without a color. *places [its n_ranks]: the ranks
 * within `all`; the caller frees it. A rank that runs out of memory takes no part, so that the others need not wait. */
static hw_status split_off(void **out, int **places, const mpi_state *all, int color, int key, hw_error *err)
{
    MPI_Comm comm;
    *out = NULL;
    *places = calloc((size_t)all->n_ranks, sizeof **places);
    mpi_state *m = calloc(1, sizeof *m);
    const bool can = *places && m;
    hw_status st =
        check(MPI_Comm_split(all->comm, can ? color : MPI_UNDEFINED, key, &comm), "MPI_Comm_split", err);
    if (!st && !can) st = no_memory(all, err);
    if (st || comm == MPI_COMM_NULL) {
        free(m);
        return st;
    }
    m->comm = comm;
    st = make_lists(m, err);
    if (!st) st = find_places(*places, m, all, err);
    for (int r = 0; r < m->n_ranks && !st; r++) m->job_ranks[r] = all->job_ranks[(*places)[r]];
    if (st) destroy(m);
    else *out = m;
    return st;
}

hw_status hw_mpi_every(void **out, void *state, int stride, hw_error *err)
{
    const mpi_state *all = state;
    int *places;
    hw_status st = split_off(out, &places, all, all->rank % stride, all->rank, err);
    free(places);
    return st;
}

hw_status hw_mpi_first(void **out, void *state, int n, hw_error *err)
{
    const mpi_state *all = state;
    int *places;
    hw_status st = split_off(out, &places, all, all->rank < n ? 0 : MPI_UNDEFINED, all->rank, err);
    free(places);
    return st;
}

/* A host is identified by its lowest member. */
static hw_status describe(hw_ranks *r, const mpi_state *m, const int *places, const int *host_of,
                          hw_error *err)
{
    int *hosts = calloc((size_t)m->n_ranks, sizeof *hosts);
    if (!hosts) return no_memory(m, err);
    for (int i = 0; i < m->n_ranks; i++)
        while (host_of[places[hosts[i]]] != host_of[places[i]]) hosts[i]++;
    *r = (hw_ranks){.rank = m->rank,
                    .n_ranks = m->n_ranks,
                    .job_rank = m->job_ranks[m->rank],
                    .host_of = hosts,
                    .n_sharing = 1};
    return HW_OK;
}

/* A group of one rank needs no messages. */
static hw_status split(void **out, const hw_comm_ops **ops, hw_ranks *ranks, void *state, const int *host_of,
                       int color, int key, hw_error *err)
{
    int *places;
    hw_status st = split_off(out, &places, state, color == HW_NO_GROUP ? MPI_UNDEFINED : color, key, err);
    *ops = &hw_comm_mpi_ops;
    *ranks = (hw_ranks){.n_ranks = 0};
    if (!st && *out) st = describe(ranks, *out, places, host_of, err);
    free(places);
    if (!st && ranks->n_ranks > 1) return HW_OK;
    destroy(*out);
    *out = NULL;
    *ops = &hw_comm_self_ops;
    return st;
}

void hw_mpi_progress(void *state)
{
    const mpi_state *m = state;
    int there;
    MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, m->comm, &there, MPI_STATUS_IGNORE);
}

static hw_status send_one(void *state, hw_meter *meter, const void *buffer, size_t n_bytes, int to,
                          hw_error *err)
{
    mpi_state *m = state;
    hw_status st = check(MPI_Send(buffer, (int)n_bytes, MPI_BYTE, to, TAG_MESSAGE, m->comm), "send", err);
    if (!st) hw_meter_send(meter, m->job_ranks[to], n_bytes);
    return st;
}

static hw_status receive_one(void *state, void *buffer, size_t capacity, size_t *n_bytes, int from,
                             hw_error *err)
{
    mpi_state *m = state;
    MPI_Status how;
    int n = 0;
    hw_status st =
        check(MPI_Recv(buffer, (int)capacity, MPI_BYTE, from, TAG_MESSAGE, m->comm, &how), "receive", err);
    if (!st) st = check(MPI_Get_count(&how, MPI_BYTE, &n), "receive", err);
    *n_bytes = (size_t)n;
    return st;
}

/* ---- waiting for work */

/* Polls at first, so that work that comes at once is not delayed; then each nap is twice as long as the one before. */
static void wait_a_moment(int n_looks)
{
    if (n_looks < BUSY_LOOKS) {
        sched_yield();
        return;
    }
    const int n_naps = n_looks - BUSY_LOOKS, doublings = n_naps < NAP_DOUBLINGS ? n_naps : NAP_DOUBLINGS;
    nanosleep(&(struct timespec){.tv_nsec = (long)FIRST_NAP_NS << doublings}, NULL);
}

static hw_status sleep_until_woken(const mpi_state *m, hw_error *err)
{
    MPI_Request woken;
    int there = 0;
    hw_status st = check(MPI_Irecv(NULL, 0, MPI_BYTE, 0, TAG_WAKE, m->comm, &woken), "wait for work", err);
    for (int n_looks = 0; !st && !there; n_looks += n_looks < INT_MAX) {
        st = check(MPI_Test(&woken, &there, MPI_STATUS_IGNORE), "wait for work", err);
        if (!st && !there) wait_a_moment(n_looks);
    }
    return st;
}

/* Not along a tree: a rank that forwards the message may be asleep itself. */
static hw_status wake_all(const mpi_state *m, hw_meter *meter, hw_error *err)
{
    hw_status st = HW_OK;
    for (int to = 1; to < m->n_ranks && !st; to++) {
        st = check(MPI_Send(NULL, 0, MPI_BYTE, to, TAG_WAKE, m->comm), "wake another rank", err);
        if (!st) hw_meter_send(meter, m->job_ranks[to], 0);
    }
    return st;
}

static hw_status wait_idle(void *state, hw_meter *meter, hw_error *err)
{
    const mpi_state *m = state;
    return m->rank ? sleep_until_woken(m, err) : wake_all(m, meter, err);
}

static void abort_job(void *state, int exit_code)
{
    mpi_state *m = state;
    MPI_Abort(m->comm, exit_code);
}

const hw_comm_ops hw_comm_mpi_ops = {.name = "mpi",
                                     .create = create,
                                     .destroy = destroy,
                                     .all_reduce = all_reduce,
                                     .all_gather = all_gather,
                                     .broadcast = broadcast,
                                     .send = send_one,
                                     .receive = receive_one,
                                     .wait_idle = wait_idle,
                                     .abort = abort_job,
                                     .split = split};
