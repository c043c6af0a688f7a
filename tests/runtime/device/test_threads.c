/* Cores, and how ranks divide them; threads_worker.c looks from the inside. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/device/cores.h"
#include "runtime/device/threads.h"
#include "tests/support/mpi_test.h"

static const char *const worker = HW_BINARY_DIR "/tests/runtime/threads_worker";

static void works_on(int n_ranks)
{
    const char *const argv[] = {worker, NULL};
    hw_run_result r = n_ranks == 1 ? hw_run(argv, NULL, 100) : hw_mpirun(n_ranks, argv, NULL, 100);
    cr_expect_eq(r.exit_code, 0, "%d ranks: exit code %d\n%s", n_ranks, r.exit_code, r.err);
    hw_run_free(&r);
}

Test(threads, one_rank_has_all_cores) { works_on(1); }
Test(threads, ranks_divide_the_cores) { works_on(2); }
Test(threads, ranks_take_turns_where_cores_do_not_go_round) { works_on(5); }

/* By hand: 7 cores over 3 ranks are 2, 2 and 3. */
Test(threads, shares_are_neighbours_and_leave_nothing)
{
    static const int firsts[] = {0, 2, 4}, counts[] = {2, 2, 3};
    for (int i = 0; i < 3; i++) {
        int first, n;
        hw_threads_share(7, 3, i, &first, &n);
        cr_expect_eq(first, firsts[i]);
        cr_expect_eq(n, counts[i]);
    }
}

Test(cores, are_some_of_the_allowed_processors)
{
    int cpus[CPU_SETSIZE];
    const cpu_set_t allowed = hw_cores_allowed();
    const int n = hw_cores_list(cpus, &allowed);
    cr_assert(n >= 1 && n <= CPU_COUNT(&allowed));
    for (int i = 0; i < n; i++) {
        cr_expect(CPU_ISSET(cpus[i], &allowed));
        for (int j = 0; j < i; j++) cr_expect_neq(cpus[i], cpus[j]);
    }
}

/* What taskset and mpirun's bindings leave is all there is. */
Test(cores, of_one_processor_are_one)
{
    int cpus[CPU_SETSIZE];
    char number[16];
    const cpu_set_t allowed = hw_cores_allowed();
    const int n = hw_cores_list(cpus, &allowed), last = cpus[n - 1];
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    cr_expect_eq(hw_cores_list(cpus, &one), 1);
    cr_expect_eq(cpus[0], last);
    snprintf(number, sizeof number, "%d", last);
    hw_run_result r = hw_run((const char *const[]){"taskset", "-c", number, worker, NULL}, NULL, 100);
    cr_expect_eq(r.exit_code, 0, "exit code %d\n%s", r.exit_code, r.err);
    hw_run_free(&r);
}

Test(cores, a_quota_is_at_least_one) { cr_expect_geq(hw_cores_quota(), 1); }
