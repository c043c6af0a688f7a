/* headway generate --prompts: many prompts from a file. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/runtime/weights/checkpoint_files.h"
#include "tests/support/mpi_test.h"

#define HEADWAY HW_BINARY_DIR "/launch/headway"
#define TALES   HW_SOURCE_DIR "/models/tales"

enum { TIMEOUT_S = 120, N_LINES = 20 };

TestSuite(prompts, .init = make_folder, .fini = remove_folder);

static const char *const words[] = {"Once upon a time", "The dog", "A cat sat", "It was raining", "Tom said"};

/* What line i asks for. Lines 7 and 13 are wrong. */
static int write_line(char *line, size_t size, int i)
{
    if (i == 7) return snprintf(line, size, "{\"prompt\": \"x\", \"temprature\": 1}\n");
    if (i == 13) return snprintf(line, size, "no JSON\n");
    return snprintf(line, size,
                    "{\"prompt\": \"%s\", \"max_tokens\": %d, \"temperature\": %s, \"seed\": %d}\n",
                    words[i % 5], 3 + 7 * i % 29, i % 2 ? "0.8" : "0", i);
}

static void write_prompts(void)
{
    char text[N_LINES * 160];
    int n = 0;
    for (int i = 0; i < N_LINES; i++) n += write_line(text + n, sizeof text - (size_t)n, i);
    write_text("in.jsonl", text);
}

static hw_run_result run_prompts(int n_ranks, const char *output, const char *option)
{
    const char *argv[] = {HEADWAY,    "generate", "-m",     TALES, "--prompts", in_folder("in.jsonl"),
                          "--output", output,     "--seed", "99",  option,      NULL};
    if (!output) argv[6] = option, argv[7] = NULL;
    return n_ranks == 1 ? hw_run(argv, NULL, TIMEOUT_S) : hw_mpirun(n_ranks, argv, NULL, TIMEOUT_S);
}

/* What the prompt of line i gives by itself. */
static char *alone(int i)
{
    char seed[16], n[16];
    snprintf(seed, sizeof seed, "%d", i);
    snprintf(n, sizeof n, "%d", 3 + 7 * i % 29);
    const char *argv[] = {
        HEADWAY,         "generate",          "-m", TALES, "-p", words[i % 5], "-n", n, "--seed", seed,
        "--temperature", i % 2 ? "0.8" : "0", NULL};
    hw_run_result r = hw_run(argv, NULL, TIMEOUT_S);
    cr_assert_eq(r.exit_code, 0, "%s", r.err);
    char *text = strdup(r.out);
    text[strlen(text) - 1] = '\0'; /* the newline at the end */
    hw_run_free(&r);
    return text;
}

static void check_line(const char *line, size_t n, int i)
{
    json_t *result = json_loadb(line, n, 0, NULL);
    cr_assert_not_null(result, "%.*s", (int)n, line);
    cr_expect_eq(json_integer_value(json_object_get(result, "index")), i);
    const char *error = json_string_value(json_object_get(result, "error"));
    if (i == 7) cr_expect(error && strstr(error, ":8: ") && strstr(error, "temperature"), "%s", error);
    else if (i == 13) cr_expect(error && strstr(error, ":14:"), "%s", error);
    else {
        char *wanted = alone(i);
        cr_expect_str_eq(json_string_value(json_object_get(result, "text")), wanted, "line %d", i);
        free(wanted);
    }
    json_decref(result);
}

static void check_lines(const char *text)
{
    for (int i = 0; i < N_LINES; i++) {
        const char *end = strchr(text, '\n');
        cr_assert_not_null(end, "line %d", i);
        check_line(text, (size_t)(end - text), i);
        text = end + 1;
    }
    cr_expect_str_eq(text, "");
}

Test(prompts, each_gets_the_text_that_it_gets_alone_and_wrong_lines_are_named)
{
    write_prompts();
    hw_run_result one = run_prompts(1, NULL, NULL), two = run_prompts(2, NULL, NULL);
    cr_expect_eq(one.exit_code, 1);
    cr_expect_eq(two.exit_code, 1);
    check_lines(one.out);
    cr_expect_str_eq(one.out, two.out, "on 2 ranks");
    cr_expect_not_null(strstr(one.err, "2 of 20 prompts failed"), "%s", one.err);
    hw_run_free(&one);
    hw_run_free(&two);
}

Test(prompts, strict_runs_nothing_when_a_line_is_wrong)
{
    write_prompts();
    hw_run_result r = run_prompts(2, NULL, "--strict");
    cr_expect_eq(r.exit_code, 2);
    cr_expect_str_empty(r.out);
    cr_expect_not_null(strstr(r.err, "2 of 20 lines are invalid"), "%s", r.err);
    hw_run_free(&r);
}

static char *read_text(const char *name)
{
    static char text[1 << 16];
    FILE *f = fopen(in_folder(name), "r");
    cr_assert_not_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

Test(prompts, a_run_that_was_cut_off_goes_on_where_its_output_ends)
{
    write_prompts();
    hw_run_result r = run_prompts(1, in_folder("whole"), NULL);
    cr_expect_str_empty(r.out);
    hw_run_free(&r);
    char *whole = strdup(read_text("whole"));
    check_lines(whole);
    /* Up to the middle of the fifth line; lines that are there are believed. */
    char *part = strdup(whole), *at = part;
    for (int i = 0; i < 4; i++) at = strchr(at, '\n') + 1;
    at[20] = '\0';
    memcpy(strstr(part, "\"text\":\"") + 8, "?", 1);
    write_text("part", part);
    r = run_prompts(2, in_folder("part"), "--skip-done");
    cr_expect_eq(r.exit_code, 1);
    hw_run_free(&r);
    memcpy(strstr(whole, "\"text\":\"") + 8, "?", 1);
    cr_expect_str_eq(read_text("part"), whole);
    free(whole);
    free(part);
}

Test(prompts, lines_of_text_are_prompts)
{
    write_text("in.txt", "Once upon a time\r\n\nThe dog");
    const char *argv[] = {HEADWAY, "generate", "-m", TALES, "--prompts", in_folder("in.txt"),
                          "-n",    "3",        NULL};
    hw_run_result r = hw_run(argv, NULL, TIMEOUT_S);
    cr_expect_eq(r.exit_code, 1);
    cr_expect_not_null(strstr(r.err, "in.txt:2: the prompt is empty"), "%s", r.err);
    cr_expect_not_null(strstr(r.out, "{\"index\":2,\"text\":"), "%s", r.out);
    hw_run_free(&r);
}

static void expect_refused(const char *const *options, const char *words_of_it)
{
    const char *argv[16] = {HEADWAY, "generate", "-m", TALES};
    for (int i = 0; options[i]; i++) argv[4 + i] = options[i];
    hw_run_result r = hw_run(argv, NULL, TIMEOUT_S);
    cr_expect_eq(r.exit_code, 2, "%s", words_of_it);
    cr_expect_not_null(strstr(r.err, words_of_it), "%s", r.err);
    hw_run_free(&r);
}
#define EXPECT_REFUSED(text, ...) expect_refused((const char *const[]){__VA_ARGS__, NULL}, text)

Test(prompts, names_what_does_not_fit_together)
{
    write_prompts();
    const char *in = in_folder("in.jsonl");
    EXPECT_REFUSED("replaces the prompt", "--prompts", in, "-p", "x");
    EXPECT_REFUSED("omit --json", "--prompts", in, "--json");
    EXPECT_REFUSED("--skip-done", "--prompts", in, "--skip-done");
    EXPECT_REFUSED("are for --prompts", "-p", "x", "--strict");
    EXPECT_REFUSED("No such file", "--prompts", "/nowhere/prompts.txt");
}
