/* The golden vectors on 1, 2, 3, 4 and 8 ranks, through real mpirun: all of them with the backend that auto
 * takes, which is shm, and the most uneven ones with mpi as well. golden_worker.c says what is compared and how
 * closely. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/support/mpi_test.h"

enum { MAX_FOLDERS = 64, TIMEOUT_S = 900 };

/* Those with the most uneven sizes: with sanitizers no others are run. */
static const char *const uneven[] = {"llama-gqa-uneven", "llama-mqa", "llama-sharded", "gpt2-odd"};
#ifdef HW_SANITIZE
enum { FEW_VECTORS = true, MOST_RANKS = 4 };
#else
enum { FEW_VECTORS = false, MOST_RANKS = 8 };
#endif

static bool wanted(const char *name, bool few)
{
    if (!few) return name[0] != '.';
    for (size_t i = 0; i < sizeof uneven / sizeof *uneven; i++)
        if (!strcmp(name, uneven[i])) return true;
    return false;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The worker and every folder of tests/vectors that holds a golden.json, zero-terminated. Freed with the
 * process. */
static const char **worker_command(const char *backend, bool few)
{
    static const char *argv[MAX_FOLDERS + 4];
    int n = 0;
    DIR *d = opendir(HW_SOURCE_DIR "/tests/vectors");
    cr_assert_not_null(d);
    argv[n++] = HW_BINARY_DIR "/tests/e2e/golden_worker";
    argv[n++] = "--comm";
    argv[n++] = backend;
    const int first = n;
    for (struct dirent *entry; (entry = readdir(d)) && n < MAX_FOLDERS + first;) {
        char *path = NULL, *golden = NULL;
        struct stat info;
        if (!wanted(entry->d_name, few)) continue;
        cr_assert_geq(asprintf(&path, "%s/tests/vectors/%s", HW_SOURCE_DIR, entry->d_name), 0);
        cr_assert_geq(asprintf(&golden, "%s/golden.json", path), 0);
        if (!stat(golden, &info)) argv[n++] = path;
        else free(path);
        free(golden);
    }
    closedir(d);
    argv[n] = NULL;
    qsort(argv + first, (size_t)(n - first), sizeof *argv, by_name);
    cr_assert_geq(n - first, 3, "no golden vectors found");
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

static char *run_on(int n_ranks, const char *backend, bool few)
{
    const char **argv = worker_command(backend, few);
    hw_run_result r =
        n_ranks == 1 ? hw_run(argv, NULL, TIMEOUT_S) : hw_mpirun(n_ranks, argv, NULL, TIMEOUT_S);
    cr_assert_eq(r.exit_code, 0, "%d ranks: exit code %d\n%s\n%s", n_ranks, r.exit_code, r.out, r.err);
    char *lines = lines_of_cpu(r.out);
    hw_run_free(&r);
    return lines;
}

/* On 1, 2, 4 and 8 ranks the cuts of the model nest, so the numbers are added in the same order: every bit is
 * equal. */
static void expect_bits_of_one_rank(const char *backend, bool few)
{
    char *one = run_on(1, "auto", few);
    for (int n = 2; n <= MOST_RANKS; n *= 2) {
        char *lines = run_on(n, backend, few);
        cr_expect_str_eq(lines, one, "%d ranks with %s gave other bits than one rank", n, backend);
        free(lines);
    }
    free(one);
}

Test(golden, logits_match_transformers_and_have_the_same_bits_on_1_2_4_and_8_ranks)
{
    expect_bits_of_one_rank("shm", FEW_VECTORS);
}
Test(golden, logits_have_the_same_bits_when_ranks_send_messages) { expect_bits_of_one_rank("mpi", true); }

/* Three ranks cut elsewhere: close to one rank, but with equal bits however they add. */
Test(golden, logits_match_transformers_on_3_ranks)
{
    char *shm = run_on(3, "shm", true), *mpi = run_on(3, "mpi", true);
    cr_expect_str_eq(shm, mpi);
    free(shm);
    free(mpi);
    if (!FEW_VECTORS) free(run_on(3, "shm", false));
}
