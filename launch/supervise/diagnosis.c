#include "launch/supervise/diagnosis.h"

#include <stdio.h>
#include <string.h>

enum {
    SLOW_TIMES = 10,        /* times the limit for disks, drivers and network file systems */
    SLOWEST_TIMES = 4,      /* a piece may take this many times as long as the slowest recent one */
    RATE_TIMES = 20,        /* a piece may be this many times slower than the average rate */
    OPERATIONS_MS = 200000, /* minimum operations per millisecond before the rate is measured */
    CALL_BYTES_MS = 10000,  /* minimum bytes of a collective per millisecond */
    ABSENT_MS = 120000,     /* programs on a slow file system start late */
    QUIET_SHARE = 4,        /* a rank silent for a quarter of the limit may be stopped or cut off */
};

/* In a collective, hw_comm_wait_idle included: while rank 0 is outside of it, no rank that sleeps there is to blame. */
static bool waits(const hw_rank_view *r)
{
    return r->beat.call || r->beat.phase == HW_WATCH_STARTING || r->beat.phase == HW_WATCH_ENDING;
}

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

uint64_t hw_allowed_ms(const hw_rank_view *r, uint64_t limit_ms)
{
    const bool idle = r->beat.phase == HW_WATCH_IDLE && !r->beat.call;
    if (r->beat.phase == HW_WATCH_STARTING || r->beat.phase == HW_WATCH_LOADING || idle)
        limit_ms *= SLOW_TIMES;
    const double rate = r->rate > RATE_TIMES * (double)OPERATIONS_MS ? r->rate / RATE_TIMES : OPERATIONS_MS;
    const uint64_t work_ms =
        r->beat.call ? r->beat.n_bytes / CALL_BYTES_MS : (uint64_t)((double)r->beat.work / rate);
    return larger(limit_ms, larger(SLOWEST_TIMES * r->slowest_ms, work_ms));
}

/* A rank that has announced its end stays connected until it, or on another host Open MPI's daemon, has ended. */
static bool should_be_heard(const hw_rank_view *r) { return r->known && (!r->left || r->connected); }

/* A host is cut off when no rank on it sends anything and bytes sent to it are not acknowledged. */
static bool is_cut_off(const hw_rank_view *ranks, int n, int rank, uint64_t limit_ms)
{
    if (!ranks[rank].unreached) return false;
    for (int i = 0; i < n; i++)
        if (should_be_heard(&ranks[i]) && !strcmp(ranks[i].host, ranks[rank].host) &&
            ranks[i].silent_ms < limit_ms / 2)
            return false;
    return true;
}

static hw_diagnosis judge_silence(const hw_rank_view *ranks, int n, uint64_t limit_ms)
{
    int worst = -1;
    for (int i = 0; i < n; i++) {
        const hw_rank_view *r = &ranks[i];
        if (!should_be_heard(r) || r->silent_ms <= limit_ms) continue;
        if (worst < 0 || r->silent_ms > ranks[worst].silent_ms) worst = i;
    }
    if (worst < 0) return (hw_diagnosis){HW_WELL, 0};
    return (hw_diagnosis){is_cut_off(ranks, n, worst, limit_ms) ? HW_CUT_OFF : HW_STOPPED, worst};
}

/* Ranks that wait for a silent rank may have begun to wait before the silence: they are not judged until that rank is
 * heard again or its silence has reached the limit. */
static bool is_any_quiet(const hw_rank_view *ranks, int n, uint64_t limit_ms)
{
    for (int i = 0; i < n; i++)
        if (should_be_heard(&ranks[i]) && ranks[i].silent_ms > limit_ms / QUIET_SHARE) return true;
    return false;
}

/* Only rank 0 does input and output, which may take any time. Another rank that sleeps outside a collective while all
 * others are in one is stuck. */
static bool may_idle(const hw_rank_view *ranks, int n, int rank, uint64_t limit_ms)
{
    if (rank == 0 || ranks[rank].asleep_ms <= hw_allowed_ms(&ranks[rank], limit_ms)) return true;
    for (int i = 0; i < n; i++)
        if (i != rank && !ranks[i].beat.call) return true;
    return false;
}

/* Waiting ranks are not at fault while another rank works; that rank has its own limit. */
static hw_diagnosis judge_work(const hw_rank_view *ranks, int n, uint64_t limit_ms)
{
    int worst = -1;
    uint64_t most = 0;
    for (int i = 0; i < n; i++) {
        const hw_rank_view *r = &ranks[i];
        if (!r->known || r->left || waits(r)) continue;
        if (r->beat.phase == HW_WATCH_IDLE && may_idle(ranks, n, i, limit_ms)) continue;
        const uint64_t allowed = hw_allowed_ms(r, limit_ms);
        if (r->still_ms <= allowed || r->still_ms - allowed < most) continue;
        most = r->still_ms - allowed;
        worst = i;
    }
    return worst < 0 ? (hw_diagnosis){HW_WELL, 0} : (hw_diagnosis){HW_STUCK, worst};
}

/* A rank with fewer collectives is behind; among equals, a rank that waits for messages spins, and one that hangs
 * sleeps. */
static bool is_further_behind(const hw_rank_view *a, const hw_rank_view *b, uint64_t limit_ms)
{
    if (a->beat.n_calls != b->beat.n_calls) return a->beat.n_calls < b->beat.n_calls;
    return a->asleep_ms > limit_ms / 2 && b->asleep_ms <= limit_ms / 2;
}

/* When all ranks wait and none works, the cause is an absent rank, or else the rank that is furthest behind. */
static hw_diagnosis judge_waiting(const hw_rank_view *ranks, int n, uint64_t limit_ms)
{
    int absent = -1, gone = -1, behind = -1, n_asleep = 0;
    bool any_call = false, long_ago = true, all_end = true, slow_end = true;
    for (int i = 0; i < n; i++) {
        const hw_rank_view *r = &ranks[i];
        if (!r->known) absent = i;
        else if (r->left) gone = i;
        if (!r->known || r->left) continue;
        if (!waits(r) || r->still_ms <= hw_allowed_ms(r, limit_ms)) return (hw_diagnosis){HW_WELL, 0};
        any_call = any_call || r->beat.call;
        n_asleep += r->asleep_ms > limit_ms;
        long_ago = long_ago && r->still_ms > ABSENT_MS && r->beat.phase == HW_WATCH_STARTING;
        all_end = all_end && r->beat.phase == HW_WATCH_ENDING && !r->beat.call;
        slow_end = slow_end && r->still_ms > SLOW_TIMES * limit_ms;
        if (behind < 0 || is_further_behind(r, &ranks[behind], limit_ms)) behind = i;
    }
    if (behind < 0) return (hw_diagnosis){HW_WELL, 0};
    if (absent >= 0) return (hw_diagnosis){long_ago ? HW_ABSENT : HW_WELL, absent};
    /* A rank leaves when all have reached MPI_Finalize: ranks that are still ending do not wait for it. */
    if (gone >= 0 && all_end) return (hw_diagnosis){slow_end ? HW_STUCK : HW_WELL, behind};
    if (gone >= 0) return (hw_diagnosis){HW_LEFT, gone};
    if (any_call) return (hw_diagnosis){HW_ALL_WAIT, behind};
    /* During start-up, ranks that wait for the others do not sleep for long. */
    if (n_asleep && n_asleep < n) return (hw_diagnosis){HW_STUCK, behind};
    return (hw_diagnosis){long_ago ? HW_ALL_WAIT : HW_WELL, behind};
}

hw_diagnosis hw_diagnose(const hw_rank_view *ranks, int n_ranks, uint64_t limit_ms)
{
    hw_diagnosis v = judge_silence(ranks, n_ranks, limit_ms);
    if (v.kind || is_any_quiet(ranks, n_ranks, limit_ms)) return v;
    v = judge_work(ranks, n_ranks, limit_ms);
    return v.kind ? v : judge_waiting(ranks, n_ranks, limit_ms);
}

/* When a link goes down, mpirun may notice first and kill the ranks that it can reach. */
hw_diagnosis hw_diagnose_lost(const hw_rank_view *ranks, int n_ranks, int lost, uint64_t limit_ms)
{
    for (int i = 0; i < n_ranks; i++)
        if (ranks[i].connected && ranks[i].unreached && ranks[i].silent_ms > limit_ms / 2)
            return (hw_diagnosis){HW_CUT_OFF, i};
    return (hw_diagnosis){HW_DIED, lost};
}

/* ---- messages */

static bool has_layer(uint32_t site) { return site == HW_SITE_ATTN || site == HW_SITE_MLP; }

char *hw_rank_doing(char *text, size_t size, const hw_rank_view *r)
{
    const hw_watch_beat *b = &r->beat;
    char call[64] = "", layer[24] = "";
    if (has_layer(b->site)) snprintf(layer, sizeof layer, " layer %d", b->layer);
    if (b->call == HW_CALL_WAIT_IDLE) snprintf(call, sizeof call, ", waiting for work of rank 0");
    else if (b->call)
        snprintf(call, sizeof call, ", in %s %s%s", hw_watch_call_name(b->call),
                 hw_site_name((hw_site)b->site), layer);
    snprintf(text, size, "%s%s, after %llu collectives", hw_watch_phase_name(b->phase), call,
             (unsigned long long)b->n_calls);
    return text;
}

char *hw_diagnosis_text(char *text, size_t size, hw_diagnosis v, const hw_rank_view *ranks, const char *how)
{
    const hw_rank_view *r = &ranks[v.rank];
    char doing[160];
    hw_rank_doing(doing, sizeof doing, r);
    const double silent = (double)r->silent_ms * 1e-3, still = (double)r->still_ms * 1e-3;
    switch (v.kind) {
    case HW_WELL: snprintf(text, size, "all ranks are well"); break;
    case HW_STOPPED:
        snprintf(text, size, "rank %d on %s (process %d) is stopped%s: no sign of life for %.1f s; it was %s",
                 v.rank, r->host, r->pid, r->stopped ? " by a signal" : " or its machine is", silent, doing);
        break;
    case HW_CUT_OFF:
        snprintf(text, size, "rank %d on %s cannot be reached: the link to %s is down for %.1f s; it was %s",
                 v.rank, r->host, r->host, silent, doing);
        break;
    case HW_STUCK:
        snprintf(
            text, size,
            "rank %d on %s (process %d) is stuck: the others wait, and it has not moved for %.1f s; it is %s",
            v.rank, r->host, r->pid, still, doing);
        break;
    case HW_LEFT:
        snprintf(text, size,
                 "rank %d on %s has ended, and the others wait for it; it had done %llu collectives", v.rank,
                 r->host, (unsigned long long)r->beat.n_calls);
        break;
    case HW_ALL_WAIT:
        snprintf(
            text, size,
            "all ranks wait for each other for %.1f s; the one that is furthest behind, rank %d on %s, is %s",
            still, v.rank, r->host, doing);
        break;
    case HW_ABSENT:
        snprintf(text, size, "rank %d was never heard of, and the others wait for it; did it start?", v.rank);
        break;
    case HW_DIED:
        snprintf(text, size, "rank %d on %s (process %d) %s; it was %s", v.rank, r->host, r->pid, how, doing);
        break;
    }
    return text;
}
