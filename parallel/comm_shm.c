/* Collectives in memory shared by the ranks of one host; messages of comm_mpi.c between hosts.
 *
 * A collective has one or two phases. In a phase a rank writes into its own buffer of the window, publishes it,
 * and reads the buffers of other ranks. Every rank alternates between two buffers, so it may begin the next
 * collective while others still read this one; it reuses a buffer when all ranks have published a phase that
 * follows their reads of it.
 *
 * All-reduce on one host, n ranks of it:
 *   short: a rank publishes its vector, and adds all n in the order of the tree (one phase)
 *   long:  rank i adds the i-th of n slices of all vectors and publishes the sum; all ranks read the other
 *          slices from their owners (two phases, (n - 1) / n of the additions saved)
 * Over several hosts short vectors also take two phases, with one slice: between the phases the ranks that hold
 * the same slice on each host add their sums by MPI. Every host must have the same number of consecutive ranks, a
 * power of two, so that a host's sum is a subtree of the tree over all ranks and the bits are those of comm_mpi.c.
 *
 * `sent` is the bytes that other ranks read of what this rank wrote, counted by the writer once per reader;
 * traffic_model.c has it in closed form. Change both together. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/combine.h"
#include "parallel/comm_mpi.h"
#include "parallel/traffic_model.h"
#include "parallel/window.h"

typedef struct shm_state {
    void *mpi;     /* all ranks: start and end */
    void *between; /* the ranks with the same place on each host; NULL with one host */
    hw_window *window;
    int n_ranks, n_local, n_hosts;
    int me;               /* place on this host */
    const int *readers;   /* [n_local] numbers in the job of the ranks of this host; of `mpi` */
    uint64_t phase;       /* published by this rank */
    uint64_t seen;        /* published by all ranks when this rank last checked */
    uint64_t read[2];     /* phase in which a buffer was read last */
    int buffer;           /* in use */
    const void **vectors; /* [n_local] */
    char *parts;          /* of an all-gather: [n_hosts, n_bytes]; grows to the largest and stays */
    size_t parts_bytes;
    hw_meter *meter; /* of the collective that is running */
} shm_state;

static void destroy(void *state)
{
    shm_state *s = state;
    if (!s) return;
    hw_window_destroy(s->window);
    hw_comm_mpi_ops.destroy(s->between);
    hw_comm_mpi_ops.destroy(s->mpi);
    free(s->vectors);
    free(s->parts);
    free(s);
}

/* ---- phases */

static void let_mpi_go_on(void *between) { hw_mpi_progress(between); }

static void await(shm_state *s, int i, uint64_t phase)
{
    hw_window_await(s->window, i, phase, s->between ? let_mpi_go_on : NULL, s->between);
}

static void await_all(shm_state *s, uint64_t phase)
{
    for (int i = 0; i < s->n_local; i++)
        if (i != s->me) await(s, i, phase);
    s->seen = phase;
}

static void publish(shm_state *s) { hw_window_publish(s->window, ++s->phase); }

static char *buffer_of(const shm_state *s, int i) { return hw_window_buffer(s->window, i, s->buffer); }

/* Switches to the other buffer, and waits until no rank reads it any more. */
static char *begin(shm_state *s)
{
    s->buffer = !s->buffer;
    const uint64_t last = s->read[s->buffer];
    if (last && s->seen <= last) await_all(s, last + 1);
    return buffer_of(s, s->me);
}

static void end(shm_state *s) { s->read[s->buffer] = s->phase; }

static void count(shm_state *s, int reader, size_t n_bytes)
{
    if (n_bytes) hw_meter_send(s->meter, s->readers[reader], n_bytes);
}

static void count_for_all(shm_state *s, size_t n_bytes)
{
    for (int i = 0; i < s->n_local; i++)
        if (i != s->me) count(s, i, n_bytes);
}

/* ---- all-reduce */

typedef struct numbers {
    hw_dtype type;
    hw_reduce op;
} numbers;

/* The sum of the vectors published by all ranks of this host; this rank's own vector is read where it is. */
static void add_up(shm_state *s, char *own, size_t offset, size_t n_bytes, numbers n)
{
    for (int i = 0; i < s->n_local; i++) s->vectors[i] = (i == s->me ? own : buffer_of(s, i)) + offset;
    hw_combine_tree(own + offset, s->vectors, s->n_local, n_bytes / hw_dtype_size(n.type), n.type, n.op);
}

static void reduce_at_once(shm_state *s, char *own, size_t n_bytes, numbers n)
{
    memcpy(begin(s), own, n_bytes);
    publish(s);
    count_for_all(s, n_bytes);
    await_all(s, s->phase);
    add_up(s, own, 0, n_bytes, n);
    end(s);
}

/* This rank's slice: the sum over this host, then over all. */
static hw_status reduce_slice(shm_state *s, char *own, hw_slice mine, numbers n, hw_error *err)
{
    const size_t n_bytes = mine.end - mine.begin;
    if (!n_bytes) return HW_OK;
    await_all(s, s->phase);
    add_up(s, own, mine.begin, n_bytes, n);
    hw_status st = HW_OK;
    if (s->between)
        st = hw_comm_mpi_ops.all_reduce(s->between, s->meter, own + mine.begin,
                                        n_bytes / hw_dtype_size(n.type), n.type, n.op, err);
    memcpy(buffer_of(s, s->me) + mine.begin, own + mine.begin, n_bytes);
    count_for_all(s, n_bytes);
    return st;
}

static hw_status reduce_in_slices(shm_state *s, char *own, size_t n_bytes, int n_slices, numbers n,
                                  hw_error *err)
{
    const hw_slice mine = hw_traffic_model_slice(n_bytes, s->me, n_slices);
    char *buffer = begin(s);
    memcpy(buffer, own, mine.begin);
    memcpy(buffer + mine.end, own + mine.end, n_bytes - mine.end);
    publish(s);
    for (int i = 0; i < n_slices; i++) {
        const hw_slice theirs = hw_traffic_model_slice(n_bytes, i, n_slices);
        if (i != s->me) count(s, i, theirs.end - theirs.begin);
    }
    hw_status st = reduce_slice(s, own, mine, n, err);
    if (st) return st;
    publish(s);
    for (int i = 0; i < n_slices; i++) {
        const hw_slice theirs = hw_traffic_model_slice(n_bytes, i, n_slices);
        if (i == s->me || theirs.begin == theirs.end) continue;
        await(s, i, s->phase);
        memcpy(own + theirs.begin, buffer_of(s, i) + theirs.begin, theirs.end - theirs.begin);
    }
    end(s);
    return HW_OK;
}

static hw_status all_reduce(void *state, hw_meter *meter, void *buffer, size_t n, hw_dtype type, hw_reduce op,
                            hw_error *err)
{
    shm_state *s = state;
    char *own = buffer;
    const numbers kind = {type, op};
    size_t n_bytes = n * hw_dtype_size(type);
    s->meter = meter;
    if (n_bytes < HW_SHM_LONG_BYTES) {
        if (s->between) return reduce_in_slices(s, own, n_bytes, 1, kind, err);
        reduce_at_once(s, own, n_bytes, kind);
        return HW_OK;
    }
    hw_status st = HW_OK;
    for (size_t piece; n_bytes && !st; own += piece, n_bytes -= piece) {
        piece = n_bytes < HW_SHM_PIECE_BYTES ? n_bytes : HW_SHM_PIECE_BYTES;
        st = reduce_in_slices(s, own, piece, s->n_local, kind, err);
    }
    return st;
}

/* ---- all-gather and broadcast */

/* Copies bytes from `offset` of the parts of the ranks with place i, one per host, to their destinations. */
static void place(const shm_state *s, char *recv, size_t part, int i, size_t offset, const char *data,
                  size_t n)
{
    while (n) {
        const size_t host = offset / part, at = offset % part, some = n < part - at ? n : part - at;
        memcpy(recv + (host * (size_t)s->n_local + (size_t)i) * part + at, data, some);
        data += some, offset += some, n -= some;
    }
}

static hw_status reserve_parts(shm_state *s, size_t n_bytes, hw_error *err)
{
    if (n_bytes <= s->parts_bytes) return HW_OK;
    free(s->parts);
    s->parts_bytes = 0;
    if (!(s->parts = malloc(n_bytes)))
        return hw_fail(err, HW_ERR_NO_MEMORY, "shm: no memory for %zu bytes", n_bytes);
    s->parts_bytes = n_bytes;
    return HW_OK;
}

/* First between ranks with the same place on each host, by MPI, then within each host. */
static hw_status all_gather(void *state, hw_meter *meter, const void *send, size_t n_bytes, void *recv,
                            hw_error *err)
{
    shm_state *s = state;
    const char *parts = send;
    const size_t all = n_bytes * (size_t)s->n_hosts;
    s->meter = meter;
    if (s->between) {
        hw_status st = reserve_parts(s, all, err);
        if (!st) st = hw_comm_mpi_ops.all_gather(s->between, meter, send, n_bytes, s->parts, err);
        if (st) return st;
        parts = s->parts;
    }
    place(s, recv, n_bytes, s->me, 0, parts, all);
    for (size_t at = 0, piece; at < all; at += piece) {
        piece = all - at < HW_SHM_PIECE_BYTES ? all - at : HW_SHM_PIECE_BYTES;
        memcpy(begin(s), parts + at, piece);
        publish(s);
        count_for_all(s, piece);
        for (int i = 0; i < s->n_local; i++) {
            if (i == s->me) continue;
            await(s, i, s->phase);
            place(s, recv, n_bytes, i, at, buffer_of(s, i), piece);
        }
        end(s);
    }
    return HW_OK;
}

/* First between ranks with the root's place on each host, by MPI, then from each of them to its host. */
static hw_status broadcast(void *state, hw_meter *meter, void *buffer, size_t n_bytes, int root,
                           hw_error *err)
{
    shm_state *s = state;
    const int source = root % s->n_local;
    char *p = buffer;
    s->meter = meter;
    if (s->between && s->me == source) {
        hw_status st = hw_comm_mpi_ops.broadcast(s->between, meter, buffer, n_bytes, root / s->n_local, err);
        if (st) return st;
    }
    for (size_t piece; n_bytes; p += piece, n_bytes -= piece) {
        piece = n_bytes < HW_SHM_PIECE_BYTES ? n_bytes : HW_SHM_PIECE_BYTES;
        char *mine = begin(s);
        if (s->me == source) memcpy(mine, p, piece);
        publish(s);
        if (s->me == source) count_for_all(s, piece);
        else {
            await(s, source, s->phase);
            memcpy(p, buffer_of(s, source), piece);
        }
        end(s);
    }
    return HW_OK;
}

/* ---- creation */

/* Whether every host has the same number of consecutive ranks, with several hosts a power of two. */
static hw_status check_layout(const hw_ranks *r, int *n_local, hw_error *err)
{
    int n = 0;
    bool good = true;
    for (int i = 0; i < r->n_ranks; i++) n += r->host_of[i] == r->host_of[0];
    for (int i = 0; i < r->n_ranks; i++) good = good && r->host_of[i] == i / n * n;
    *n_local = n;
    if (good && (r->n_ranks == 1 || hw_traffic_model_sharing(r->n_ranks, n) > 1)) return HW_OK;
    return hw_fail(
        err, HW_ERR_UNSUPPORTED,
        "collectives \"shm\" add in the order of the ranks on one host, or on hosts that each have 2, 4, "
        "8, 16... consecutive ranks, as many as the others; rank 0's has %d of %d: use mpirun --map-by "
        "ppr:N:node --rank-by slot, or --comm mpi",
        n, r->n_ranks);
}

hw_status hw_comm_shm_adopt(void **state, void *mpi, hw_ranks *r, hw_error *err)
{
    int n_local;
    *state = NULL;
    hw_status st = check_layout(r, &n_local, err);
    if (st) return st;
    hw_window *window;
    if ((st = hw_window_create(&window, mpi, r, err))) return st;
    shm_state *s = calloc(1, sizeof *s);
    const void **vectors = calloc((size_t)n_local, sizeof *vectors);
    if (!s || !vectors) {
        hw_window_destroy(window);
        free(s);
        free(vectors);
        return hw_fail(err, HW_ERR_NO_MEMORY, "shm: no memory");
    }
    *s = (shm_state){.mpi = mpi,
                     .window = window,
                     .n_ranks = r->n_ranks,
                     .n_local = n_local,
                     .n_hosts = r->n_ranks / n_local,
                     .me = r->rank % n_local,
                     .readers = hw_mpi_job_ranks(mpi) + (r->rank - r->rank % n_local),
                     .vectors = vectors};
    if (s->n_hosts > 1 && (st = hw_mpi_every(&s->between, mpi, n_local, err))) {
        s->mpi = NULL; /* still owned by the caller */
        destroy(s);
        return st;
    }
    r->n_sharing = n_local;
    *state = s;
    return HW_OK;
}

static hw_status create(void **state, hw_ranks *ranks, hw_error *err)
{
    void *mpi;
    *state = NULL;
    hw_status st = hw_comm_mpi_ops.create(&mpi, ranks, err);
    if (st) return st;
    if ((st = hw_comm_shm_adopt(state, mpi, ranks, err))) {
        hw_comm_mpi_ops.destroy(mpi);
        free(ranks->host_of);
        ranks->host_of = NULL;
    }
    return st;
}

/* A group whose ranks cannot share memory sends messages. */
static hw_status split(void **out, const hw_comm_ops **ops, hw_ranks *ranks, void *state, const int *host_of,
                       int color, int key, hw_error *err)
{
    const shm_state *s = state;
    void *mpi, *shared;
    hw_error why;
    hw_status st = hw_comm_mpi_ops.split(&mpi, ops, ranks, s->mpi, host_of, color, key, err);
    *out = mpi;
    if (st || ranks->n_ranks < 2) return st;
    st = hw_comm_shm_adopt(&shared, mpi, ranks, &why);
    if (st == HW_ERR_UNSUPPORTED) return HW_OK;
    if (!st) {
        *out = shared;
        *ops = &hw_comm_shm_ops;
        return HW_OK;
    }
    hw_comm_mpi_ops.destroy(mpi);
    free(ranks->host_of);
    *out = NULL;
    if (err) *err = why;
    return st;
}

/* Point-to-point messages always use MPI, also within a host. */
static hw_status send_one(void *state, hw_meter *meter, const void *buffer, size_t n_bytes, int to,
                          hw_error *err)
{
    const shm_state *s = state;
    return hw_comm_mpi_ops.send(s->mpi, meter, buffer, n_bytes, to, err);
}

static hw_status receive_one(void *state, void *buffer, size_t capacity, size_t *n_bytes, int from,
                             hw_error *err)
{
    const shm_state *s = state;
    return hw_comm_mpi_ops.receive(s->mpi, buffer, capacity, n_bytes, from, err);
}

/* A rank that sleeps is woken by a message, also on the same host. */
static hw_status wait_idle(void *state, hw_meter *meter, hw_error *err)
{
    const shm_state *s = state;
    return hw_comm_mpi_ops.wait_idle(s->mpi, meter, err);
}

static void abort_job(void *state, int exit_code)
{
    shm_state *s = state;
    hw_comm_mpi_ops.abort(s->mpi, exit_code);
}

const hw_comm_ops hw_comm_shm_ops = {.name = "shm",
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
