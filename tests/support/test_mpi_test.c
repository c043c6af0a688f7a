#include "tests/support/mpi_test.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKER HW_BINARY_DIR "/tests/support/ranks_worker"

ParameterizedTestParameters(mpi_test, all_ranks_take_part)
{
    static int n_ranks[] = {1, 2, 4};
    return cr_make_param_array(int, n_ranks, 3);
}

/* 10 + 20 + ... + 10 n = 5 n (n + 1). */
ParameterizedTest(int *n, mpi_test, all_ranks_take_part)
{
    char want[64];
    snprintf(want, sizeof want, "%d ranks, sum %d,", *n, 5 * *n * (*n + 1));
    hw_run_result r = hw_mpirun(*n, (const char *const[]){WORKER, NULL}, "hello\n", 60);
    cr_assert_eq(r.exit_code, 0, "%s", r.err);
    cr_assert_eq(strncmp(r.out, want, strlen(want)), 0, "%s", r.out);
    cr_assert_neq(strstr(r.out, "input hello\n"), NULL, "%s", r.out);
    hw_run_free(&r);
}

Test(mpi_test, code_of_an_abort_comes_back)
{
    hw_run_result r = hw_mpirun(2, (const char *const[]){WORKER, "abort", NULL}, NULL, 60);
    cr_assert_eq(r.exit_code, 5, "exit code %d: %s", r.exit_code, r.err);
    hw_run_free(&r);
}

/* The ranks are in process groups of their own: only mpirun can end them, and it does when it is asked to
 * end. */
Test(mpi_test, timeout_ends_every_rank)
{
    hw_run_result r = hw_mpirun(2, (const char *const[]){WORKER, "stall", NULL}, "\n", 10);
    cr_assert(r.timed_out);
    const char *pid_text = strstr(r.out, "pid ");
    cr_assert_neq(pid_text, NULL, "%s", r.out);
    cr_assert(hw_process_ends_soon((pid_t)atoi(pid_text + 4)));
    hw_run_free(&r);
}

#ifdef __SANITIZE_ADDRESS__
/* Hiding what Open MPI keeps must not hide what a rank of ours loses. */
Test(mpi_test, leak_on_a_rank_is_found)
{
    hw_run_result r = hw_mpirun(2, (const char *const[]){WORKER, "leak", NULL}, NULL, 60);
    cr_assert_neq(r.exit_code, 0);
    cr_assert_neq(strstr(r.err, "4321 byte"), NULL, "%s", r.err);
    hw_run_free(&r);
}
#endif
