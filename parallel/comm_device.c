#include "parallel/comm_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/comm.h"
#include "runtime/base/host.h"

/* A collective that takes this many times limits.stuck_after is given up. Much longer than the limit itself, because a
 * launcher finds faults earlier and reports them more precisely. */
enum { DEADLINE_TIMES = 10, HOST_CHARS = 64 };

struct hw_comm_group {
    hw_comm *comm; /* borrowed */
    const hw_comm_device_ops *ops;
    void *state;
    double deadline_s;
};

/* Exchanged between ranks before they form a group. */
typedef struct member {
    uint64_t hardware; /* 0: cannot take part */
    char name[64], host[HOST_CHARS];
} member;

static hw_status open_library(hw_comm_group *g, const hw_comm_attachment *a, hw_error *err)
{
    if (!a->ops)
        return hw_fail(
            err, HW_ERR_DEVICE,
            "collectives \"nccl\" are not part of device \"%s\"; take --device cuda of a build that "
            "found nccl.h, or use --comm mpi",
            a->name);
    if (a->ops->version != HW_COMM_DEVICE_VERSION)
        return hw_fail(
            err, HW_ERR_DEVICE,
            "collectives of device \"%s\": its plug-in is from another version of Headway; install "
            "both from one build",
            a->name);
    g->ops = a->ops;
    return g->ops->open(&g->state, err);
}

/* Lists the ranks that use the hardware of `first`. */
static void list_sharers(char *text, size_t size, const member *all, int n_ranks, int first)
{
    size_t n = 0;
    int last = first;
    for (int r = first; r < n_ranks; r++)
        if (all[r].hardware == all[first].hardware) last = r;
    for (int r = first; r <= last && n < size; r++)
        if (all[r].hardware == all[first].hardware)
            n += (size_t)snprintf(text + n, size - n, "%s%d",
                                  r == first  ? ""
                                  : r == last ? " and "
                                              : ", ",
                                  r);
}

/* Finds the first device that several ranks use. */
static hw_status refuse_sharing(const member *all, int n_ranks, hw_error *err)
{
    char ranks[128];
    for (int r = 0; r < n_ranks; r++)
        for (int other = r + 1; other < n_ranks; other++)
            if (all[r].hardware == all[other].hardware) {
                list_sharers(ranks, sizeof ranks, all, n_ranks, r);
                return hw_fail(
                    err, HW_ERR_DEVICE,
                    "collectives \"nccl\" want a GPU for each rank, but ranks %s share %s on %s; use "
                    "--comm mpi, start fewer ranks there, or let CUDA_VISIBLE_DEVICES show more GPUs",
                    ranks, all[r].name, all[r].host);
            }
    return HW_OK;
}

/* Collective, for any `mine` of this rank. HW_OK on all ranks, or the same error on all. */
static hw_status compare_devices(hw_comm_group *g, const hw_comm_attachment *a, hw_status mine, hw_error *err)
{
    const hw_tag tag = {.site = HW_SITE_LOAD};
    const int n_ranks = hw_comm_n_ranks(g->comm);
    member me = {.hardware = mine ? 0 : a->hardware};
    snprintf(me.name, sizeof me.name, "%s", a->name);
    hw_host_name(me.host, sizeof me.host);
    member *all = calloc((size_t)n_ranks, sizeof *all);
    if (!all && !mine) mine = hw_fail(err, HW_ERR_NO_MEMORY, "collectives: no memory for %d ranks", n_ranks);
    hw_status st = hw_comm_agree(g->comm, mine, err);
    if (!st) st = hw_comm_all_gather(g->comm, tag, &me, sizeof me, all, err);
    if (!st && !g->ops->may_share(g->state)) {
        st = refuse_sharing(all, n_ranks, err);
        if (st)
            st = hw_comm_agree(g->comm, st,
                               err); /* all ranks find the same; the agreement gives the error a rank */
    }
    free(all);
    return st;
}

static hw_status join(hw_comm_group *g, const hw_comm_attachment *a, hw_error *err)
{
    const hw_tag tag = {.site = HW_SITE_LOAD};
    char id[HW_COMM_ID_BYTES] = {0};
    hw_status st = HW_OK;
    if (hw_comm_rank(g->comm) == 0) st = g->ops->make_id(g->state, id, err);
    st = hw_comm_agree(g->comm, st, err);
    if (!st) st = hw_comm_broadcast(g->comm, tag, id, sizeof id, 0, err);
    if (st) return st;
    const hw_comm_member m = {.rank = hw_comm_rank(g->comm),
                              .n_ranks = hw_comm_n_ranks(g->comm),
                              .id = id,
                              .stream = a->stream,
                              .deadline_s = g->deadline_s};
    return hw_comm_agree(g->comm, g->ops->join(g->state, &m, err), err);
}

hw_status hw_comm_group_create(hw_comm_group **out, hw_comm *c, const hw_comm_attachment *a, bool required,
                               hw_error *err)
{
    hw_error why = {.rank = -1};
    *out = NULL;
    hw_comm_group *g = calloc(1, sizeof *g);
    hw_status st = g ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "collectives: no memory");
    st = hw_comm_agree(c, st, err);
    if (st) {
        free(g);
        return st;
    }
    *g = (hw_comm_group){.comm = c, .deadline_s = DEADLINE_TIMES * hw_comm_stuck_after(c)};
    st = compare_devices(g, a, open_library(g, a, &why), &why);
    const bool can = !st;
    if (can) st = join(g, a, &why);
    if (!st) {
        *out = g;
        return HW_OK;
    }
    hw_comm_group_destroy(g);
    if (!can && !required && st == HW_ERR_DEVICE) return HW_OK;
    if (err) *err = why;
    return st;
}

void hw_comm_group_destroy(hw_comm_group *g)
{
    if (!g) return;
    if (g->ops) g->ops->close(g->state);
    free(g);
}

const char *hw_comm_group_name(const hw_comm_group *g) { return g->ops->name; }

/* The meter counts a collective after it was enqueued: this is the number that the next one will have. */
static uint64_t next_number(const hw_comm_group *g) { return hw_meter_n_calls(hw_comm_meter(g->comm)); }

hw_status hw_comm_group_all_reduce(hw_comm_group *g, void *buffer, size_t count, hw_dtype type, hw_reduce op,
                                   hw_error *err)
{
    return g->ops->all_reduce(g->state, next_number(g), buffer, count, type, op, err);
}

hw_status hw_comm_group_first_all_reduce(hw_comm_group *g, void *buffer, size_t count, hw_dtype type,
                                         hw_reduce op, hw_error *err)
{
    const hw_status st = g->ops->first_all_reduce(g->state, next_number(g), buffer, count, type, op, err);
    return hw_rank_context(err, st, hw_comm_job_rank(g->comm));
}

hw_status hw_comm_group_measure(hw_comm_group *g, void *buffer, size_t count, hw_dtype type, int repeats,
                                double *seconds, hw_error *err)
{
    return g->ops->measure(g->state, buffer, count, type, repeats, seconds, err);
}

/* "site attn, layer 3", from the meter's ring. */
static void name_collective(char *text, size_t size, const hw_comm_group *g, uint64_t number)
{
    const hw_meter *m = hw_comm_meter(g->comm);
    const uint64_t n_calls = hw_meter_n_calls(m);
    hw_ring_entry entry;
    if (number < n_calls && hw_meter_last(m, n_calls - 1 - number, &entry))
        snprintf(text, size, "collective %llu, site %s, layer %d", (unsigned long long)number,
                 hw_site_name((hw_site)entry.site), entry.layer);
    else snprintf(text, size, "a collective of a decode step's graph (--cuda-graphs off names it)");
}

hw_status hw_comm_group_wait(hw_comm_group *g, void *until, hw_error *err)
{
    uint64_t number = UINT64_MAX;
    char why[256] = "", what[128], host[HOST_CHARS];
    hw_status st = g->ops->wait(g->state, until, &number, why, sizeof why);
    if (!st) return HW_OK;
    name_collective(what, sizeof what, g, number);
    hw_host_name(host, sizeof host);
    hw_fail(err, st,
            "rank %d on %s waited for the others in %s (%s) for up to %g s: %s; a rank has died, is stuck "
            "or went another way",
            hw_comm_job_rank(g->comm), host, what, g->ops->name, g->deadline_s, why);
    if (err) err->rank = hw_comm_job_rank(g->comm);
    return st;
}
