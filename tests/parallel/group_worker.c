/* Checks groups of ranks (hw_comm_split) from the inside. test_groups.c starts it under mpirun.
 *
 *   group_worker [BACKEND [N]]      N: as if every N neighbours were on a host of their own
 *
 * What a rank gives is a function of its number in the job, so every member works out its group's sum by itself. Exit
 * code 0 when everything holds on every rank; otherwise standard error says what does not. */
#include <stdlib.h>
#include <string.h>

#include "parallel/traffic_model.h"
#include "tests/support/over_hosts.h"

enum { MAX_RANKS = 16, LONGEST = 100003 };

/* One number, a decode step's, and more than fits into one piece of shared memory. */
static const size_t counts[] = {1, 770, LONGEST};
enum { N_COUNTS = sizeof counts / sizeof *counts };

static const hw_tag tag = {.site = HW_SITE_ATTN, .layer = 0, .decode_rows = 1};

/* Who is in this rank's group, worked out from what every rank is told to be: numbers in the job, in the group's order. */
typedef struct members {
    int n, me, job_rank[MAX_RANKS];
} members;

typedef int choice(int job_rank); /* of a colour or a key */

static members list_members(choice *color, choice *key)
{
    members m = {0};
    for (int r = 0; r < n_ranks; r++)
        if (color(r) == color(rank)) m.job_rank[m.n++] = r;
    for (int i = 1; i < m.n; i++)
        for (int k = i; k && key(m.job_rank[k]) < key(m.job_rank[k - 1]); k--) {
            const int held = m.job_rank[k];
            m.job_rank[k] = m.job_rank[k - 1], m.job_rank[k - 1] = held;
        }
    while (m.job_rank[m.me] != rank) m.me++;
    return m;
}

/* Whole numbers, whose sums are exact in any order. */
static float given(int job_rank, size_t i) { return (float)((job_rank + 1) * 1000 + (int)(i % 97)); }

static hw_comm *split(hw_comm *of, choice *color, choice *key)
{
    hw_error err;
    hw_comm *group;
    must(hw_comm_split(&group, of, color(rank), key(rank), &err), &err);
    return group;
}

/* ---- sums, and what the meter of all ranks counts of them */

static void check_counts(const members *m, const hw_comm *group, size_t n)
{
    const hw_meter *meter = hw_comm_meter(comm);
    const hw_place at = {m->me, m->n, hw_comm_n_sharing(group)};
    const hw_traffic_model v = hw_traffic_model_all_reduce(at, n, sizeof(float));
    const hw_traffic t = hw_meter_site(meter, HW_SITE_ATTN, HW_DECODE);
    uint64_t to_members = 0;
    for (int i = 0; i < m->n; i++) to_members += hw_meter_recent_bytes(meter, m->job_rank[i]);
    expect(t.calls == (m->n > 1) && t.payload_bytes == (m->n > 1 ? n * sizeof(float) : 0),
           "a group's payload", n);
    expect(t.sent_bytes == v.bytes && t.messages == v.messages, "a group's sum sends the closed form", n);
    expect(to_members == v.bytes && hw_meter_recent_bytes(meter, HW_ALL_RANKS) == v.bytes,
           "and to its members", n);
    expect(hw_meter_recent_bytes(meter, rank) == 0, "and nothing to itself", n);
}

static void check_sum(const members *m, hw_comm *group, size_t n)
{
    static float x[LONGEST];
    hw_error err;
    bool good = true;
    for (size_t i = 0; i < n; i++) x[i] = given(rank, i);
    hw_meter_reset(hw_comm_meter(comm));
    must(hw_comm_all_reduce(group, tag, x, n, HW_F32, HW_SUM, &err), &err);
    for (size_t i = 0; i < n && good; i++) {
        float want = 0;
        for (int k = 0; k < m->n; k++) want += given(m->job_rank[k], i);
        good = x[i] == want;
    }
    expect(good, "a sum over a group", n);
    check_counts(m, group, n);
}

static void check_gather_and_broadcast(const members *m, hw_comm *group)
{
    hw_error err;
    int all[MAX_RANKS] = {0}, mine = 100 + rank;
    must(hw_comm_all_gather(group, tag, &mine, sizeof mine, all, &err), &err);
    for (int i = 0; i < m->n; i++)
        expect(all[i] == 100 + m->job_rank[i], "members are in the order of their keys", 0);
    const int root = m->n - 1;
    must(hw_comm_broadcast(group, tag, &mine, sizeof mine, root, &err), &err);
    expect(mine == 100 + m->job_rank[root], "a broadcast in a group", 0);
}

/* ---- errors */

/* The last member fails, in one of the groups: its group hears of it, by its number in the job, and no other. */
static void check_agree(const members *m, hw_comm *group, int failing)
{
    hw_error err = {.rank = -1};
    bool concerned = false;
    for (int i = 0; i < m->n; i++) concerned = concerned || m->job_rank[i] == failing;
    hw_status mine = rank == failing ? hw_fail(&err, HW_ERR_NO_MEMORY, "no room") : HW_OK;
    hw_status st = hw_comm_agree(group, mine, &err);
    expect(st == (concerned ? HW_ERR_NO_MEMORY : HW_OK), "an error reaches the members of its group", 0);
    if (!concerned || m->n == 1) return;
    char want[32];
    snprintf(want, sizeof want, "rank %d on ", failing);
    expect(err.rank == failing, "with the number of its rank", 0);
    expect(strstr(err.message, "no room") && (!failing || !strncmp(err.message, want, strlen(want))),
           "and its words", 0);
}

/* ---- one way of splitting */

static void check_group(hw_comm *of, choice *color, choice *key)
{
    const members m = list_members(color, key);
    hw_comm *group = split(of, color, key);
    expect(hw_comm_n_ranks(group) == m.n && hw_comm_rank(group) == m.me, "size and place", 0);
    expect(hw_comm_job_rank(group) == rank, "a rank keeps its number in the job", 0);
    expect(hw_comm_meter(group) == hw_comm_meter(comm), "there is one meter", 0);
    for (int i = 0; i < m.n; i++) {
        int lowest = 0;
        while (hw_comm_host_of(comm, m.job_rank[lowest]) != hw_comm_host_of(comm, m.job_rank[i])) lowest++;
        expect(hw_comm_host_of(group, i) == lowest, "hosts are known by their lowest member", 0);
    }
    for (size_t i = 0; i < N_COUNTS; i++) check_sum(&m, group, counts[i]);
    check_gather_and_broadcast(&m, group);
    for (int failing = 0; failing < n_ranks; failing++) check_agree(&m, group, failing);
    hw_comm_destroy(group);
}

static int halves(int r) { return r / ((n_ranks + 1) / 2); }
static int remainders(int r) { return r % 2; }
static int one_apart(int r) { return r == n_ranks - 1; }
static int everybody(int r) { return (void)r, 0; }
static int each_alone(int r) { return r; }
static int ascending(int r) { return r; }
static int descending(int r) { return -r; }
static int all_alike(int r) { return (void)r, 7; }

/* Two groupings of the same ranks take turns with collectives of all. */
static void check_crossed(void)
{
    const members m = {.n = n_ranks, .me = rank};
    hw_error err;
    hw_comm *across = split(comm, remainders, ascending), *along = split(comm, halves, ascending);
    for (int turn = 0; turn < 50; turn++) {
        float x = 1, y = 1, z = 1;
        must(hw_comm_all_reduce(along, tag, &x, 1, HW_F32, HW_SUM, &err), &err);
        must(hw_comm_all_reduce(comm, tag, &y, 1, HW_F32, HW_SUM, &err), &err);
        must(hw_comm_all_reduce(across, tag, &z, 1, HW_F32, HW_SUM, &err), &err);
        expect(x == (float)hw_comm_n_ranks(along) && y == (float)m.n && z == (float)hw_comm_n_ranks(across),
               "groups in turn", 0);
    }
    hw_comm_destroy(along);
    hw_comm_destroy(across);
}

/* A group can be split as well, and outlives nothing that it came from. */
static void check_nested(void)
{
    hw_comm *half = split(comm, halves, ascending);
    hw_error err;
    hw_comm *pair;
    must(hw_comm_split(&pair, half, hw_comm_rank(half) / 2, 0, &err), &err);
    uint64_t sum = (uint64_t)rank;
    must(hw_comm_all_reduce(pair, tag, &sum, 1, HW_U64, HW_SUM, &err), &err);
    const uint64_t first = (uint64_t)(rank - hw_comm_rank(pair));
    expect(sum == (hw_comm_n_ranks(pair) == 2 ? 2 * first + 1 : first), "a group of a group", 0);
    expect(hw_comm_job_rank(pair) == rank, "and its number in the job", 0);
    hw_comm_destroy(pair);
    hw_comm_destroy(half);
}

static void check_left_out(void)
{
    hw_error err;
    hw_comm *group;
    const bool in = rank != 0 || n_ranks == 1;
    must(hw_comm_split(&group, comm, in ? 3 : HW_NO_GROUP, 0, &err), &err);
    expect((group != NULL) == in, "who has no colour has no group", 0);
    if (group) expect(hw_comm_n_ranks(group) == (n_ranks > 1 ? n_ranks - 1 : 1), "the others have one", 0);
    hw_comm_destroy(group);
}

static void check_all_together(void)
{
    hw_error err;
    uint64_t sum = 1;
    must(hw_comm_all_reduce(comm, tag, &sum, 1, HW_U64, HW_SUM, &err), &err);
    expect(sum == (uint64_t)n_ranks, "all ranks together afterwards", 0);
}

int main(int argc, char **argv)
{
    start_as_told(argc, argv);
    static const struct {
        choice *color, *key;
    } ways[] = {{halves, ascending},     {halves, descending},   {remainders, all_alike},
                {one_apart, descending}, {everybody, ascending}, {each_alone, all_alike}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        check_group(comm, ways[i].color, ways[i].key);
        check_all_together();
    }
    check_crossed();
    check_nested();
    check_left_out();
    check_all_together();
    if (rank == 0) printf("%d ranks, %s\n", n_ranks, hw_comm_backend(comm));
    return finish();
}
