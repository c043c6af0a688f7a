/* How the ranks of a host divide its cores, from the inside, on as many ranks as it is started on.
 * test_threads.c starts it. Exit code 0 when everything holds on every rank. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "runtime/device/cores.h"
#include "runtime/device/threads.h"

static hw_comm *comm;
static bool good = true;

static void expect(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "rank %d of %d: %s\n", hw_comm_rank(comm), hw_comm_n_ranks(comm), what);
    good = false;
}

static hw_threads settle(int wanted, bool pin)
{
    hw_threads t;
    hw_error err;
    if (hw_threads_settle(&t, comm, wanted, pin, &err)) {
        fprintf(stderr, "%s\n", err.message);
        hw_comm_abort(comm, 3);
    }
    return t;
}

static cpu_set_t affinity(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) CPU_ZERO(&set);
    return set;
}

/* No core is in two shares, and those that go round are in one. */
static void check_shares(int n_cores)
{
    const int n_ranks = hw_comm_n_ranks(comm);
    const hw_threads t = settle(0, true);
    uint64_t taken[CPU_SETSIZE] = {0}, sum = 0;
    hw_error err;
    for (int i = 0; i < t.n_cpus; i++) taken[t.cpus[i]]++;
    if (hw_comm_all_reduce(comm, (hw_tag){.site = HW_SITE_CONTROL}, taken, CPU_SETSIZE, HW_U64, HW_SUM, &err))
        hw_comm_abort(comm, 3);
    for (int i = 0; i < CPU_SETSIZE; i++) {
        expect(taken[i] <= 1, "a core is in two shares");
        sum += taken[i];
    }
    expect(t.n_sharing == n_ranks && t.n_allowed == n_cores, "all ranks divide all cores");
    const bool enough = n_cores >= n_ranks && hw_cores_quota() >= n_cores;
    expect(sum == (enough && n_ranks > 1 ? (uint64_t)n_cores : 0),
           "every core is in a share, or none where they are not divided");
    if (n_cores < n_ranks)
        expect(t.n == 1 && t.n_cores == 0 && !t.few, "ranks that take turns have one thread");
    else if (enough) expect(t.n == t.n_cores && t.n >= n_cores / n_ranks, "as many threads as cores");
    expect(settle(0, false).n_cpus == 0, "nothing is kept where it was not asked for");
}

/* More threads than cores are known of on all ranks, and are kept nowhere. */
static void check_too_many(int n_cores)
{
    const hw_threads t = settle(n_cores + 1, true);
    expect(t.n == n_cores + 1 && t.few && t.n_cpus == 0, "too many threads are free, and known");
    expect(!settle(1, true).few, "one thread is never too many");
}

/* The caller is on its share while the device lives, and a second engine of the process sees all cores even
 * so. */
static void check_pin(int n_cores)
{
    const cpu_set_t before = affinity();
    const hw_threads t = settle(0, true);
    hw_device *d;
    if (!t.n_cpus) return;
    if (hw_cpu_device_create(&d, t.n, NULL, NULL)) hw_comm_abort(comm, 3);
    expect(hw_cpu_device_pin(d, t.cpus, t.n_cpus), "threads can be kept on cores");
    const cpu_set_t now = affinity();
    bool same = CPU_COUNT(&now) == t.n_cpus;
    for (int i = 0; i < t.n_cpus; i++) same = same && CPU_ISSET(t.cpus[i], &now);
    expect(same, "the caller is kept as well");
    expect(strstr(hw_device_description(d), ", pinned") != NULL, "the description says so");
    expect(settle(0, true).n_allowed == n_cores, "a pinned process may still use its cores");
    hw_device_destroy(d);
    const cpu_set_t after = affinity();
    expect(CPU_EQUAL(&before, &after), "the caller is free again");
}

int main(void)
{
    hw_error err;
    int cpus[CPU_SETSIZE];
    const cpu_set_t allowed = hw_cores_allowed();
    const int n_cores = hw_cores_list(cpus, &allowed);
    if (hw_comm_create(&comm, "auto", &err)) return fprintf(stderr, "%s\n", err.message), 3;
    check_shares(n_cores);
    check_too_many(n_cores);
    check_pin(n_cores);
    hw_status st = hw_comm_agree(comm, good ? HW_OK : HW_ERR_FAILED, NULL);
    hw_comm_destroy(comm);
    return st ? 1 : 0;
}
