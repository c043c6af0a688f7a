#include "tests/e2e/headway.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/mpi_test.h"

/* The command line, for messages of a test that fails. */
static const char *command(const char *const argv[])
{
    static char text[1024];
    size_t n = 0;
    *text = '\0';
    for (int i = 1; argv[i] && n < sizeof text; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, " %.100s", argv[i]);
    return text;
}

hw_run_result run_headway(int n_ranks, const char *stdin_text, const char *const argv[])
{
    hw_run_result r = n_ranks == 1 ? hw_run(argv, stdin_text, HEADWAY_TIMEOUT_S)
                                   : hw_mpirun(n_ranks, argv, stdin_text, HEADWAY_TIMEOUT_S);
    cr_assert_not(r.timed_out, "headway%s: did not end on %d ranks\n%s", command(argv), n_ranks, r.err);
    return r;
}

/* A build of changed sources says so when it measures. */
static const char *without_build_warning(const char *err)
{
    static const char warning[] = "headway: built from changed sources ";
    const char *end = strncmp(err, warning, sizeof warning - 1) ? NULL : strchr(err, '\n');
    return end ? end + 1 : err;
}

char *output_of(int n_ranks, const char *const argv[])
{
    hw_run_result r = run_headway(n_ranks, NULL, argv);
    cr_assert_eq(r.exit_code, 0, "headway%s: exit code %d on %d ranks\n%s", command(argv), r.exit_code,
                 n_ranks, r.err);
    cr_assert_str_eq(without_build_warning(r.err), "", "headway%s on %d ranks", command(argv), n_ranks);
    char *out = r.out;
    r.out = NULL;
    hw_run_free(&r);
    return out;
}

json_t *parse_output(char *text)
{
    hw_error err;
    json_t *json;
    cr_assert_eq(hw_json_parse(&json, text, strlen(text), "the output", HW_ERR_FAILED, &err), HW_OK, "%s\n%s",
                 err.message, text);
    free(text);
    return json;
}

/* Lines that begin with `start`; the first of them is copied to `line`. */
static int find_lines(const char *text, const char *start, char *line, size_t size)
{
    int n = 0;
    *line = '\0';
    for (const char *p = text; p && *p; p = strchr(p, '\n'), p += p != NULL) {
        if (strncmp(p, start, strlen(start))) continue;
        if (!n++) snprintf(line, size, "%.*s", (int)strcspn(p, "\n"), p);
    }
    return n;
}

static void assert_words(const char *line, const char *const words[])
{
    for (int i = 0; words[i]; i++)
        cr_expect(strstr(line, words[i]), "the message is\n%s\nand does not say '%s'", line, words[i]);
}

void assert_one_message(const hw_run_result *r, int n_ranks, int exit_code, const char *const words[])
{
    char line[2048];
    const char *const err = without_build_warning(r->err);
    cr_expect_eq(r->exit_code, exit_code, "exit code %d on %d ranks, wanted %d\n%s", r->exit_code, n_ranks,
                 exit_code, r->err);
    cr_expect_eq(find_lines(err, "headway: ", line, sizeof line), 1, "not one message on %d ranks:\n%s",
                 n_ranks, r->err);
    if (n_ranks == 1) cr_expect_eq(strlen(line) + 1, strlen(err), "more than the message:\n%s", r->err);
    cr_expect_null(strstr(r->err, "Sanitizer"), "%s", r->err);
    assert_words(line, words);
}

void assert_refused(int n_ranks, int exit_code, const char *const words[], const char *const argv[])
{
    hw_run_result r = run_headway(n_ranks, NULL, argv);
    assert_one_message(&r, n_ranks, exit_code, words);
    cr_expect_str_eq(r.out, "", "headway%s", command(argv));
    hw_run_free(&r);
}

void assert_misused(int n_ranks, const char *const words[], const char *const argv[])
{
    char line[2048];
    hw_run_result r = run_headway(n_ranks, NULL, argv);
    cr_expect_eq(r.exit_code, 2, "headway%s: exit code %d on %d ranks\n%s", command(argv), r.exit_code,
                 n_ranks, r.err);
    cr_expect_eq(find_lines(r.err, "headway ", line, sizeof line), 1, "not one message on %d ranks:\n%s",
                 n_ranks, r.err);
    cr_expect(strstr(r.err, "--help"), "no hint at --help:\n%s", r.err);
    cr_expect_str_eq(r.out, "", "headway%s", command(argv));
    assert_words(line, words);
    hw_run_free(&r);
}
