/* weights: scatter, when the file ends while it is read. tests/net/test_scatter.c has the rest. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/mpi_test.h"

#define WORKER HW_BINARY_DIR "/tests/runtime/scatter_worker"
#define TALES  HW_SOURCE_DIR "/models/tales/model.safetensors"

/* The first piece, the middle, and the last tensors: by then some ranks have all that is theirs. */
static void ends_at(int n_ranks, const char *percent, const char *word)
{
    char folder[] = "/tmp/headway-cut-XXXXXX", file[sizeof folder + 32], copy[256];
    cr_assert_not_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/model.safetensors", folder);
    snprintf(copy, sizeof copy, "cp %s %s", TALES, file);
    hw_run_result copied = hw_run((const char *const[]){"sh", "-c", copy, NULL}, NULL, 20);
    cr_assert_eq(copied.exit_code, 0, "%s", copied.err);
    hw_run_result r = hw_mpirun(n_ranks, (const char *const[]){WORKER, file, percent, NULL}, NULL, 60);
    cr_expect_not(r.timed_out, "%d ranks wait for ever", n_ranks);
    cr_expect_eq(r.exit_code, 0, "%d ranks, %s %%: %s", n_ranks, percent, r.err);
    cr_expect(strstr(r.out, word), "%d ranks, %s %%: '%s' is not in: %s", n_ranks, percent, word, r.out);
    hw_run_free(&copied);
    hw_run_free(&r);
    unlink(file);
    rmdir(folder);
}

Test(scattered_load, a_file_that_ends_is_told_on_all_ranks_and_leaves_them_in_step)
{
    static const char *const percents[] = {"1", "50", "99"};
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++)
        for (int n_ranks = 2; n_ranks <= 4; n_ranks += 2)
            ends_at(n_ranks, percents[i], "the file shrank while it was read");
}

Test(scattered_load, a_whole_file_is_loaded)
{
    ends_at(3, "100", "loaded");
    ends_at(8, "100", "loaded");
}
