#include "runtime/device/threads.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/device/cores.h"

/* Exchanged between ranks. */
typedef struct seat {
    cpu_set_t allowed;
    int n_cores, n_quota; /* among them; processors' time of the control group */
} seat;

void hw_threads_share(int n_cores, int n_sharing, int i, int *first, int *n)
{
    *first = (int)((long)n_cores * i / n_sharing);
    *n = (int)((long)n_cores * (i + 1) / n_sharing) - *first;
}

/* Counts the ranks on the host of `rank` that may run on the same processors, and those of them before it. */
static void find_group(const seat *all, const hw_comm *c, int rank, int *before, int *n)
{
    *before = *n = 0;
    for (int r = 0; r < hw_comm_n_ranks(c); r++) {
        if (hw_comm_host_of(c, r) != hw_comm_host_of(c, rank)) continue;
        if (!CPU_EQUAL(&all[r].allowed, &all[rank].allowed)) continue;
        *before += r < rank;
        ++*n;
    }
}

/* The share of `rank`, as a range of the cores it may run on. Empty if there are fewer cores than ranks. */
static int find_share(const seat *all, const hw_comm *c, int rank, int *first)
{
    int before, n_sharing, n;
    find_group(all, c, rank, &before, &n_sharing);
    const seat *s = &all[rank];
    hw_threads_share(s->n_cores, n_sharing, before, first, &n);
    if (s->n_cores < n_sharing) return 0;
    if (s->n_quota >= s->n_cores) return n;
    hw_threads_share(s->n_quota, n_sharing, before, first, &n);
    return s->n_quota < n_sharing ? 0 : n;
}

static int at_least_one(int n) { return n > 0 ? n : 1; }

static hw_status exchange(seat *all, const seat *mine, hw_comm *comm, hw_status st, hw_error *err)
{
    st = hw_comm_agree(comm, st, err);
    return st ? st : hw_comm_all_gather(comm, (hw_tag){.site = HW_SITE_LOAD}, mine, sizeof *mine, all, err);
}

hw_status hw_threads_settle(hw_threads *out, hw_comm *comm, int wanted, bool pin, hw_error *err)
{
    const int rank = hw_comm_rank(comm), n_ranks = hw_comm_n_ranks(comm);
    seat mine = {.allowed = hw_cores_allowed(), .n_quota = hw_cores_quota()};
    int first, before;
    *out = (hw_threads){.n = at_least_one(wanted)};
    mine.n_cores = hw_cores_list(out->cpus, &mine.allowed);
    seat *all = calloc((size_t)n_ranks, sizeof *all);
    hw_status st = all ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "threads: no memory for %d ranks", n_ranks);
    if ((st = exchange(all, &mine, comm, st, err))) {
        free(all);
        return st;
    }
    out->n_allowed = mine.n_cores;
    out->n_cores = find_share(all, comm, rank, &first);
    find_group(all, comm, rank, &before, &out->n_sharing);
    if (!wanted) out->n = at_least_one(out->n_cores);
    for (int r = 0, ignored; r < n_ranks; r++)
        out->few = out->few || wanted > at_least_one(find_share(all, comm, r, &ignored));
    free(all);
    if (!pin || out->n_sharing == 1 || out->n > out->n_cores || mine.n_quota < mine.n_cores) return HW_OK;
    memmove(out->cpus, out->cpus + first, (size_t)out->n_cores * sizeof *out->cpus);
    out->n_cpus = out->n_cores;
    return HW_OK;
}
