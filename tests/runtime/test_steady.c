/* Memory while text is generated; steady_worker.c says what is counted. */
#include <criterion/criterion.h>

#include "tests/support/mpi_test.h"

static void check_on(int n_ranks, const char *what)
{
    const char *const argv[] = {HW_BINARY_DIR "/tests/runtime/steady_worker", what,
                                HW_SOURCE_DIR "/models/shapes/gpt2-124m", NULL};
    hw_run_result r = n_ranks == 1 ? hw_run(argv, NULL, 200) : hw_mpirun(n_ranks, argv, NULL, 200);
    cr_expect_eq(r.exit_code, 0, "%s on %d ranks: exit code %d\n%s", what, n_ranks, r.exit_code, r.err);
    hw_run_free(&r);
}

Test(steady, a_decode_step_allocates_nothing)
{
    check_on(1, "allocations");
    check_on(2, "allocations");
}

/* 1.15 times weights and cache, for what pads them, and 64 MB for the program, MPI and the buffers of a
 * step. */
Test(steady, the_peak_is_near_weights_and_cache)
{
    check_on(1, "peak");
    check_on(2, "peak");
}
