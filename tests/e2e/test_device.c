/* Devices in plug-ins: the CUDA device as the SIMT layer runs it, and what is said where there is none to
 * use. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/e2e/headway.h"
#include "tests/support/mpi_test.h"

#define GENERATE "generate", "-m", TALES, "-p", "Once", "-n", "3"

/* A model that asks for more than a device's attention can is refused before its weights are read. */
Test(device, refuses_a_window_that_its_attention_does_not_know)
{
    setenv("HW_BROKEN_OP", "window", 1);
    hw_run_result r = RUN(1, NULL, "bench", "-m", VECTORS "/qwen3-window", "-p", "16", "-n", "4", "--dtype",
                          "float32", "--device", HW_BROKEN_PLUGIN);
    cr_expect_eq(r.exit_code, 2, "exit code %d", r.exit_code);
    cr_expect(strstr(r.err, "layer 1: device reference: attention with window 24 is not supported"), "%s",
              r.err);
    hw_run_free(&r);
}

#ifdef HW_SIMT_PLUGIN
enum { TIMEOUT_S = 600 };

/* golden_worker.c says what is compared and how closely. Sums of all-reduces come from the staging buffer
 * here. */
static void match_transformers(int n_ranks, const char *dtype)
{
    const char *const argv[] = {HW_BINARY_DIR "/tests/e2e/golden_worker",
                                "--device",
                                HW_SIMT_PLUGIN,
                                "--dtype",
                                dtype,
                                VECTORS "/llama-gqa-uneven",
#ifndef HW_SANITIZE
                                VECTORS "/gpt2-odd",
                                VECTORS "/qwen3-window",
                                VECTORS "/exaone4",
#endif
                                NULL};
    hw_run_result r =
        n_ranks == 1 ? hw_run(argv, NULL, TIMEOUT_S) : hw_mpirun(n_ranks, argv, NULL, TIMEOUT_S);
    cr_assert_eq(r.exit_code, 0, "%d ranks: exit code %d\n%s\n%s", n_ranks, r.exit_code, r.out, r.err);
    hw_run_free(&r);
}

Test(simt, logits_match_transformers_on_1_rank) { match_transformers(1, "float32"); }
Test(simt, logits_match_transformers_on_2_ranks) { match_transformers(2, "float32"); }
Test(simt, bfloat16_is_as_good_as_in_transformers_on_1_rank) { match_transformers(1, "bfloat16"); }
#ifndef HW_SANITIZE /* some ten seconds each */
Test(simt, bfloat16_is_as_good_as_in_transformers_on_2_ranks) { match_transformers(2, "bfloat16"); }
Test(simt, float16_is_as_good_as_in_transformers_on_1_rank) { match_transformers(1, "float16"); }
#endif

/* Compiled by the driver from PTX for an older GPU, kernels do not wait for the one before: they must not overlap. */
Test(simt, kernels_that_do_not_wait_are_started_one_after_the_other)
{
    char *want = OUTPUT(1, GENERATE, "--device", HW_SIMT_PLUGIN);
    setenv("HW_SIMT_PTX", "80", 1);
    char *got = OUTPUT(1, GENERATE, "--device", HW_SIMT_PLUGIN);
    cr_expect_str_eq(got, want);
    free(want);
    free(got);
}

/* Sampling with every filter takes the same tokens as the CPU: what the device computes for it is integers,
 * and noise in double. */
Test(simt, draws_the_tokens_that_the_cpu_draws)
{
#define DRAW                                                                                                 \
    "generate", "-m", TALES, "-p", "Once", "-n", "8", "--temperature", "0.9", "--top-p", "0.9",              \
        "--repetition-penalty", "1.2", "--seed", "7", "--dtype", "float32"
    char *want = OUTPUT(1, DRAW, "--device", "cpu"), *got = OUTPUT(1, DRAW, "--device", HW_SIMT_PLUGIN);
    cr_expect_str_eq(got, want);
    free(want);
    free(got);
}

/* In the middle of a step, on one rank of two: all ranks end, and the message says which rank, GPU and kernel. */
static void fails_on_rank_1(const char *const words[], int n_words)
{
    hw_run_result r = RUN(2, NULL, GENERATE, "--device", HW_SIMT_PLUGIN);
    cr_expect_eq(r.exit_code, 6, "exit code %d\n%s", r.exit_code, r.err);
    for (int i = 0; i < n_words; i++) cr_expect(strstr(r.err, words[i]), "no '%s' in: %s", words[i], r.err);
    hw_run_free(&r);
}

/* Kernels of the run are counted, without those of the proof. */
Test(simt, a_kernel_that_cannot_be_started_is_named)
{
    setenv("HW_PROVE", "off", 1);
    setenv("HW_SIMT_FAIL_LAUNCH", "20", 1);
    REFUSED(1, 6, WORDS("rank 0", "GPU 0", "device cuda", "gemv", "cudaErrorLaunchFailure"), GENERATE,
            "--device", HW_SIMT_PLUGIN);
    setenv("HW_SIMT_FAIL_LAUNCH", "20@1", 1);
    fails_on_rank_1((const char *const[]){"rank 1 on ", ": GPU 0: device cuda: ", "cudaErrorLaunchFailure"},
                    3);
}

/* A fault that shows when somebody waits. Where every kernel is waited for, it is known which it was. */
Test(simt, a_kernel_that_fails_on_its_way_is_named)
{
    setenv("HW_PROVE", "off", 1);
    setenv("HW_SIMT_FAIL_KERNEL", "7@1", 1);
    fails_on_rank_1((const char *const[]){"rank 1 on ", ": GPU 0: device cuda: ", "or one before it",
                                          "cudaErrorECCUncorrectable"},
                    4);
    setenv("HW_CUDA_SYNC", "1", 1);
    fails_on_rank_1((const char *const[]){"rank 1 on ", ": GPU 0: device cuda: add_bias_residual: ", "ECC"},
                    3);
}

/* ---- what a new device has to show: the first kernel is a product of few rows, the first product of cuBLASLt one of many,
 * the second kernel an attention (kernels/cuda/prove.cu) */

static void refuses_to_begin(const char *variable, const char *value, const char *op, const char *type)
{
    setenv(variable, value, 1);
    REFUSED(
        1, 6,
        WORDS("device cuda: cuda 0, SIMT layer", op, type, "compute wrongly", "--device cpu", "HW_PROVE=off"),
        GENERATE, "--device", HW_SIMT_PLUGIN, "--dtype", type);
    unsetenv(variable);
}

Test(proof, a_device_that_computes_wrongly_is_not_used)
{
    static const char *const types[] = {"float32", "float16", "bfloat16"};
    for (int t = 0; t < 3; t++) {
        refuses_to_begin("HW_SIMT_SKIP_KERNEL", "1", "a product of 3 rows", types[t]);
        refuses_to_begin("HW_SIMT_WRONG_PRODUCT", "1", "a product of 12 rows", types[t]);
        refuses_to_begin("HW_SIMT_SKIP_KERNEL", "2", "attention over 19 keys", types[t]);
    }
}

/* One rank of two is enough. */
Test(proof, of_one_rank_that_fails_ends_all)
{
    setenv("HW_SIMT_SKIP_KERNEL", "2@1", 1);
    REFUSED(2, 6, WORDS("rank 1 on ", "attention over 19 keys", "compute wrongly"), GENERATE, "--device",
            HW_SIMT_PLUGIN);
}

/* Nothing may wait for it any more, the end of the process neither. */
Test(proof, a_device_that_hangs_is_given_up)
{
    setenv("HW_SIMT_HANG_KERNEL", "2", 1);
    REFUSED(1, 6, WORDS("device cuda: cuda 0, SIMT layer", "attention over 19 keys did not end within 10 s"),
            GENERATE, "--device", HW_SIMT_PLUGIN);
}

Test(proof, can_be_left_out)
{
    char *want = OUTPUT(1, GENERATE, "--device", HW_SIMT_PLUGIN);
    setenv("HW_PROVE", "off", 1);
    setenv("HW_SIMT_WRONG_PRODUCT", "1", 1); /* a prompt of one token has none of cuBLASLt */
    char *got = OUTPUT(1, "generate", "-m", TALES, "-p", "Once", "-n", "3", "--prefill-chunk", "1",
                       "--device", HW_SIMT_PLUGIN);
    cr_expect_str_eq(got, want);
    free(want);
    free(got);
}

/* The layer's device has 2 GiB. */
Test(simt, a_model_that_does_not_fit_the_device_is_refused_with_the_numbers)
{
    REFUSED(1, 4, WORDS("not enough memory", "this device has free"), "generate", "--load-format", "dummy",
            "-m", HW_SOURCE_DIR "/models/shapes/llama-1b", "--tokens", "1,2", "--dtype", "float32",
            "--device", HW_SIMT_PLUGIN);
}
#endif

/* ---- no such device */

Test(device, that_is_not_known)
{
    REFUSED(1, 2, WORDS("device \"tpu\"", "cuda"), GENERATE, "--device", "tpu");
    REFUSED(2, 2, WORDS("device \"tpu\"", "cuda"), GENERATE, "--device", "tpu");
}

Test(device, in_a_plug_in_that_is_no_plug_in)
{
    REFUSED(1, 2, WORDS("/nowhere/x.so", "cannot load"), GENERATE, "--device", "/nowhere/x.so");
    REFUSED(1, 2, WORDS("README.md", "cannot load"), GENERATE, "--device", HW_SOURCE_DIR "/README.md");
}

/* With a plug-in but no GPU it is the device that is missing; without a plug-in, this build does not have
 * it. Where there is a GPU, it runs. */
Test(device, cuda_without_a_gpu)
{
    setenv("CUDA_VISIBLE_DEVICES", "", 1);
#ifdef HW_CUDA
    REFUSED(1, 6, WORDS("device cuda: ", "--device cpu"), GENERATE, "--device", "cuda");
    REFUSED(2, 6, WORDS("device cuda: ", "--device cpu"), GENERATE, "--device", "cuda");
#else
    REFUSED(1, 2, WORDS("libheadway_cuda.so", "HW_PLUGIN_PATH", "/launch"), GENERATE, "--device", "cuda");
#endif
}

Test(device, auto_takes_the_cpu)
{
    char *want = OUTPUT(1, GENERATE, "--device", "cpu"), *got = OUTPUT(1, GENERATE, "--device", "auto");
    cr_expect_str_eq(got, want);
    free(want);
    free(got);
}
