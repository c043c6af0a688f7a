/* Sampling on one rank and on several; sampler_worker.c says what is checked. */
#include <math.h>

#include "runtime/base/json.h"
#include "runtime/engine.h"
#include "tests/runtime/damaged_model.h"
#include "tests/runtime/weights/checkpoint_files.h"
#include "tests/support/mpi_test.h"

static const char *const worker = HW_BINARY_DIR "/tests/runtime/sampler_worker";
static const char *const uneven = HW_SOURCE_DIR "/tests/vectors/llama-gqa-uneven";

/* A vocabulary beyond what the first candidates of each rank cover, and room for 200 tokens. 5003 is
 * prime. */
static const char *const large_vocabulary =
    "{\"model_type\": \"llama\", \"vocab_size\": 5003, \"hidden_size\": 64, \"intermediate_size\": 112,"
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 8, \"num_key_value_heads\": 4,"
    " \"max_position_embeddings\": 256, \"dtype\": \"float32\"}";

/* What rank 0 printed; to be freed. */
static char *run_on(int n_ranks, const char *const argv[])
{
    hw_run_result r = n_ranks == 1 ? hw_run(argv, NULL, 280) : hw_mpirun(n_ranks, argv, NULL, 280);
    cr_assert_eq(r.exit_code, 0, "%s on %d ranks: exit code %d\n%s", argv[1], n_ranks, r.exit_code, r.err);
    char *out = strdup(r.out);
    hw_run_free(&r);
    return out;
}

static void same_tokens_on_all(const char *const argv[])
{
#ifdef HW_SANITIZE
    static const int n_ranks[] = {2, 3};
#else
    static const int n_ranks[] = {2, 3, 4, 8};
#endif
    char *one = run_on(1, argv);
    cr_assert_geq(strlen(one), 1000);
    for (size_t i = 0; i < sizeof n_ranks / sizeof *n_ranks; i++) {
        char *several = run_on(n_ranks[i], argv);
        cr_expect_str_eq(several, one, "%d ranks gave other tokens than one rank", n_ranks[i]);
        free(several);
    }
    free(one);
}

Test(sampler, follows_the_naive_sampler_with_a_real_model_on_1_2_3_4_and_8_ranks)
{
    same_tokens_on_all((const char *const[]){worker, "steps", uneven, "real", "100", NULL});
}

Test(sampler, gives_the_same_200_tokens_from_a_large_vocabulary_on_1_2_3_4_and_8_ranks, .init = make_folder,
     .fini = remove_folder)
{
    write_text("config.json", large_vocabulary);
    same_tokens_on_all((const char *const[]){worker, "steps", test_folder, "dummy", "200", NULL});
}

Test(sampler, draws_have_the_distribution_of_the_softmax)
{
    const char *const argv[] = {worker, "draws", uneven, "real", "8000", NULL};
    free(run_on(1, argv));
    free(run_on(2, argv));
}

/* ---- what is refused */

Test(sampler, refuses_a_logit_that_is_not_a_number_on_all_ranks, .init = make_folder, .fini = remove_folder)
{
    const char *const argv[] = {worker, "nan", test_folder, "330", NULL};
    /* The embedding is also the head: the last token's logit is a NaN, and no other. One rank alone sees it. */
    copy_damaged(uneven, 330, 331);
    for (int n = 1; n <= 4; n++) free(run_on(n, argv));
}

Test(sampler, cancelling_on_one_rank_ends_all)
{
    const char *const argv[] = {worker, "cancel", uneven, NULL};
    for (int n = 1; n <= 4; n *= 2) free(run_on(n, argv));
}

static void expect_refused(hw_sampling s, const char *names)
{
    hw_error err = {.rank = -1};
    cr_expect_eq(hw_sampling_check(&s, &err), HW_ERR_INVALID, "%s", names);
    cr_expect_not_null(strstr(err.message, names), "\"%s\" does not name %s", err.message, names);
}

Test(sampling_check, names_what_is_out_of_range)
{
    static const float numbers[] = {-0.1f, NAN, INFINITY};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        expect_refused((hw_sampling){.temperature = numbers[i]}, "temperature");
        expect_refused((hw_sampling){.top_p = numbers[i]}, "top_p");
        expect_refused((hw_sampling){.min_p = numbers[i]}, "min_p");
        expect_refused((hw_sampling){.repetition_penalty = numbers[i]}, "repetition_penalty");
    }
    expect_refused((hw_sampling){.temperature = 1e-7f}, "temperature");
    expect_refused((hw_sampling){.top_k = -1}, "top_k");
    expect_refused((hw_sampling){.top_p = 1.01f}, "top_p");
    expect_refused((hw_sampling){.min_p = 1.01f}, "min_p");
}

Test(sampling_check, accepts_the_ends_of_the_ranges)
{
    const hw_sampling good[] = {
        {0},
        {.temperature = 1e-6f},
        {.temperature = 1e6f, .top_k = 1 << 30, .top_p = 1, .min_p = 1, .repetition_penalty = 1e6f}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        cr_expect_eq(hw_sampling_check(&good[i], NULL), HW_OK);
}
