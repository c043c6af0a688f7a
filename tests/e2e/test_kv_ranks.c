/* The cache among ranks with unequal heads and unequal memory; kv_worker.c says what is compared. */
#include <criterion/criterion.h>

#include "tests/support/mpi_test.h"

enum { TIMEOUT_S = 300 };

static void run_on(int n_ranks)
{
    static const char *const argv[] = {HW_BINARY_DIR "/tests/e2e/kv_worker",
                                       HW_SOURCE_DIR "/tests/vectors/llama-gqa-uneven", NULL};
    hw_run_result r =
        n_ranks == 1 ? hw_run(argv, NULL, TIMEOUT_S) : hw_mpirun(n_ranks, argv, NULL, TIMEOUT_S);
    cr_expect_eq(r.exit_code, 0, "%d ranks: exit code %d\n%s", n_ranks, r.exit_code, r.err);
    hw_run_free(&r);
}

Test(kv_ranks, agree_on_capacity_and_on_running_out_1) { run_on(1); }
Test(kv_ranks, agree_on_capacity_and_on_running_out_2) { run_on(2); }
Test(kv_ranks, agree_on_capacity_and_on_running_out_3) { run_on(3); }
Test(kv_ranks, agree_on_capacity_and_on_running_out_4) { run_on(4); }
