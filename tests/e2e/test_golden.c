/* The golden vectors on 1, 2, 3, 4 and 8 ranks, through real mpirun. golden_worker.c says what is compared
 * and how closely. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/support/mpi_test.h"

enum { MAX_FOLDERS = 64, TIMEOUT_S = 900 };

#ifdef HW_FEW_VECTORS /* with sanitizers: those with the most uneven sizes */
static const char *const only[] = {"llama-gqa-uneven", "llama-mqa", "llama-sharded", "gpt2-odd"};
#endif

static bool wanted(const char *name)
{
#ifdef HW_FEW_VECTORS
    for (size_t i = 0; i < sizeof only / sizeof *only; i++)
        if (!strcmp(name, only[i])) return true;
    return false;
#else
    return name[0] != '.';
#endif
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The worker and every folder of tests/vectors that holds a golden.json, zero-terminated. Freed with the
 * process. */
static const char **worker_command(void)
{
    static const char *argv[MAX_FOLDERS + 2];
    int n = 0;
    DIR *d = opendir(HW_SOURCE_DIR "/tests/vectors");
    cr_assert_not_null(d);
    argv[n++] = HW_BINARY_DIR "/tests/e2e/golden_worker";
    for (struct dirent *entry; (entry = readdir(d)) && n < MAX_FOLDERS;) {
        char *path = NULL, *golden = NULL;
        struct stat info;
        if (!wanted(entry->d_name)) continue;
        cr_assert_geq(asprintf(&path, "%s/tests/vectors/%s", HW_SOURCE_DIR, entry->d_name), 0);
        cr_assert_geq(asprintf(&golden, "%s/golden.json", path), 0);
        if (!stat(golden, &info)) argv[n++] = path;
        else free(path);
        free(golden);
    }
    closedir(d);
    argv[n] = NULL;
    qsort(argv + 1, (size_t)n - 1, sizeof *argv, by_name);
    cr_assert_geq(n, 4, "no golden vectors found");
    return argv;
}

/* The worker's lines without the plain loops of the reference device, whose order of additions is their
 * own. */
static char *lines_of_cpu(const char *out)
{
    char *kept = calloc(strlen(out) + 1, 1);
    for (const char *line = out; *line;) {
        const char *end = strchr(line, '\n');
        size_t n = end ? (size_t)(end - line) + 1 : strlen(line);
        char *copy = strndup(line, n);
        if (!strstr(copy, " reference ")) strcat(kept, copy);
        free(copy);
        line += n;
    }
    return kept;
}

static char *run_on(int n_ranks)
{
    hw_run_result r = n_ranks == 1 ? hw_run(worker_command(), NULL, TIMEOUT_S)
                                   : hw_mpirun(n_ranks, worker_command(), NULL, TIMEOUT_S);
    cr_assert_eq(r.exit_code, 0, "%d ranks: exit code %d\n%s\n%s", n_ranks, r.exit_code, r.out, r.err);
    char *lines = lines_of_cpu(r.out);
    hw_run_free(&r);
    return lines;
}

/* On 1, 2, 4 and 8 ranks the cuts of the model nest, so the numbers are added in the same order: every bit is
 * equal. */
Test(golden, logits_match_transformers_and_have_the_same_bits_on_1_2_4_and_8_ranks)
{
    char *one = run_on(1);
    for (int n = 2; n <= 8; n *= 2) {
        char *lines = run_on(n);
        cr_expect_str_eq(lines, one, "%d ranks gave other bits than one rank", n);
        free(lines);
    }
    free(one);
}

/* Three ranks cut elsewhere: close, not equal. */
Test(golden, logits_match_transformers_on_3_ranks) { free(run_on(3)); }
