/* Collectives on real ranks: comm_worker.c says what is checked. And what one process can see of the door by
 * itself. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/comm.h"
#include "tests/support/mpi_test.h"

static const char *const worker = HW_BINARY_DIR "/tests/parallel/comm_worker";

#ifdef HW_SANITIZE
enum { LEAST_OF_MANY = 8 };
#else
enum { LEAST_OF_MANY = 7 };
#endif

static void check_backend(int n_ranks, const char *backend, const char *per_host)
{
    char want[64];
    hw_run_result r = hw_mpirun(n_ranks, (const char *const[]){worker, backend, per_host, NULL}, NULL, 200);
    snprintf(want, sizeof want, "%d ranks, %s\n", n_ranks, backend);
    cr_assert_eq(r.exit_code, 0, "%d ranks, %s: exit code %d\n%s", n_ranks, backend, r.exit_code, r.err);
    cr_assert_str_eq(r.out, want);
    hw_run_free(&r);
}

static void check_on(int n_ranks)
{
    check_backend(n_ranks, "mpi", NULL);
    check_backend(n_ranks, "shm", NULL);
}

/* Powers of two, and numbers that leave one rank or more to be folded into others. */
Test(comm, collectives_are_exact_on_1_2_and_3_ranks)
{
    for (int n = 1; n <= 3; n++) check_on(n);
}
Test(comm, collectives_are_exact_on_4_and_5_ranks)
{
    for (int n = 4; n <= 5; n++) check_on(n);
}
Test(comm, collectives_are_exact_on_7_and_8_ranks)
{
    for (int n = LEAST_OF_MANY; n <= 8; n++) check_on(n);
}

/* Two hosts, four, and three, which leaves one to be folded. */
Test(comm, collectives_are_exact_over_several_hosts)
{
    check_backend(4, "shm", "2");
    check_backend(6, "shm", "2");
#ifndef HW_SANITIZE
    check_backend(8, "shm", "4");
    check_backend(8, "shm", "2");
#endif
}

Test(comm, shared_memory_is_refused_where_hosts_are_no_subtrees)
{
    hw_run_result r = hw_mpirun(3, (const char *const[]){worker, "shm", "2", NULL}, NULL, 100);
    cr_expect_neq(r.exit_code, 0);
    cr_expect_not_null(strstr(r.err, "rank 0's has 2 of 3"), "%s", r.err);
    cr_expect_not_null(strstr(r.err, "--comm mpi"), "%s", r.err);
    hw_run_free(&r);
}

Test(comm, auto_is_shm_on_one_host_and_self_without_mpirun)
{
    hw_run_result r = hw_mpirun(2, (const char *const[]){worker, NULL}, NULL, 100);
    cr_expect_str_eq(r.out, "2 ranks, shm\n", "%s", r.err);
    hw_run_free(&r);
    r = hw_run((const char *const[]){worker, NULL}, NULL, 100);
    cr_expect_str_eq(r.out, "1 ranks, self\n", "%s", r.err);
    cr_expect_eq(r.exit_code, 0);
    hw_run_free(&r);
}

Test(comm, self_among_several_ranks_is_refused)
{
    hw_run_result r = hw_mpirun(2, (const char *const[]){worker, "self", NULL}, NULL, 100);
    cr_expect_eq(r.exit_code, 2, "%s", r.err);
    cr_expect_not_null(strstr(r.err, "is for one rank, but 2 were started"), "%s", r.err);
    hw_run_free(&r);
}

Test(comm, an_unknown_backend_is_refused_by_name)
{
    hw_comm *c = (hw_comm *)&c;
    hw_error err;
    cr_assert_eq(hw_comm_create(&c, "carrier-pigeon", &err), HW_ERR_INVALID);
    cr_expect_null(c);
    cr_expect_not_null(strstr(err.message, "\"carrier-pigeon\""), "%s", err.message);
}

Test(comm, one_rank_keeps_its_numbers_and_counts_nothing)
{
    hw_comm *c;
    hw_error err = {.message = "said before", .rank = -1};
    hw_tag tag = {.site = HW_SITE_ATTN, .decode_rows = 1};
    float x[3] = {1, 2, 3}, gathered[3] = {0};
    cr_assert_eq(hw_comm_create(&c, "self", &err), HW_OK);
    cr_expect_eq(hw_comm_n_ranks(c), 1);
    cr_expect_eq(hw_comm_rank(c), 0);
    cr_expect_eq(hw_comm_n_local_ranks(c), 1);
    cr_expect_str_eq(hw_comm_backend(c), "self");
    cr_expect_eq(hw_comm_all_reduce(c, tag, x, 3, HW_F32, HW_SUM, &err), HW_OK);
    cr_expect_eq(hw_comm_broadcast(c, tag, x, sizeof x, 0, &err), HW_OK);
    cr_expect_eq(hw_comm_all_gather(c, tag, x, sizeof x, gathered, &err), HW_OK);
    cr_expect(x[0] == 1 && x[1] == 2 && x[2] == 3);
    cr_expect_arr_eq(gathered, x, sizeof x);
    cr_expect_eq(hw_comm_agree(c, HW_ERR_MODEL, &err), HW_ERR_MODEL);
    cr_expect_str_eq(err.message, "said before");
    for (int site = 0; site < HW_N_SITES; site++)
        for (int phase = 0; phase < HW_N_PHASES; phase++) {
            hw_traffic t = hw_meter_site(hw_comm_meter(c), (hw_site)site, (hw_phase)phase);
            cr_expect(!t.calls && !t.payload_bytes && !t.sent_bytes);
        }
    hw_comm_destroy(c);
    hw_comm_destroy(NULL);
}

static void forget_launchers(void)
{
    static const char *const names[] = {
        "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_SIZE", "PMI_RANK", "PMIX_RANK",
        "SLURM_STEP_NUM_TASKS"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unsetenv(names[i]);
}

Test(comm, the_launcher_is_read_from_the_environment)
{
    forget_launchers();
    cr_expect_eq(hw_comm_launched_ranks(), 1);
    cr_expect_eq(hw_comm_launched_rank(), 0);
    setenv("OMPI_COMM_WORLD_SIZE", "6", 1); /* Open MPI */
    setenv("OMPI_COMM_WORLD_RANK", "4", 1);
    cr_expect_eq(hw_comm_launched_ranks(), 6);
    cr_expect_eq(hw_comm_launched_rank(), 4);
    forget_launchers();
    setenv("PMI_SIZE", "3", 1); /* MPICH's launchers, and srun --mpi=pmi2 */
    setenv("PMI_RANK", "2", 1);
    cr_expect_eq(hw_comm_launched_ranks(), 3);
    cr_expect_eq(hw_comm_launched_rank(), 2);
    forget_launchers();
    setenv("SLURM_STEP_NUM_TASKS", "5", 1); /* a batch script without srun is one rank */
    cr_expect_eq(hw_comm_launched_ranks(), 1);
    setenv("PMIX_RANK", "1", 1); /* srun --mpi=pmix */
    cr_expect_eq(hw_comm_launched_ranks(), 5);
    cr_expect_eq(hw_comm_launched_rank(), 1);
}
