/* headway check: that it makes the comparisons it names, and that where cuts nest all of them give the same
 * bits. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/mpi_test.h"

#define HEADWAY HW_BINARY_DIR "/launch/headway"
#define TALES   HW_SOURCE_DIR "/models/tales"

enum { TIMEOUT_S = 300 };
#ifdef HW_SANITIZE /* with sanitizers everything takes ten times as long */
enum { N_SHAPES = 1, RANKS = 2, RANKS_OF_SHAPES = 4 };
#else
enum { N_SHAPES = 4, RANKS = 4, RANKS_OF_SHAPES = 8 };
#endif

static const char *const ways[] = {"all ranks",
                                   "all ranks, chunks of 1",
                                   "all ranks, chunks of 7",
                                   "all ranks, chunks of 64",
                                   "all ranks, batch of eight",
                                   "all ranks, cache contiguous",
                                   "all ranks, cache dynamic",
                                   "all ranks, cache off",
                                   "all ranks, other threads",
                                   "2 ranks, shm",
                                   "2 ranks, mpi",
                                   "4 ranks, shm",
                                   "4 ranks, mpi",
                                   "8 ranks, shm",
                                   "8 ranks, mpi"};

/* One line for each of the first n ways, in order, and no other verdicts. */
static void expect_same_bits(const char *out, size_t n, const char *what)
{
    const char *at = out;
    size_t same = 0;
    for (size_t i = 0; i < n; i++) {
        char line[64];
        snprintf(line, sizeof line, "\n%-28s same bits ", ways[i]);
        const char *found = strstr(at, line);
        cr_expect_not_null(found, "%s: no '%s' in\n%s", what, line + 1, out);
        if (found) at = found;
    }
    for (at = out; (at = strstr(at, " all equal\n")); at++) same++;
    cr_expect_eq(same, n, "%s: %zu equal continuations\n%s", what, same, out);
}

static void check(int n_ranks, const char *model, const char *format)
{
    size_t n_ways = 9;
    for (int n = 2; n <= n_ranks; n *= 2) n_ways += 2;
    const char *argv[] = {HEADWAY, "check", "-m", model, "--load-format", format, "-n", "8", "--all", NULL};
    hw_run_result r =
        n_ranks == 1 ? hw_run(argv, NULL, TIMEOUT_S) : hw_mpirun(n_ranks, argv, NULL, TIMEOUT_S);
    cr_expect_eq(r.exit_code, 0, "%s on %d ranks: exit code %d\n%s%s", model, n_ranks, r.exit_code, r.out,
                 r.err);
    expect_same_bits(r.out, n_ways, model);
    hw_run_free(&r);
}

Test(check, one_rank_compares_its_own_ways) { check(1, TALES, "auto"); }
Test(check, all_ways_give_the_same_bits_where_cuts_nest) { check(RANKS, TALES, "auto"); }

/* Heads and KV heads: groups that 8 ranks share, those of GPT-2, groups that ranks split, and divide. */
typedef struct shape {
    int n_heads, n_kv_heads, n_ranks;
} shape;

static shape shapes[] = {{32, 1, RANKS_OF_SHAPES}, {12, 12, 4}, {12, 4, RANKS_OF_SHAPES}, {32, 8, 4}};

ParameterizedTestParameters(check, heads_of_any_number_give_the_same_bits)
{
    return cr_make_param_array(shape, shapes, N_SHAPES);
}
ParameterizedTest(shape *s, check, heads_of_any_number_give_the_same_bits)
{
    char folder[] = "/tmp/headway-check-XXXXXX", path[64];
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    fprintf(
        f,
        "{\"model_type\": \"llama\", \"vocab_size\": 515, \"hidden_size\": %d, \"intermediate_size\": 304, "
        "\"num_hidden_layers\": 2, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
        "\"max_position_embeddings\": 128, \"hidden_act\": \"silu\", \"rms_norm_eps\": 1e-05, "
        "\"tie_word_embeddings\": false, \"torch_dtype\": \"bfloat16\"}\n",
        8 * s->n_heads, s->n_heads, s->n_kv_heads);
    fclose(f);
    check(s->n_ranks, folder, "dummy");
    unlink(path);
    rmdir(folder);
}
