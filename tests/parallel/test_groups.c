/* Groups of ranks on real ranks: group_worker.c says what is checked. And what one process can see by itself. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "parallel/comm.h"
#include "tests/support/mpi_test.h"

static void check_groups(int n_ranks, const char *backend, const char *per_host)
{
    char want[64];
    hw_run_result r = hw_mpirun(
        n_ranks, (const char *const[]){HW_BINARY_DIR "/tests/parallel/group_worker", backend, per_host, NULL},
        NULL, 200);
    snprintf(want, sizeof want, "%d ranks, %s\n", n_ranks, backend);
    cr_assert_eq(r.exit_code, 0, "%d ranks, %s: exit code %d\n%s", n_ranks, backend, r.exit_code, r.err);
    cr_assert_str_eq(r.out, want);
    hw_run_free(&r);
}

/* Two groups of two, and groups of unlike sizes. */
Test(groups, work_by_messages)
{
    check_groups(4, "mpi", NULL);
    check_groups(5, "mpi", NULL);
}
Test(groups, work_in_shared_memory)
{
    check_groups(4, "shm", NULL);
    check_groups(5, "shm", NULL);
}
Test(groups, work_with_one_rank) { check_groups(1, "mpi", NULL); }

/* Groups on one host, groups with one rank on each, and such as cannot share memory in the order of their ranks. */
Test(groups, work_over_several_hosts) { check_groups(4, "shm", "2"); }

Test(groups, of_a_process_alone_are_itself)
{
    hw_error err;
    hw_comm *alone, *group = (hw_comm *)&group;
    cr_assert_eq(hw_comm_create_alone(&alone, &err), HW_OK);
    cr_assert_eq(hw_comm_split(&group, alone, HW_NO_GROUP, 0, &err), HW_OK);
    cr_expect_null(group);
    cr_assert_eq(hw_comm_split(&group, alone, 5, 1, &err), HW_OK);
    cr_expect_eq(hw_comm_n_ranks(group), 1);
    cr_expect_eq(hw_comm_agree(group, HW_ERR_MODEL, &err), HW_ERR_MODEL);
    hw_comm_destroy(group);
    hw_comm_destroy(alone);
}
