/* Arguments, prompts, outputs and machines that are not what they should be: one message, the exit code of
 * its kind, and every rank ends. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/e2e/headway.h"
#include "tests/e2e/model_folder.h"
#include "tests/support/mpi_test.h"

#define GQA VECTORS "/llama-gqa" /* no tokenizer; 8 heads */

TestSuite(bad_input, .fini = remove_model);

/* headway generate with a good model and prompt, and these besides. */
#define GENERATE "generate", "-m", TALES, "-p", "Once"

/* ---- arguments */

Test(bad_input, subcommands)
{
    REFUSED(1, 2, WORDS("no subcommand 'genrate' (did you mean generate?)", "--help"), "genrate");
    REFUSED(1, 2, WORDS("no subcommand '--model'", "--help"), "--model");
    REFUSED(2, 2, WORDS("no subcommand 'genrate'", "--help"), "genrate");
}

Test(bad_input, options_that_are_not_known_or_not_complete)
{
    MISUSED(1, WORDS("--no-such-option"), GENERATE, "--no-such-option");
    MISUSED(2, WORDS("--no-such-option"), GENERATE, "--no-such-option");
    MISUSED(1, WORDS("-m FOLDER"), "generate", "-p", "Once");
    MISUSED(1, WORDS("--model is ''", "empty"), "generate", "-m", "", "-p", "Once");
    MISUSED(1, WORDS("argument"), GENERATE, "-n");
    MISUSED(1, WORDS("unexpected argument 'word'", "quotes"), GENERATE, "word");
    MISUSED(1, WORDS("-o"), "logits", "-m", TALES, "-p", "Once");
    MISUSED(1, WORDS("unrecognized option", "--json"), "logits", "-m", TALES, "-p", "Once", "-o", "x",
            "--json");
}

Test(bad_input, values_outside_their_range)
{
    static const struct {
        const char *option, *value;
    } bad[] = {
        {"--max-tokens", "0"},
        {"--max-tokens", "-5"},
        {"--max-tokens", "1e3"},
        {"--max-tokens", ""},
        {"--max-tokens", "99999999999999999999"},
        {"--threads", "0"},
        {"--threads", "1025"},
        {"--temperature", "-1"},
        {"--temperature", "nan"},
        {"--temperature", "inf"},
        {"--temperature", "1,5"},
        {"--top-k", "-1"},
        {"--top-p", "0"},
        {"--top-p", "1.5"},
        {"--min-p", "-0.1"},
        {"--min-p", "2"},
        {"--repetition-penalty", "0"},
        {"--seed", "x"},
        {"--block-size", "0"},
        {"--block-size", "1025"},
        {"--max-model-len", "0"},
        {"--max-model-len", "-1"},
        {"--max-num-batched-tokens", "0"},
        {"--dtype", "int4"},
        {"--weight-dtype", "int4"},
        {"--activation-dtype", "float8"},
        {"--comm-dtype", "float64"},
        {"--kv-cache-dtype", "e4"},
        {"--matmul", "bf16x2"},
        {"--kv-cache", "ring"},
        {"--kv-cache-memory", "0"},
        {"--kv-cache-memory", "-1"},
        {"--kv-cache-memory", " -1"},
        {"--kv-cache-memory", "12X"},
        {"--kv-cache-memory", "1GB"},
        {"--kv-cache-memory", "99999999999T"},
        {"--load-format", "pickle"},
        {"--prefill-chunk", "0"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char option[64], found[64];
        snprintf(option, sizeof option, "%s=%s", bad[i].option, bad[i].value);
        snprintf(found, sizeof found, "'%s'", bad[i].value);
        MISUSED(1, WORDS(bad[i].option, found, "wanted"), GENERATE, option);
    }
    MISUSED(1, WORDS("--stop is ''", "empty"), GENERATE, "--stop", "");
    MISUSED(1, WORDS("--ranks", "'0'"), "inspect", "-m", TALES, "--ranks", "0");
}

Test(bad_input, types_that_a_device_does_not_compute_in)
{
    REFUSED(1, 2, WORDS("--activation-dtype", "bfloat16", "\"cpu\"", "float32"), GENERATE, "--device", "cpu",
            "--activation-dtype", "bfloat16");
    REFUSED(2, 2, WORDS("--comm-dtype", "float16", "float32"), GENERATE, "--device", "cpu", "--comm-dtype",
            "float16");
    REFUSED(1, 2, WORDS("--activation-dtype", "float16", "float32"), "plan", "-m", TALES, "--device", "cpu",
            "--activation-dtype", "float16");
}

Test(bad_input, options_that_contradict)
{
    MISUSED(1, WORDS("more than one prompt"), GENERATE, "--tokens", "1");
    MISUSED(1, WORDS("more than one prompt"), GENERATE, "-");
    MISUSED(1, WORDS("more than one prompt"), GENERATE, "-f", "x");
    MISUSED(1, WORDS("--dummy-seed", "--load-format dummy"), GENERATE, "--dummy-seed", "1");
    REFUSED(1, 2, WORDS("--top-k", "--temperature"), GENERATE, "--top-k", "5");
    REFUSED(1, 2, WORDS("stop strings", "tokenizer"), "generate", "-m", GQA, "--tokens", "1", "--stop", "x");
    REFUSED(1, 2, WORDS("--tokens", "detokenize"), "tokenize", "-m", TALES, "--tokens", "1");
    REFUSED(1, 2, WORDS("nothing to measure"), "bench", "-m", TALES, "-pp", "0", "-tg", "0");
    REFUSED(2, 2, WORDS("\"self\" is for one rank", "2"), GENERATE, "--comm", "self");
}

Test(bad_input, what_this_build_does_not_have)
{
    REFUSED(1, 2, WORDS("tpu", "cpu"), GENERATE, "--device", "tpu");
    REFUSED(1, 2, WORDS("smoke", "mpi"), GENERATE, "--comm", "smoke");
    REFUSED(2, 2, WORDS("smoke", "mpi"), GENERATE, "--comm", "smoke");
}

Test(bad_input, more_ranks_than_heads)
{
    REFUSED(9, 2, WORDS("9 ranks", "8 attention heads", "1 to 8"), "generate", "-m", GQA, "--tokens", "1");
    REFUSED(1, 2, WORDS("9 ranks", "8 attention heads"), "inspect", "-m", GQA, "--ranks", "9");
}

/* ---- prompts */

Test(bad_input, no_prompt_or_an_empty_one)
{
    REFUSED(1, 2, WORDS("no prompt", "-p TEXT"), "generate", "-m", TALES);
    REFUSED(1, 2, WORDS("prompt is empty"), "generate", "-m", TALES, "-p", "");
    REFUSED(1, 2, WORDS("prompt is empty"), "generate", "-m", TALES, "--tokens", "");
    REFUSED(1, 2, WORDS("prompt is empty"), "generate", "-m", TALES, "-");
    REFUSED(1, 2, WORDS("prompt is empty"), "generate", "-m", TALES, "-f", "/dev/null");
    REFUSED(1, 2, WORDS("prompt is empty"), "logits", "-m", TALES, "-p", "", "-o", "/dev/null");
    REFUSED(1, 2, WORDS("nothing to predict"), "perplexity", "-m", TALES, "--tokens", "5");
    REFUSED(2, 2, WORDS("prompt is empty"), "generate", "-m", TALES, "-p", "");
}

Test(bad_input, prompt_files)
{
    REFUSED(1, 2, WORDS("/nowhere/prompt.txt", "No such file"), "generate", "-m", TALES, "-f",
            "/nowhere/prompt.txt");
    REFUSED(1, 2, WORDS("/tmp", "directory"), "generate", "-m", TALES, "-f", "/tmp");
    REFUSED(2, 2, WORDS("/nowhere/prompt.txt", "No such file"), "generate", "-m", TALES, "-f",
            "/nowhere/prompt.txt");
}

Test(bad_input, prompt_that_is_not_utf8)
{
    REFUSED(1, 2, WORDS("not UTF-8", "0xff", "offset 5"), "generate", "-m", TALES, "-p", "Once \xff");
    REFUSED(1, 2, WORDS("not UTF-8", "0xc0", "offset 0"), "tokenize", "-m", TALES, "-p", "\xc0\xaf");
    REFUSED(1, 2, WORDS("not UTF-8", "offset 1"), "tokenize", "-m", TALES, "-p", "a\xed\xa0\x80");
    REFUSED(2, 2, WORDS("not UTF-8", "0xff", "offset 5"), "generate", "-m", TALES, "-p", "Once \xff");
    REFUSED(2, 2, WORDS("stop string 2", "not UTF-8", "0xa9", "offset 1"), GENERATE, "--stop", "end",
            "--stop", "x\xa9");
}

Test(bad_input, token_lists)
{
    REFUSED(1, 2, WORDS("token 1279", "vocabulary of 1279"), "generate", "-m", TALES, "--tokens", "1,1279");
    REFUSED(1, 2, WORDS("token 256", "vocabulary of 256"), "generate", "-m", GQA, "--tokens", "1,2,256");
    REFUSED(1, 2, WORDS("token id 1279", "below 1279"), "detokenize", "-m", TALES, "--tokens", "1279");
    REFUSED(2, 2, WORDS("token 256", "vocabulary of 256"), "generate", "-m", GQA, "--tokens", "1,2,256");
    static const char *const lists[] = {
        "1,,2", ",1", "-1", "1;2", "one", "0x10", "3000000000", "1.5", "99999999999999999999"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        REFUSED(1, 2, WORDS("--tokens", "not a token id", "1,2,3"), "generate", "-m", GQA, "--tokens",
                lists[i]);
    REFUSED(1, 2, WORDS("--tokens", "comma"), "generate", "-m", GQA, "--tokens", "1,2,");
}

Test(bad_input, prompt_longer_than_the_context)
{
    char list[3 * 8 + 1] = "";
    for (int i = 0; i < 8; i++) strcat(list, i ? ",7" : "7");
    REFUSED(1, 2, WORDS("8 tokens", "context holds 8", "--max-model-len"), "generate", "-m", GQA, "--tokens",
            list, "--max-model-len", "8");
    REFUSED(2, 2, WORDS("8 tokens", "context holds 8", "--max-model-len"), "generate", "-m", GQA, "--tokens",
            list, "--max-model-len", "8");
    REFUSED(1, 2, WORDS("8 tokens", "7"), "logits", "-m", GQA, "--tokens", list, "--max-model-len", "7", "-o",
            "/dev/null");
    REFUSED(1, 2, WORDS("1000", "160 positions"), "generate", "-m", GQA, "--tokens", list, "--max-model-len",
            "1000");
}

/* ---- outputs */

static hw_run_result shell(const char *command)
{
    hw_run_result r = hw_run((const char *const[]){"sh", "-c", command, NULL}, NULL, HEADWAY_TIMEOUT_S);
    cr_assert_not(r.timed_out, "%s", command);
    return r;
}

Test(bad_input, full_disk)
{
    static const char *const commands[] = {
        HEADWAY " generate -m " TALES " -p Once -n 5",
        HEADWAY " generate -m " TALES " -p Once -n 5 --json",
        HEADWAY " generate -m " GQA " --tokens 1 -n 5",
        HEADWAY " perplexity -m " TALES " -p 'Once upon a time'",
        HEADWAY " tokenize -m " TALES " -p Once",
        HEADWAY " detokenize -m " TALES " --tokens 1,2",
        HEADWAY " inspect -m " TALES,
        HEADWAY " bench -m " TALES " -p 1 -n 1 -r 1",
        HEADWAY " bench -m " TALES " -p 1 -n 1 -r 1 --csv",
        HEADWAY " generate --help",
        HEADWAY " --help",
        HEADWAY " --version",
    };
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        char command[1024];
        snprintf(command, sizeof command, "exec %s >/dev/full", commands[i]);
        hw_run_result r = shell(command);
        assert_one_message(&r, 1, 1, WORDS("standard output", "No space left on device"));
        hw_run_free(&r);
    }
    REFUSED(1, 1, WORDS("/dev/full", "No space left"), "logits", "-m", TALES, "-p", "Once", "-o",
            "/dev/full");
    REFUSED(2, 1, WORDS("/dev/full", "No space left"), "logits", "-m", TALES, "-p", "Once", "-o",
            "/dev/full");
}

/* A rank that cannot write must not leave the others waiting for it. mpirun stands between a rank and its own
 * standard output, hence the shell behind it. */
Test(bad_input, disk_full_on_one_of_2_ranks)
{
    static const char *const commands[] = {
        HEADWAY " generate -m " TALES " -p Once -n 5 --json",
        HEADWAY " perplexity -m " TALES " -p 'Once upon a time'",
        HEADWAY " check -m " TALES " --tokens 1,2,3 -n 2",
        HEADWAY " traffic -m " TALES " --tokens 1,2,3 -n 2",
        HEADWAY " bench -m " TALES " -p 1 -n 1 -r 1",
    };
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        char command[1024];
        snprintf(command, sizeof command, "exec %s >/dev/full", commands[i]);
        const char *argv[] = {"/bin/sh", "-c", command, NULL};
        hw_run_result r = hw_mpirun(2, argv, NULL, 60);
        cr_expect_eq(r.exit_code, 1, "%s: exit code %d\n%s", commands[i], r.exit_code, r.err);
        cr_expect(strstr(r.err, "headway: cannot write to standard output: No space left on device"),
                  "%s: %s", commands[i], r.err);
        hw_run_free(&r);
    }
}

Test(bad_input, output_file_that_cannot_be_made)
{
    REFUSED(1, 1, WORDS("/nowhere/x.npy", "No such file"), "logits", "-m", TALES, "-p", "Once", "-o",
            "/nowhere/x.npy");
    REFUSED(2, 1, WORDS("/tmp", "directory"), "logits", "-m", TALES, "-p", "Once", "-o", "/tmp");
}

/* Neither a file that was not there, nor an end to one that was. */
Test(bad_input, refused_logits_leave_the_output_as_it_is)
{
    model_like("tests/vectors/llama-gqa");
    const char *out = in_model("out.npy");
    for (int i = 0; i < 2; i++) {
        hw_run_result r =
            RUN(1, NULL, "logits", "-m", GQA, "--tokens", "1,2,3", "--max-model-len", "2", "-o", out);
        cr_expect_eq(r.exit_code, 2, "%s", r.err);
        hw_run_free(&r);
        struct stat info;
        if (!i) cr_expect_neq(stat(out, &info), 0, "%s is there", out);
        else cr_expect(!stat(out, &info) && info.st_size == 3, "%s is not as it was", out);
        write_text_in_model("out.npy", "old");
    }
}

/* A model that goes on for so long that its reader is gone before it ends. */
static void make_endless(void)
{
    model_like("models/tales");
    replace_in("config.json", "\"max_position_embeddings\": 512", "\"max_position_embeddings\": 30000");
}

/* The reader goes away in the middle of the text; that some has come until then shows that it comes as it is
 * made. */
Test(bad_input, pipe_closed_while_text_streams)
{
    char command[1024];
    make_endless();
    snprintf(command, sizeof command,
             "{ " HEADWAY
             " generate -m %s -p Once --ignore-eos --max-model-len 30000; echo $? >&2; } | head -c 9",
             in_model(""));
    hw_run_result r = shell(command);
    cr_expect_eq(r.n_out, 9);
    cr_expect_str_eq(r.err, "headway: cannot write to standard output: Broken pipe\n1\n");
    hw_run_free(&r);
}

/* mpirun writes our text, so it is mpirun that notices, says so and ends the ranks. */
Test(bad_input, pipe_closed_while_text_streams_from_2_ranks)
{
    char command[1024];
    make_endless();
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    snprintf(command, sizeof command,
             "{ mpirun --oversubscribe --bind-to none -np 2 " HEADWAY
             " generate -m %s -p Once --ignore-eos --max-model-len 30000; test $? -gt 0 && echo failed >&2; }"
             " | head -c 9",
             in_model(""));
    hw_run_result r = shell(command);
    cr_expect_eq(r.n_out, 9);
    cr_expect(strstr(r.err, "failed\n"), "%s", r.err);
    hw_run_free(&r);
}

/* What mpirun then does to the ranks is not told as the loss of one. */
Test(bad_input, pipe_closed_while_launch_runs)
{
    char command[1024];
    make_endless();
    snprintf(command, sizeof command,
             "{ " HEADWAY " launch " HW_SOURCE_DIR
             "/configs/demo.yaml -- generate -m %s -p Once --ignore-eos "
             "--max-model-len 30000; echo $? >&2; } | head -c 9",
             in_model(""));
    hw_run_result r = shell(command);
    cr_expect_eq(r.n_out, 9);
    cr_expect(strstr(r.err, "headway: cannot write to standard output: Broken pipe\n1\n"), "%s", r.err);
    cr_expect_not(strstr(r.err, "headway: rank"), "%s", r.err);
    hw_run_free(&r);
}

/* ---- memory */

Test(bad_input, sizes_that_no_machine_has)
{
    model_like("tests/vectors/llama-gqa");
    replace_in("config.json", "\"max_position_embeddings\": 160", "\"max_position_embeddings\": 268435456");
    REFUSED(1, 4, WORDS("not enough memory", "MiB", "KV cache", "--max-model-len"), "generate", "-m",
            in_model(""), "--tokens", "1", "--max-model-len", "268435456");
    REFUSED(2, 4, WORDS("not enough memory", "MiB", "KV cache", "--max-model-len"), "generate", "-m",
            in_model(""), "--tokens", "1", "--max-model-len", "268435456");
    REFUSED(1, 4, WORDS("not enough memory", "MiB", "buffers", "--max-model-len"), "generate", "-m",
            in_model(""), "--tokens", "1", "--max-model-len", "268435456", "--kv-cache", "off");
}

/* models/tales caches 2048 bytes per token: a block of 16 tokens takes 32768 on one rank, 16384 on each of
 * two. */
Test(bad_input, caches_without_room_for_a_block_or_for_the_prompt)
{
    static const char prompt[] = "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17";
    REFUSED(2, 2, WORDS("12 bytes", "block of 16 tokens", "16384", "--kv-cache-memory"), "generate", "-m",
            TALES, "--tokens", "1", "--kv-cache-memory", "12");
    REFUSED(2, 4, WORDS("2 more blocks of 16 tokens", "17 tokens", "1 of 1", "--kv-cache-memory"), "generate",
            "-m", TALES, "--tokens", prompt, "--kv-cache-memory", "16K");
    REFUSED(1, 4, WORDS("2 neighbouring blocks", "17 tokens", "1 of 1", "--kv-cache-memory"), "generate",
            "-m", TALES, "--tokens", prompt, "--kv-cache-memory", "32K", "--kv-cache", "dynamic");
}

/* Prompt and new tokens are added up to a length, which must not pass an int. */
Test(bad_input, more_new_tokens_than_can_be_counted)
{
    REFUSED(1, 2, WORDS("max_model_len is 2147483647", "512 positions"), "traffic", "-m", TALES, "--tokens",
            "1,2,3", "-n", "2147483647");
}

/* The largest sizes that config.json may name: their products pass 64 bits. */
Test(bad_input, sizes_whose_product_overflows)
{
    static const char *const sizes[] = {
        "\"hidden_size\": 1048576, \"intermediate_size\": 1048576, \"num_hidden_layers\": 4096, "
        "\"num_attention_heads\": 1048576, \"num_key_value_heads\": 1048576, \"head_dim\": 1024",
        "\"hidden_size\": 1048576, \"intermediate_size\": 16, \"num_hidden_layers\": 4096, "
        "\"num_attention_heads\": 1048576, \"num_key_value_heads\": 1, \"head_dim\": 1024",
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char config[1024];
        model_like("tests/vectors/llama-gqa");
        snprintf(
            config, sizeof config,
            "{\"model_type\": \"llama\", \"vocab_size\": 256, \"max_position_embeddings\": 268435456, %s}",
            sizes[i]);
        write_text_in_model("config.json", config);
        REFUSED(1, 4, WORDS("not enough memory", "MiB"), "generate", "-m", in_model(""), "--tokens", "1",
                "--load-format", "dummy", "--dtype", "float32");
        REFUSED(1, 4, WORDS("not enough memory", "MiB"), "generate", "-m", in_model(""), "--tokens", "1",
                "--load-format", "dummy", "--max-model-len", "268435456");
    }
    replace_in("config.json", "\"head_dim\": 1024", "\"head_dim\": 1048576");
    REFUSED(1, 3, WORDS("config.json", "larger than Headway computes with"), "generate", "-m", in_model(""),
            "--tokens", "1", "--load-format", "dummy");
}

#ifndef HW_SANITIZE /* the address sanitizer reserves terabytes of addresses, so a limit on them is no limit on memory */
Test(bad_input, limit_on_the_memory_of_a_process)
{
    hw_run_result r = shell("ulimit -v 300000; exec " HEADWAY " generate -m " HW_SOURCE_DIR
                            "/models/shapes/llama-1b --load-format dummy --tokens 1");
    assert_one_message(&r, 1, 4, WORDS("not enough memory", "MiB", "weights 2357", "free"));
    cr_expect_str_eq(r.out, "");
    hw_run_free(&r);
}
#endif
