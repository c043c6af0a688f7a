#include "tests/support/process.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RUN(stdin_text, timeout_s, ...)                                                                      \
    hw_run((const char *const[]){__VA_ARGS__, NULL}, stdin_text, timeout_s)

Test(process, arguments_arrive_as_they_are)
{
    hw_run_result r = RUN(NULL, 10, "/bin/echo", "two words", "$HOME", "a'b\"c", "");
    cr_assert_eq(r.exit_code, 0);
    cr_assert_str_eq(r.out, "two words $HOME a'b\"c \n");
    cr_assert_str_eq(r.err, "");
    hw_run_free(&r);
}

Test(process, exit_code_and_both_outputs_come_back)
{
    hw_run_result r = RUN(NULL, 10, "sh", "-c", "echo one; echo two >&2; exit 42");
    cr_assert_eq(r.exit_code, 42);
    cr_assert_not(r.timed_out);
    cr_assert_str_eq(r.out, "one\n");
    cr_assert_str_eq(r.err, "two\n");
    hw_run_free(&r);
}

Test(process, death_by_signal_is_128_and_its_number)
{
    hw_run_result r = RUN(NULL, 10, "sh", "-c", "kill -SEGV $$");
    cr_assert_eq(r.exit_code, 128 + SIGSEGV);
    hw_run_free(&r);
}

Test(process, missing_program_is_127_with_its_name)
{
    hw_run_result r = RUN(NULL, 10, "hw-no-such-program");
    cr_assert_eq(r.exit_code, 127);
    cr_assert_neq(strstr(r.err, "hw-no-such-program"), NULL);
    hw_run_free(&r);
}

Test(process, missing_input_is_empty_input)
{
    hw_run_result r = RUN(NULL, 10, "cat");
    cr_assert_eq(r.exit_code, 0);
    cr_assert_eq(r.n_out, 0);
    hw_run_free(&r);
}

/* Far more than the 64 KiB that a pipe holds, in and out at once: whoever writes first and reads later would
 * hang here. */
Test(process, large_input_and_output_pass_unchanged)
{
    enum { N = 8 << 20 };
    char *text = malloc(N + 1);
    for (size_t i = 0; i < N; i++) text[i] = (char)('a' + (i * 31 + i / 4099) % 26);
    text[N] = 0;
    hw_run_result r = RUN(text, 60, "sh", "-c", "tee /dev/stderr");
    cr_assert_eq(r.exit_code, 0);
    cr_assert_eq(r.n_out, N);
    cr_assert_eq(r.n_err, N);
    cr_assert(memcmp(r.out, text, N) == 0);
    cr_assert(memcmp(r.err, text, N) == 0);
    hw_run_free(&r);
    free(text);
}

Test(process, program_that_does_not_read_its_input_is_no_error)
{
    char *text = malloc((1 << 20) + 1);
    memset(text, 'x', 1 << 20);
    text[1 << 20] = 0;
    hw_run_result r = RUN(text, 10, "true");
    cr_assert_eq(r.exit_code, 0);
    hw_run_free(&r);
    free(text);
}

Test(process, timeout_ends_the_program_and_its_children)
{
    hw_run_result r = RUN(NULL, 1, "sh", "-c", "sleep 1000 & echo $!; wait");
    cr_assert(r.timed_out);
    cr_assert_eq(r.exit_code, 128 + SIGTERM);
    pid_t grandchild = (pid_t)atoi(r.out);
    cr_assert_gt(grandchild, 0);
    cr_assert(hw_process_ends_soon(grandchild));
    hw_run_free(&r);
}

Test(process, timeout_ends_a_program_that_ignores_sigterm)
{
    hw_run_result r = RUN(NULL, 1, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1000; done");
    cr_assert(r.timed_out);
    cr_assert_eq(r.exit_code, 128 + SIGKILL);
    cr_assert_str_eq(r.out, "ready\n");
    hw_run_free(&r);
}

Test(process, program_that_leaves_a_child_behind_does_not_hang_the_test)
{
    hw_run_result r = RUN(NULL, 60, "sh", "-c", "sleep 1000 & echo $!");
    cr_assert_eq(r.exit_code, 0);
    cr_assert_not(r.timed_out);
    cr_assert(hw_process_ends_soon((pid_t)atoi(r.out)));
    hw_run_free(&r);
}
