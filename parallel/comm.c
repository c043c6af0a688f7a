#include "parallel/comm.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/comm_mpi.h"
#include "parallel/comm_ops.h"
#include "parallel/peaks.h"
#include "parallel/watch.h"
#include "runtime/base/clock.h"
#include "runtime/base/host.h"

struct hw_comm {
    const hw_comm_ops *ops;
    void *state;
    int rank, n_ranks, n_local_ranks, n_sharing, job_rank;
    int *host_of;    /* [n_ranks] the lowest rank on each rank's host */
    hw_comm *parent; /* it was split from this one; borrowed, may be NULL */
    hw_meter *meter; /* the parent's, if there is one */
    enum { DEVICE_NEVER, DEVICE_IF_POSSIBLE, DEVICE_REQUIRED } wants;
    hw_comm_group *group; /* NULL: collectives only on host memory */
    hw_watch *watch;      /* borrowed */
    double stuck_after_s;
};

static const hw_comm_ops *const backends[] = {&hw_comm_self_ops, &hw_comm_shm_ops, &hw_comm_mpi_ops};

static int env_int(const char *name)
{
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

int hw_comm_launched_ranks(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (env_int(names[i]) > 0) return env_int(names[i]);
    /* srun --mpi=pmix names the rank through PMIx and the number of tasks of the step in a variable of its
     * own. */
    if (getenv("PMIX_RANK") && env_int("SLURM_STEP_NUM_TASKS") > 0) return env_int("SLURM_STEP_NUM_TASKS");
    return 1;
}

int hw_comm_launched_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i])) return env_int(names[i]);
    return 0;
}

static const hw_comm_ops *find_backend(const char *name)
{
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (!strcmp(name, backends[i]->name)) return backends[i];
    return NULL;
}

/* MPI, with shared memory in front of it where ranks share hosts in an order that allows it. */
static hw_status create_best(void **state, const hw_comm_ops **ops, hw_ranks *ranks, hw_error *err)
{
    void *mpi;
    hw_error why;
    hw_status st = hw_comm_mpi_ops.create(&mpi, ranks, err);
    if (st) return st;
    *ops = &hw_comm_shm_ops;
    if (!hw_comm_shm_adopt(state, mpi, ranks, &why)) return HW_OK;
    *ops = &hw_comm_mpi_ops;
    *state = mpi;
    return HW_OK;
}

/* A status and its rank as one number: the larger status wins, and among equals the lowest rank. */
static uint64_t claim(hw_status st, int rank, int n_ranks)
{
    return (uint64_t)st << 32 | (uint32_t)(n_ranks - 1 - rank);
}

static int claimant(uint64_t worst, int n_ranks) { return n_ranks - 1 - (int)(uint32_t)worst; }

/* hw_comm_agree for a rank that could not create a communicator, while the others have one and wait. */
static hw_status agree_without(const hw_comm_ops *ops, void *state, hw_ranks ranks, hw_error *err)
{
    hw_error said, lost;
    uint64_t worst = claim(HW_ERR_NO_MEMORY, ranks.rank, ranks.n_ranks);
    hw_status st = hw_fail(&said, HW_ERR_NO_MEMORY, "no memory for a communicator");
    hw_rank_context(&said, st, ranks.job_rank);
    if (ranks.n_ranks > 1 && !ops->all_reduce(state, NULL, &worst, 1, HW_U64, HW_MAX, &lost)) {
        ops->broadcast(state, NULL, &said, sizeof said, claimant(worst, ranks.n_ranks), &lost);
        st = (hw_status)(worst >> 32);
    }
    if (err) *err = said;
    return st;
}

static hw_comm of_ranks(const hw_comm_ops *ops, void *state, const hw_ranks *ranks)
{
    hw_comm c = {.ops = ops,
                 .state = state,
                 .rank = ranks->rank,
                 .n_ranks = ranks->n_ranks,
                 .job_rank = ranks->job_rank,
                 .n_sharing = ranks->n_sharing,
                 .host_of = ranks->host_of};
    for (int r = 0; r < c.n_ranks; r++) c.n_local_ranks += c.host_of[r] == c.host_of[c.rank];
    return c;
}

hw_status hw_comm_wrap(hw_comm **out, const hw_comm_ops *ops, void *state, hw_ranks ranks, hw_error *err)
{
    *out = NULL;
    hw_meter *meter = NULL;
    hw_comm *c = calloc(1, sizeof *c);
    if (!c || hw_meter_create(&meter, ranks.n_ranks, err)) {
        hw_status st = agree_without(ops, state, ranks, err);
        ops->destroy(state);
        free(ranks.host_of);
        free(c);
        return st;
    }
    *c = of_ranks(ops, state, &ranks);
    c->meter = meter;
    c->stuck_after_s = HW_STUCK_AFTER_S;
    hw_status st = hw_comm_agree(c, HW_OK, err);
    if (st) hw_comm_destroy(c);
    else *out = c;
    return st;
}

/* `ops` NULL: the best for several ranks. */
static hw_status create(hw_comm **out, const hw_comm_ops *ops, hw_error *err)
{
    *out = NULL;
    void *state;
    hw_ranks ranks = {0};
    hw_status st = ops ? ops->create(&state, &ranks, err) : create_best(&state, &ops, &ranks, err);
    return st ? st : hw_comm_wrap(out, ops, state, ranks, err);
}

hw_status hw_comm_create(hw_comm **out, const char *backend, hw_error *err)
{
    *out = NULL;
    const bool automatic = !strcmp(backend, "auto") || !strcmp(backend, "nccl"),
               several = hw_comm_launched_ranks() > 1;
    const hw_comm_ops *ops = !automatic ? find_backend(backend) : several ? NULL : &hw_comm_self_ops;
    if (!ops && !automatic)
        return hw_fail(err, HW_ERR_INVALID,
                       "collectives \"%s\" are not known to this build; it has auto, self, shm, mpi and nccl",
                       backend);
    if (ops == &hw_comm_self_ops && hw_comm_launched_ranks() > 1)
        return hw_fail(
            err, HW_ERR_INVALID,
            "collectives \"self\" is for one rank, but %d were started; use \"mpi\", or run without mpirun",
            hw_comm_launched_ranks());
    hw_status st = create(out, ops, err);
    if (!st) (void)hw_comm_become(*out, backend);
    return st;
}

bool hw_comm_become(hw_comm *c, const char *backend)
{
    if (!strcmp(backend, "auto")) c->wants = DEVICE_IF_POSSIBLE;
    else if (!strcmp(backend, "nccl")) c->wants = DEVICE_REQUIRED;
    else if (!strcmp(backend, c->ops->name)) c->wants = DEVICE_NEVER;
    else return false;
    return true;
}

/* A communicator of the first n ranks of the state `all`. */
static hw_status create_first(hw_comm **out, void *all, hw_ranks *r, int n, const hw_comm_ops *ops,
                              hw_error *err)
{
    void *mpi, *state;
    hw_status st = hw_mpi_first(&mpi, all, n, err);
    if (st || !mpi) return st;
    r->n_ranks = n; /* if any rank of a host is among them, so is its lowest rank */
    state = mpi;
    if (ops == &hw_comm_shm_ops && (st = hw_comm_shm_adopt(&state, mpi, r, err))) {
        hw_comm_mpi_ops.destroy(mpi);
        return st;
    }
    st = hw_comm_wrap(out, ops, state, *r, err);
    r->host_of = NULL; /* now owned by the communicator */
    return st;
}

hw_status hw_comm_create_first(hw_comm **out, int n, const char *backend, hw_error *err)
{
    const hw_comm_ops *ops = find_backend(backend);
    void *all;
    hw_ranks ranks = {0};
    *out = NULL;
    if (ops != &hw_comm_shm_ops && ops != &hw_comm_mpi_ops)
        return hw_fail(err, HW_ERR_INVALID, "collectives \"%s\" of the first %d ranks; use shm or mpi",
                       backend, n);
    hw_status st = hw_comm_mpi_ops.create(&all, &ranks, err);
    if (st) return st;
    st = create_first(out, all, &ranks, n, ops, err);
    hw_comm_mpi_ops.destroy(all);
    free(ranks.host_of);
    return st;
}

hw_status hw_comm_split(hw_comm **out, hw_comm *parent, int color, int key, hw_error *err)
{
    const hw_comm_ops *ops;
    hw_ranks ranks;
    void *state;
    *out = NULL;
    hw_comm *c = calloc(1, sizeof *c);
    hw_status st = c ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "no memory for a group of ranks");
    st = hw_comm_agree(parent, st, err);
    if (st) {
        free(c);
        return st;
    }
    st = parent->ops->split(&state, &ops, &ranks, parent->state, parent->host_of, color, key, err);
    const bool made = !st && ranks.n_ranks;
    if (made) {
        *c = of_ranks(ops, state, &ranks);
        c->parent = parent;
        c->meter = parent->meter;
        c->wants = parent->wants;
        c->watch = parent->watch;
        c->stuck_after_s = parent->stuck_after_s;
    } else free(c);
    st = hw_comm_agree(parent, st, err);
    if (st && made) hw_comm_destroy(c);
    else if (made) *out = c;
    return st;
}

hw_status hw_comm_create_alone(hw_comm **out, hw_error *err) { return create(out, &hw_comm_self_ops, err); }

void hw_comm_destroy(hw_comm *c)
{
    if (!c) return;
    if (!c->parent) hw_watch_enter(c->watch, HW_WATCH_ENDING);
    hw_comm_detach(c);
    c->ops->destroy(c->state);
    if (!c->parent) {
        hw_watch_set_meter(c->watch, NULL);
        hw_meter_destroy(c->meter);
    }
    free(c->host_of);
    free(c);
}

int hw_comm_rank(const hw_comm *c) { return c->rank; }
int hw_comm_job_rank(const hw_comm *c) { return c->job_rank; }
int hw_comm_n_ranks(const hw_comm *c) { return c->n_ranks; }
int hw_comm_n_local_ranks(const hw_comm *c) { return c->n_local_ranks; }

int hw_comm_local_rank(const hw_comm *c)
{
    int n = 0;
    for (int r = 0; r < c->rank; r++) n += hw_comm_host_of(c, r) == hw_comm_host_of(c, c->rank);
    return n;
}

int hw_comm_n_sharing(const hw_comm *c) { return c->n_sharing; }
int hw_comm_host_of(const hw_comm *c, int rank) { return c->host_of[rank]; }

const char *hw_comm_backend(const hw_comm *c)
{
    return c->group ? hw_comm_group_name(c->group) : c->ops->name;
}

hw_meter *hw_comm_meter(hw_comm *c) { return c->meter; }
void hw_comm_set_stuck_after(hw_comm *c, double seconds) { c->stuck_after_s = seconds; }
double hw_comm_stuck_after(const hw_comm *c) { return c->stuck_after_s; }

hw_watch *hw_comm_watch(const hw_comm *c) { return c->watch; }

void hw_comm_set_watch(hw_comm *c, hw_watch *w)
{
    c->watch = w;
    hw_watch_set_meter(w, c->meter);
}

/* Records one collective with the meter: everything since its start. */
typedef struct measure {
    uint64_t ticks, bytes, messages;
} measure;

static measure look(const hw_comm *c)
{
    return (measure){.ticks = hw_clock_ticks(),
                     .bytes = hw_meter_sent_bytes(c->meter, HW_ALL_RANKS),
                     .messages = hw_meter_sent_messages(c->meter, HW_ALL_RANKS)};
}

static measure begin(hw_comm *c, hw_watch_call call, hw_tag tag, size_t payload)
{
    hw_watch_call_begin(c->watch, call, tag, payload);
    return look(c);
}

/* `share`: the ideal as a fraction of the payload. */
static void end(hw_comm *c, hw_tag tag, measure before, size_t payload, double share)
{
    measure now = look(c);
    hw_watch_call_end(c->watch);
    hw_meter_record(c->meter, tag,
                    (hw_traffic){.calls = 1,
                                 .messages = now.messages - before.messages,
                                 .payload_bytes = payload,
                                 .sent_bytes = now.bytes - before.bytes,
                                 .ideal_bytes = share * (double)payload},
                    now.ticks - before.ticks);
}

static double one_way(const hw_comm *c) { return (double)(c->n_ranks - 1) / c->n_ranks; }

hw_status hw_comm_all_reduce(hw_comm *c, hw_tag tag, void *buffer, size_t count, hw_dtype type, hw_reduce op,
                             hw_error *err)
{
    if (c->n_ranks == 1) return HW_OK;
    measure before = begin(c, HW_CALL_ALL_REDUCE, tag, count * hw_dtype_size(type));
    hw_status st = count ? c->ops->all_reduce(c->state, c->meter, buffer, count, type, op, err) : HW_OK;
    if (!st) end(c, tag, before, count * hw_dtype_size(type), 2 * one_way(c));
    return st;
}

hw_status hw_comm_all_gather(hw_comm *c, hw_tag tag, const void *send, size_t n_bytes, void *recv,
                             hw_error *err)
{
    if (c->n_ranks == 1) {
        if (n_bytes) memcpy(recv, send, n_bytes);
        return HW_OK;
    }
    measure before = begin(c, HW_CALL_ALL_GATHER, tag, n_bytes * (size_t)c->n_ranks);
    hw_status st = n_bytes ? c->ops->all_gather(c->state, c->meter, send, n_bytes, recv, err) : HW_OK;
    if (!st) end(c, tag, before, n_bytes * (size_t)c->n_ranks, one_way(c));
    return st;
}

hw_status hw_comm_broadcast(hw_comm *c, hw_tag tag, void *buffer, size_t n_bytes, int root, hw_error *err)
{
    if (c->n_ranks == 1) return HW_OK;
    measure before = begin(c, HW_CALL_BROADCAST, tag, n_bytes);
    hw_status st = n_bytes ? c->ops->broadcast(c->state, c->meter, buffer, n_bytes, root, err) : HW_OK;
    if (!st) end(c, tag, before, n_bytes, one_way(c));
    return st;
}

hw_status hw_comm_share(hw_comm *c, hw_tag tag, char **bytes, size_t *n_bytes, hw_error *err)
{
    uint64_t n = *n_bytes;
    if (c->n_ranks == 1) return HW_OK;
    if (c->rank) *bytes = NULL;
    hw_status st = hw_comm_broadcast(c, tag, &n, sizeof n, 0, err);
    if (st) return st;
    *n_bytes = (size_t)n;
    if (c->rank && !(*bytes = calloc((size_t)n + 1, 1)))
        st = hw_fail(err, HW_ERR_NO_MEMORY, "no memory for %zu bytes from rank 0", *n_bytes);
    st = hw_comm_agree(c, st, err);
    if (!st) st = hw_comm_broadcast(c, tag, *bytes, *n_bytes, 0, err);
    if (!st || !c->rank) return st;
    free(*bytes);
    *bytes = NULL;
    return st;
}

hw_status hw_comm_send(hw_comm *c, hw_tag tag, const void *buffer, size_t n_bytes, int to, hw_error *err)
{
    measure before = begin(c, HW_CALL_SEND, tag, n_bytes);
    hw_status st = c->ops->send(c->state, c->meter, buffer, n_bytes, to, err);
    if (!st) end(c, tag, before, n_bytes, 1);
    return st;
}

/* The payload is counted on the sender. */
hw_status hw_comm_receive(hw_comm *c, hw_tag tag, void *buffer, size_t capacity, size_t *n_bytes, int from,
                          hw_error *err)
{
    measure before = begin(c, HW_CALL_RECEIVE, tag, capacity);
    hw_status st = c->ops->receive(c->state, buffer, capacity, n_bytes, from, err);
    if (!st) end(c, tag, before, 0, 0);
    return st;
}

hw_status hw_comm_wait_idle(hw_comm *c, hw_error *err)
{
    const hw_tag tag = {.site = HW_SITE_CONTROL};
    if (c->n_ranks == 1) return HW_OK;
    const hw_watch_phase phase = hw_watch_enter(c->watch, HW_WATCH_IDLE);
    measure before = begin(c, HW_CALL_WAIT_IDLE, tag, 0);
    hw_status st = c->ops->wait_idle(c->state, c->meter, err);
    if (!st) end(c, tag, before, 0, 0);
    hw_watch_enter(c->watch, phase);
    return st;
}

/* ---- on a device */

hw_status hw_comm_attach(hw_comm *c, const hw_comm_attachment *a, hw_error *err)
{
    const bool required = c->wants == DEVICE_REQUIRED;
    if (!required && (c->wants == DEVICE_NEVER || c->n_ranks == 1)) return HW_OK;
    return hw_comm_group_create(&c->group, c, a, required, err);
}

void hw_comm_detach(hw_comm *c)
{
    hw_comm_group_destroy(c->group);
    c->group = NULL;
}

bool hw_comm_on_device(const hw_comm *c) { return c->group != NULL; }

/* A ring sends the ideal, in whole bytes. With one rank nothing is sent or counted. */
static void end_on_device(hw_comm *c, hw_tag tag, measure before, size_t payload)
{
    const double ideal = 2 * one_way(c) * (double)payload;
    if (c->n_ranks == 1) return;
    hw_meter_record(
        c->meter, tag,
        (hw_traffic){
            .calls = 1, .payload_bytes = payload, .sent_bytes = (uint64_t)ideal, .ideal_bytes = ideal},
        hw_clock_ticks() - before.ticks);
}

hw_status hw_comm_device_all_reduce(hw_comm *c, hw_tag tag, void *buffer, size_t count, hw_dtype type,
                                    hw_reduce op, hw_error *err)
{
    measure before = look(c);
    hw_status st = count ? hw_comm_group_all_reduce(c->group, buffer, count, type, op, err) : HW_OK;
    if (!st) end_on_device(c, tag, before, count * hw_dtype_size(type));
    return st;
}

hw_status hw_comm_device_first_all_reduce(hw_comm *c, hw_tag tag, void *buffer, size_t count, hw_dtype type,
                                          hw_reduce op, hw_error *err)
{
    measure before = look(c);
    hw_status st = hw_comm_group_first_all_reduce(c->group, buffer, count, type, op, err);
    if (!st) end_on_device(c, tag, before, count * hw_dtype_size(type));
    return st ? st : hw_comm_device_wait(c, NULL, err);
}

void hw_comm_device_count(hw_comm *c, hw_tag tag, size_t count, hw_dtype type)
{
    end_on_device(c, tag, look(c), count * hw_dtype_size(type));
}

hw_status hw_peak_device_all_reduce(double *seconds, hw_comm *c, void *buffer, size_t count, hw_dtype type,
                                    int repeats, hw_error *err)
{
    return hw_comm_group_measure(c->group, buffer, count, type, repeats, seconds, err);
}

hw_status hw_comm_device_wait(hw_comm *c, void *until, hw_error *err)
{
    return c->group ? hw_comm_group_wait(c->group, until, err) : HW_OK;
}

/* Adds the rank to an error. An error of rank 0 may be that of all ranks, so its message gets no rank. */
static void name_rank(const hw_comm *c, hw_status st, hw_error *said)
{
    if (said->rank >= 0) return;
    if (c->job_rank) hw_rank_context(said, st, c->job_rank);
    else said->rank = 0;
}

hw_status hw_comm_agree(hw_comm *c, hw_status mine, hw_error *err)
{
    if (c->n_ranks == 1) return mine;
    hw_tag tag = {.site = HW_SITE_CONTROL};
    uint64_t worst = claim(mine, c->rank, c->n_ranks);
    hw_status st = hw_comm_all_reduce(c, tag, &worst, 1, HW_U64, HW_MAX, err);
    if (st) return st;
    hw_status agreed = (hw_status)(worst >> 32);
    if (agreed == HW_OK) return HW_OK;
    const int who = claimant(worst, c->n_ranks);
    hw_error said = {.rank = -1};
    if (who == c->rank) {
        if (err) said = *err;
        name_rank(c, mine, &said);
    }
    st = hw_comm_broadcast(c, tag, &said, sizeof said, who, err);
    if (st) return st;
    if (err) *err = said;
    return agreed;
}

void hw_comm_abort(hw_comm *c, int exit_code)
{
    while (c->parent) c = c->parent; /* all ranks, not a group of them */
    c->ops->abort(c->state, exit_code);
}
