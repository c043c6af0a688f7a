/* What a user sees of a processor that computes wrongly, and of ranks on unlike processors. The broken program is the
 * real one, linked with tests/support/faulty_paths.h. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cpu/paths.h"
#include "tests/e2e/headway.h"
#include "tests/support/mpi_test.h"

#define BROKEN HW_BINARY_DIR "/tests/e2e/headway_broken"

/* The best paths of this processor. The last is "generic" at the latest. */
static const char *best_path(int n_better)
{
    const hw_cpu_path *p = hw_cpu_paths();
    for (;; p++)
        if (p->announced() && (!p->allowed || p->allowed()) && !n_better--) return p->name;
}

static void break_best(const char *fault)
{
    char text[64];
    snprintf(text, sizeof text, "%s:%s", best_path(0), fault);
    setenv("HW_TEST_FAULT", text, 1);
}

static json_t *parse(const hw_run_result *r)
{
    json_t *j = json_loads(r->out, 0, NULL);
    cr_assert_not_null(j, "%s%s", r->out, r->err);
    return j;
}

static const char *text_of(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "(none)";
}

/* The self-test goes on with the other paths, and counts this one as wrong. */
Test(prove, a_path_that_fails_is_wrong_in_the_selftest, .timeout = 300)
{
    const char *const argv[] = {BROKEN, "selftest", NULL};
    break_best("bits");
    hw_run_result r = run_headway(1, NULL, argv);
    cr_expect_eq(r.exit_code, 1, "%d\n%s", r.exit_code, r.err);
    cr_expect(strstr(r.err, best_path(0)) && strstr(r.err, "wrong bits"), "%s", r.err);
    cr_expect(strstr(r.out, "cpu generic"), "%s", r.out);
    hw_run_free(&r);
}

/* With the bits that the path which was meant gives, from the next one. */
static void expect_one_warning(int n_ranks, const char *fault, const char *reason)
{
    const char *const argv[] = {BROKEN, "generate", "-m",       TALES,    "-p",     "Once upon",
                                "-n",   "5",        "--matmul", "bf16x3", "--json", NULL};
    unsetenv("HW_TEST_FAULT");
    hw_run_result good = run_headway(n_ranks, NULL, argv);
    cr_assert_eq(good.exit_code, 0, "%s", good.err);
    cr_expect_str_eq(good.err, "");
    break_best(fault);
    hw_run_result r = run_headway(n_ranks, NULL, argv);
    assert_one_message(&r, n_ranks, 0,
                       WORDS(best_path(0), best_path(1), reason, n_ranks > 1 ? "rank 0 on " : "report",
                             n_ranks > 1 ? " and 1 more: " : "results are correct"));
    json_t *meant = parse(&good), *got = parse(&r);
    cr_expect_str_eq(text_of(meant, "path"), best_path(0));
    cr_expect_str_eq(text_of(got, "path"), best_path(1));
    cr_expect(strstr(text_of(got, "device"), reason), "%s", text_of(got, "device"));
    cr_expect_str_eq(text_of(got, "text"), text_of(meant, "text"));
    json_decref(meant);
    json_decref(got);
    hw_run_free(&good);
    hw_run_free(&r);
}

Test(prove, a_path_with_wrong_bits_gives_way_with_one_line_for_all_ranks)
{
    if (!strcmp(best_path(0), "generic")) return; /* nothing better to break */
    expect_one_warning(1, "bits", "wrong bits");
    expect_one_warning(2, "bits", "wrong bits");
    expect_one_warning(2, "sigill", "SIGILL");
}

/* On all ranks, on some, and on one. */
Test(prove, check_with_its_many_engines_warns_once)
{
    if (!strcmp(best_path(0), "generic")) return;
    break_best("bits");
    const char *const check[] = {BROKEN, "check", "-m", TALES, "-n", "4", NULL};
    hw_run_result r = run_headway(2, NULL, check);
    assert_one_message(&r, 2, 0, WORDS(best_path(0), "wrong bits"));
    hw_run_free(&r);
}

Test(prove, a_path_that_was_asked_for_and_fails_ends_the_run)
{
    const char *const argv[] = {BROKEN, "generate", "-m", TALES, "-p", "Once", "-n", "1", NULL};
    break_best("sigsegv");
    setenv("HW_CPU", best_path(0), 1);
    for (int n_ranks = 1; n_ranks <= 2; n_ranks++) {
        hw_run_result r = run_headway(n_ranks, NULL, argv);
        assert_one_message(&r, n_ranks, 6, WORDS("HW_CPU is '", best_path(0), "SIGSEGV"));
        cr_expect_str_eq(r.out, "");
        hw_run_free(&r);
    }
}

Test(prove, json_of_every_command_that_computes_names_the_path)
{
    setenv("HW_CPU", "generic", 1);
    static const char *const commands[][12] = {
        {HEADWAY, "generate", "-m", TALES, "-p", "Once", "-n", "2", "--json", NULL},
        {HEADWAY, "traffic", "-m", TALES, "-p", "Once", "-n", "2", "--json", NULL},
        {HEADWAY, "perplexity", "-m", TALES, "-p", "Once upon a time", "--json", NULL},
        {HEADWAY, "bench", "-m", TALES, "-p", "8", "-n", "2", "-r", "1", "--json", NULL},
    };
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        hw_run_result r = run_headway(1, NULL, commands[i]);
        json_t *j = parse(&r);
        cr_expect_str_eq(text_of(j, "path"), "generic", "%s", commands[i][1]);
        cr_expect_str_eq(text_of(j, "matmul"), "float32", "%s", commands[i][1]);
        json_decref(j);
        hw_run_free(&r);
    }
}

/* ---- unlike ranks */

/* The bits of all logits, with rank 0 and the others on these paths; NULL: the best. What was said goes to `said`. */
static char *logits_of(const char *first, const char *others, size_t *n, char *said, size_t said_size)
{
    char file[] = "/tmp/headway-logits-XXXXXX", script[512];
    const int f = mkstemp(file);
    cr_assert_geq(f, 0);
    close(f);
    snprintf(script, sizeof script,
             "case $OMPI_COMM_WORLD_RANK in 0) export HW_CPU=%s;; *) export HW_CPU=%s;; esac; "
             "exec " HEADWAY " logits -v -m " TALES " -p 'Once upon a time there was a little' -o %s",
             first, others, file);
    hw_run_result r = hw_mpirun(2, (const char *const[]){"sh", "-c", script, NULL}, NULL, HEADWAY_TIMEOUT_S);
    cr_assert_eq(r.exit_code, 0, "%s", r.err);
    snprintf(said, said_size, "%s", r.err);
    hw_run_free(&r);
    FILE *in = fopen(file, "r");
    char *bytes = malloc(1 << 22);
    cr_assert(in && bytes);
    *n = fread(bytes, 1, 1 << 22, in);
    cr_assert(*n > 1000 && *n < 1 << 22);
    fclose(in);
    unlink(file);
    return bytes;
}

/* One arithmetic on all: rank 0's, whichever it is, with the bits of ranks that are all like it. */
Test(prove, ranks_on_unlike_processors_compute_in_one_arithmetic)
{
    const char *const pairs[][2] = {{best_path(0), "generic"}, {"generic", best_path(0)}};
    for (int i = 0; i < 2; i++) {
        char said[2048], alike_said[2048], line[128];
        size_t n, n_alike;
        char *unlike = logits_of(pairs[i][0], pairs[i][1], &n, said, sizeof said);
        char *alike = logits_of(pairs[i][0], pairs[i][0], &n_alike, alike_said, sizeof alike_said);
        cr_expect_eq(n, n_alike);
        cr_expect(!memcmp(unlike, alike, n), "%s and %s", pairs[i][0], pairs[i][1]);
        for (int k = 0; k < 2 && strcmp(pairs[0][0], pairs[0][1]); k++) {
            snprintf(line, sizeof line, ": path %s\n", pairs[i][k]);
            cr_expect(strstr(said, line), "no '%s' in\n%s", line, said);
        }
        snprintf(line, sizeof line,
                 "products with bfloat16 weights: %s (auto: the choice of rank 0, for all ranks)\n",
                 strcmp(pairs[i][0], "amx") ? "float32" : "bf16x3");
        cr_expect(strstr(said, line), "no '%s' in\n%s", line, said);
        cr_expect(strstr(alike_said, line), "no '%s' in\n%s", line, alike_said);
        free(unlike);
        free(alike);
    }
}
