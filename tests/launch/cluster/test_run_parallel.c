/* Commands side by side, none of which can keep the others or the caller waiting for ever. */
#include <criterion/criterion.h>
#include <string.h>

#include "launch/cluster/run_parallel.h"

#define SH(text) ((char *const[]){"sh", "-c", text, NULL})
static const double PATIENCE_S = 5; /* longer than starting a shell on a busy machine takes */

Test(run_parallel, what_each_says_and_how_it_ends_is_its_own)
{
    hw_parallel_run v[] = {{.words = SH("echo one; echo bad >&2")},
                           {.words = SH("exit 3")},
                           {.words = SH("kill -TERM $$")},
                           {.words = (char *const[]){"/nowhere/program", NULL}},
                           {.words = SH("cat")},
                           {.words = SH("head -c 3000000 /dev/zero | tr '\\0' x")}};
    hw_error err = {.rank = -1};
    cr_assert_eq(hw_run_parallel(v, 6, PATIENCE_S, &err), HW_OK, "%s", err.message);
    static const int codes[] = {0, 3, 143, 127, 0, 0};
    for (int i = 0; i < 6; i++) {
        cr_expect_eq(v[i].exit_code, codes[i], "%d: %d", i, v[i].exit_code);
        cr_expect_not(v[i].timed_out);
    }
    cr_expect_str_eq(v[0].out, "one\n");
    cr_expect_str_eq(v[0].err, "bad\n");
    cr_expect(strstr(v[3].err, "/nowhere/program: No such file"), "%s", v[3].err);
    cr_expect(v[5].n_out > 900000 && v[5].n_out <= 1 << 20, "%zu", v[5].n_out);
    hw_parallel_runs_free(v, 6);
}

Test(run_parallel, silence_ends_one_and_not_the_others)
{
    hw_parallel_run v[] = {{.words = SH("echo begun; sleep 1000")},
                           {.words = SH("trap '' TERM HUP INT; sleep 1000")},
                           {.words = SH("echo well")}};
    hw_error err = {.rank = -1};
    cr_assert_eq(hw_run_parallel(v, 3, PATIENCE_S, &err), HW_OK, "%s", err.message);
    cr_expect(v[0].timed_out && v[1].timed_out && !v[2].timed_out);
    cr_expect_str_eq(v[0].out, "begun\n");
    cr_expect_eq(v[0].exit_code, 137);
    cr_expect_str_eq(v[2].out, "well\n");
    hw_parallel_runs_free(v, 3);
}

/* What a program leaves in the background holds its output open. */
Test(run_parallel, what_is_left_behind_is_not_waited_for)
{
    hw_parallel_run v = {.words = SH("setsid sleep 20 & echo done")};
    hw_error err = {.rank = -1};
    cr_assert_eq(hw_run_parallel(&v, 1, 60, &err), HW_OK, "%s", err.message);
    cr_expect_eq(v.exit_code, 0);
    cr_expect_str_eq(v.out, "done\n");
    cr_expect_lt(v.seconds, 20);
    hw_parallel_runs_free(&v, 1);
}

Test(run_parallel, more_than_are_run_at_once)
{
    enum { N = 150 };
    static hw_parallel_run v[N];
    hw_error err = {.rank = -1};
    char *const *const words = SH("echo $PPID");
    for (int i = 0; i < N; i++) v[i].words = words;
    cr_assert_eq(hw_run_parallel(v, N, PATIENCE_S, &err), HW_OK, "%s", err.message);
    for (int i = 0; i < N; i++) cr_expect_str_eq(v[i].out, v[0].out);
    hw_parallel_runs_free(v, N);
}
