/* Predictions against the meter on real ranks; plan_worker.c says what is compared. */
#include <criterion/criterion.h>

#include "tests/support/mpi_test.h"

enum { TIMEOUT_S = 300 };

static void run_on(int n_ranks, const char *backend)
{
    const char *const argv[] = {HW_BINARY_DIR "/tests/e2e/plan_worker", backend,
                                HW_SOURCE_DIR "/tests/vectors/llama-gqa-uneven",
                                HW_SOURCE_DIR "/tests/vectors/gpt2-odd", NULL};
    hw_run_result r =
        n_ranks == 1 ? hw_run(argv, NULL, TIMEOUT_S) : hw_mpirun(n_ranks, argv, NULL, TIMEOUT_S);
    cr_expect_eq(r.exit_code, 0, "%d ranks, %s: exit code %d\n%s", n_ranks, backend, r.exit_code, r.err);
    hw_run_free(&r);
}

Test(plan, predicts_what_the_meter_counts_on_1_rank) { run_on(1, "auto"); }
Test(plan, predicts_what_the_meter_counts_on_2_ranks)
{
    run_on(2, "shm");
    run_on(2, "mpi");
}
Test(plan, predicts_what_the_meter_counts_on_3_ranks)
{
    run_on(3, "shm");
    run_on(3, "mpi");
}
Test(plan, predicts_what_the_meter_counts_on_4_ranks)
{
    run_on(4, "shm");
    run_on(4, "mpi");
}
Test(plan, predicts_what_the_meter_counts_on_6_ranks)
{
    run_on(6, "shm");
    run_on(6, "mpi");
}
Test(plan, predicts_what_the_meter_counts_on_8_ranks)
{
    run_on(8, "shm");
    run_on(8, "mpi");
}
