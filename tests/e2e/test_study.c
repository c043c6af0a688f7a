/* headway study, small: the figures in its CSV files against closed forms, and what it does where it cannot
 * write or draw. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/mpi_test.h"

#define HEADWAY HW_BINARY_DIR "/launch/headway"
#define TALES   HW_SOURCE_DIR "/models/tales"
#define GPT2    HW_SOURCE_DIR "/tests/vectors/gpt2-tied"

enum { TIMEOUT_S = 300, MAX_FIELDS = 16, MAX_LINES = 512 };

/* ---- a CSV file without quoted fields */

typedef struct csv {
    char *text;
    int n_lines, n_columns;
    char *field[MAX_LINES][MAX_FIELDS];
} csv;

static char *read_file(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "r");
    cr_assert_not_null(f, "%s is not there", path);
    char *text = calloc(1, 1 << 20);
    cr_assert_lt(fread(text, 1, (1 << 20) - 1, f), (1 << 20) - 1);
    fclose(f);
    return text;
}

/* Every line has as many fields as the first, and no field says nan or inf. */
static csv read_csv(const char *folder, const char *name)
{
    csv c = {.text = read_file(folder, name)};
    for (char *rest = c.text, *line; (line = strsep(&rest, "\n")) && *line;) {
        int n = 0;
        for (char *field; (field = strsep(&line, ","));) {
            cr_assert_lt(n, MAX_FIELDS);
            cr_expect(strcmp(field, "nan") && strcmp(field, "-nan") && strcmp(field, "inf"), "%s: %s", name,
                      field);
            c.field[c.n_lines][n++] = field;
        }
        if (!c.n_lines) c.n_columns = n;
        cr_expect_eq(n, c.n_columns, "%s: line %d has %d fields", name, c.n_lines + 1, n);
        cr_assert_lt(++c.n_lines, MAX_LINES);
    }
    cr_expect_gt(c.n_lines, 1, "%s is empty", name);
    return c;
}

/* The field of the line that begins with `key`, in the column called `column`. */
static const char *at(const csv *c, const char *key, const char *column)
{
    for (int line = 1; line < c->n_lines; line++)
        for (int i = 0; i < c->n_columns && !strcmp(c->field[line][0], key); i++)
            if (!strcmp(c->field[0][i], column)) return c->field[line][i];
    cr_assert_fail("no '%s' in column '%s'", key, column);
    return NULL;
}

static uint64_t count(const csv *c, const char *key, const char *column)
{
    return strtoull(at(c, key, column), NULL, 10);
}

/* ---- running it */

static void make_folder(char folder[64])
{
    strcpy(folder, "/tmp/headway-study-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
}

static void remove_folder(const char *folder)
{
    const char *argv[] = {"rm", "-r", folder, NULL};
    hw_run_result r = hw_run(argv, NULL, 10);
    cr_expect_eq(r.exit_code, 0, "%s", r.err);
    hw_run_free(&r);
}

static void study(int n_ranks, const char *model, const char *folder, const char *n_new)
{
    const char *argv[] = {HEADWAY, "study", "-m", model,          "-o", folder, "-n",
                          n_new,   "-r",    "2",  "--block-size", "4",  NULL};
    hw_run_result r = n_ranks > 1 ? hw_mpirun(n_ranks, argv, NULL, TIMEOUT_S) : hw_run(argv, NULL, TIMEOUT_S);
    cr_assert_eq(r.exit_code, 0, "%d ranks: exit code %d\n%s%s", n_ranks, r.exit_code, r.out, r.err);
    hw_run_free(&r);
}

/* Every CSV file parses and is named in the report; every picture that is there is too, and is not empty.
 * Returns how many pictures. */
static int check_files(const char *folder)
{
    char *report = read_file(folder, "report.md");
    DIR *d = opendir(folder);
    int pictures = 0, tables = 0;
    for (struct dirent *entry; (entry = readdir(d));) {
        const char *suffix = strrchr(entry->d_name, '.');
        bool table = suffix && !strcmp(suffix, ".csv"), picture = suffix && !strcmp(suffix, ".svg");
        if (table || picture) cr_expect_not_null(strstr(report, entry->d_name), "%s", entry->d_name);
        if (table) free(read_csv(folder, entry->d_name).text);
        if (picture) {
            char *svg = read_file(folder, entry->d_name);
            cr_expect(strstr(svg, "<path") && strstr(svg, "</svg>"), "%s is empty", entry->d_name);
            free(svg);
        }
        tables += table;
        pictures += picture;
    }
    closedir(d);
    cr_expect_eq(tables, 14);
    cr_expect_null(strstr(report, "nan"), "%s", strstr(report, "nan"));
    free(report);
    return pictures;
}

/* By hand for models/tales: 4 layers, width 256, 8 query and 4 KV heads of 32, gated MLP of 688, vocabulary
 * 1279, and N = 12 new tokens from one. A row of a layer multiplies 256 x (256 + 128 + 128 + 256 + 3 x 688);
 * a pair of query and key costs 4 x 256; a sampled token 2 x 256 x 1279. Rows are 12 and 78, pairs 78 and sum
 * of t (t + 1) / 2 = 364; a row's payload is 9 x 256 x 4 B. */
static void check_on_off(const char *folder)
{
    const uint64_t row = 4 * 2 * 256 * (256 + 128 + 128 + 256 + 3 * 688), pair = 4 * 4 * 256,
                   head = 2 * 256 * 1279;
    csv c = read_csv(folder, "on_off.csv");
    cr_expect_eq(count(&c, "rows through the layers", "cache_on"), 12);
    cr_expect_eq(count(&c, "rows through the layers", "cache_off"), 78);
    cr_expect_eq(count(&c, "payload of embed + attn + mlp (B)", "cache_on"), 12 * 9216);
    cr_expect_eq(count(&c, "payload of embed + attn + mlp (B)", "cache_off"), 78 * 9216);
    cr_expect_eq(count(&c, "payload with sampling (B)", "cache_off"), 78 * 9216 + 12 * 8);
    cr_expect_eq(count(&c, "FLOPs", "cache_on"), 12 * row + 78 * pair + 12 * head);
    cr_expect_str_eq(at(&c, "rows through the layers", "off_over_on"), "6.500");
    cr_expect_eq(count(&c, "FLOPs", "cache_off"), 78 * row + 364 * pair + 12 * head);
    cr_expect_gt(atof(at(&c, "seconds: roofline prediction", "off_over_on")), 0);
    free(c.text);
}

static void check_length(const char *folder)
{
    csv c = read_csv(folder, "length.csv");
    cr_expect_eq(c.n_lines, 13);
    cr_expect_eq(count(&c, "12", "off_rows"), 12);
    cr_expect_eq(count(&c, "12", "off_payload_bytes"), 12 * count(&c, "12", "on_payload_bytes") - 11 * 8);
    cr_expect_eq(count(&c, "12", "off_attention_flops"), 78 * 4 * 4 * 256);
    free(c.text);
    c = read_csv(folder, "length_exponents.csv");
    /* Counts that do not grow have slope 0 but for rounding; those that grow as t have 1; t (t + 1) / 2 comes
     * near 2 from below. */
    cr_expect_lt(fabs(atof(at(&c, "cache on: products of the layers", "exponent_counted"))), 1e-9);
    cr_expect_lt(fabs(atof(at(&c, "cache off: products of the layers", "exponent_counted")) - 1), 1e-9);
    double square = atof(at(&c, "cache off: scores and values", "exponent_counted"));
    cr_expect(square > 1.8 && square < 2, "%g", square);
    free(c.text);
}

static void check_others(const char *folder)
{
    csv c = read_csv(folder, "heads.csv");
    /* K and V of a token: 2 x 4 layers x heads x 32 x 2 B; what crosses is the same for all. */
    cr_expect_eq(count(&c, "MHA", "kv_bytes_per_token"), 4096);
    cr_expect_eq(count(&c, "GQA", "kv_bytes_per_token"), 2048);
    cr_expect_eq(count(&c, "MQA", "kv_bytes_per_token"), 512);
    cr_expect_eq(count(&c, "MHA", "payload_bytes"), 9224);
    cr_expect_eq(count(&c, "MQA", "payload_bytes"), 9224);
    free(c.text);
    c = read_csv(folder, "policies.csv");
    static const char *const policies[] = {"off", "contiguous", "dynamic", "paged"};
    for (int i = 0; i < 4; i++) {
        cr_expect_str_eq(at(&c, policies[i], "same_tokens"), "yes");
        cr_expect_eq(count(&c, policies[i], "reserved_bytes"),
                     count(&c, policies[i], "used_bytes") + count(&c, policies[i], "wasted_bytes"));
    }
    cr_expect_gt(count(&c, "dynamic", "copied_bytes"), 0);
    cr_expect_eq(count(&c, "contiguous", "copied_bytes"), 0);
    free(c.text);
    c = read_csv(folder, "questions_work.csv");
    static const char *const work[] = {"scores", "values", "wo", "MLP"};
    for (int i = 0; i < 4; i++)
        cr_expect_eq(count(&c, work[i], "new_row_off"), count(&c, work[i], "new_row_on"), "%s", work[i]);
    cr_expect_eq(count(&c, "MLP", "step_off"), 12 * count(&c, "MLP", "step_on"));
    free(c.text);
}

static void whole(int n_ranks)
{
    char folder[64];
    make_folder(folder);
    study(n_ranks, TALES, folder, "12");
    check_files(folder);
    check_on_off(folder);
    check_length(folder);
    check_others(folder);
    csv c = read_csv(folder, "ranks_measured.csv");
    cr_expect_eq(c.n_lines, n_ranks > 1 ? 3 : 2);
    cr_expect_str_eq(at(&c, n_ranks > 1 ? "2" : "1", "same_tokens"), "yes");
    free(c.text);
    remove_folder(folder);
}

Test(study, figures_are_what_arithmetic_says_on_two_ranks) { whole(2); }
Test(study, figures_are_what_arithmetic_says_on_one_rank) { whole(1); }

/* gpt2 has no key for KV heads, learned positions, biases, and an MLP without a gate. */
Test(study, other_architectures_are_studied_too)
{
    char folder[64];
    make_folder(folder);
    study(2, GPT2, folder, "9");
    check_files(folder);
    remove_folder(folder);
}

Test(study, a_folder_that_cannot_be_written_is_refused_at_once)
{
    const char *argv[] = {HEADWAY, "study", "-m", TALES, "-o", "/proc/study", NULL};
    for (int n_ranks = 1; n_ranks <= 2; n_ranks++) {
        hw_run_result r =
            n_ranks > 1 ? hw_mpirun(n_ranks, argv, NULL, TIMEOUT_S) : hw_run(argv, NULL, TIMEOUT_S);
        cr_expect_eq(r.exit_code, 1, "%d: %s%s", r.exit_code, r.out, r.err);
        const char *said = strstr(r.err, "headway: /proc/study: cannot create this folder");
        cr_expect_not_null(said, "%s", r.err);
        cr_expect_null(said ? strstr(said + 1, "headway: /proc/study") : NULL, "said twice");
        cr_expect_null(strstr(r.err, "study: Cache"), "an experiment was begun");
        hw_run_free(&r);
    }
}

/* The report is short enough to reach the disk only when it is closed, at the very end; rank 1 must hear of
 * it. */
Test(study, report_on_a_full_disk_fails_on_all_ranks)
{
    char folder[64], report[128];
    make_folder(folder);
    snprintf(report, sizeof report, "%s/report.md", folder);
    cr_assert_eq(symlink("/dev/full", report), 0);
    const char *argv[] = {HEADWAY, "study", "-m", TALES, "-o", folder, "-n", "8", "-r", "1", NULL};
    hw_run_result r = hw_mpirun(2, argv, NULL, 120);
    cr_expect_eq(r.exit_code, 1, "%d: %s%s", r.exit_code, r.out, r.err);
    cr_expect_not_null(strstr(r.err, "report.md: cannot write"), "%s", r.err);
    hw_run_free(&r);
    remove_folder(folder);
}

Test(study, without_gnuplot_the_numbers_are_written_and_one_line_says_so)
{
    char folder[64];
    make_folder(folder);
    char *path = strdup(getenv("PATH"));
    const char *argv[] = {HEADWAY, "study", "-m", TALES, "-o", folder, "-n", "12", "-r", "1", NULL};
    setenv("PATH", folder, 1);
    hw_run_result r = hw_run(argv, NULL, TIMEOUT_S);
    setenv("PATH", path, 1);
    cr_expect_eq(r.exit_code, 0, "%s%s", r.out, r.err);
    const char *said = strstr(r.err, "gnuplot is not installed");
    cr_expect_not_null(said, "%s", r.err);
    cr_expect_null(said ? strstr(said + 1, "gnuplot is not installed") : NULL, "said more than once: %s",
                   r.err);
    cr_expect_eq(check_files(folder), 0);
    check_on_off(folder);
    hw_run_free(&r);
    free(path);
    remove_folder(folder);
}

Test(study, sizes_that_make_no_sense_are_refused)
{
    static const char *const settings[][2] = {{"-n", "600"},
                                              {"-n", "3"},
                                              {"--kv-cache", "off"},
                                              {"--repetitions", "0"},
                                              {"--max-model-len", "64"},
                                              {"--kv-cache-memory", "1M"},
                                              {"--max-num-batched-tokens", "64"}};
    char folder[64];
    make_folder(folder);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        const char *argv[] = {HEADWAY, "study",        "-m",           TALES, "-o",
                              folder,  settings[i][0], settings[i][1], NULL};
        hw_run_result r = hw_run(argv, NULL, TIMEOUT_S);
        cr_expect_eq(r.exit_code, 2, "%s %s: %d %s", settings[i][0], settings[i][1], r.exit_code, r.err);
        cr_expect_gt(r.n_err, 0);
        hw_run_free(&r);
    }
    remove_folder(folder);
}
