/* Many requests at once, on one rank and on several; scheduler_worker.c says what is checked. */
#include "tests/runtime/damaged_model.h"
#include "tests/support/mpi_test.h"

static const char *const worker = HW_BINARY_DIR "/tests/runtime/scheduler_worker";
static const char *const model = HW_SOURCE_DIR "/tests/vectors/llama-gqa";
static const char *const untied = HW_SOURCE_DIR "/tests/vectors/llama-mha";

#ifdef HW_SANITIZE
enum { MOST_RANKS = 2 };
#else
enum { MOST_RANKS = 4 };
#endif

/* What rank 0 printed; to be freed. */
static char *run_on(int n_ranks, const char *const argv[])
{
    hw_run_result r = n_ranks == 1 ? hw_run(argv, NULL, 280) : hw_mpirun(n_ranks, argv, NULL, 280);
    cr_assert_eq(r.exit_code, 0, "%s %s on %d ranks: exit code %d\n%s", argv[1], argv[3] ? argv[3] : "",
                 n_ranks, r.exit_code, r.err);
    char *out = strdup(r.out);
    hw_run_free(&r);
    return out;
}

static void expect_same_alone(const char *policy)
{
    const char *const argv[] = {worker, "crowd", model, policy, NULL};
    for (int n = 1; n <= MOST_RANKS; n *= 2) free(run_on(n, argv));
}

Test(scheduler, gives_each_request_what_it_is_given_alone_in_pages) { expect_same_alone("paged"); }
Test(scheduler, gives_each_request_what_it_is_given_alone_without_a_cache) { expect_same_alone("off"); }
Test(scheduler, gives_each_request_what_it_is_given_alone_in_one_piece) { expect_same_alone("contiguous"); }
Test(scheduler, gives_each_request_what_it_is_given_alone_in_a_growing_piece)
{
    expect_same_alone("dynamic");
}

Test(scheduler, goes_on_from_a_prefix_that_is_kept)
{
    static const char *const policies[] = {"paged", "off", "contiguous", "dynamic"};
    for (int p = 0; p < 4; p++) {
        const char *const argv[] = {worker, "prefix", model, policies[p], NULL};
        for (int n = 1; n <= 2; n++) free(run_on(n, argv));
    }
}

#ifdef HW_TEST_PLUGIN
Test(scheduler, gives_the_same_from_steps_that_follow_one_another_on_the_device)
{
    const char *const argv[] = {worker, "fed", model, HW_TEST_PLUGIN, NULL};
    free(run_on(1, argv));
}
#endif

Test(scheduler, a_request_that_the_cache_cannot_hold_fails_alone)
{
    const char *const argv[] = {worker, "small", model, NULL};
    for (int n = 1; n <= 2; n++) free(run_on(n, argv));
}

/* The head is another matrix: rows of sequences that have read the token are NaN, and no others. */
Test(scheduler, a_row_that_is_not_a_number_ends_its_own_request, .init = make_folder, .fini = remove_folder)
{
    const char *const argv[] = {worker, "nan", test_folder, "200", NULL};
    copy_damaged(untied, 200, 288);
    for (int n = 1; n <= 2; n++) free(run_on(n, argv));
}
