/* Collectives by NCCL between the ranks of the CUDA device, as the SIMT layer runs both, and which device and
 * collectives are taken when nobody says. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/json.h"
#include "tests/e2e/headway.h"
#include "tests/support/mpi_test.h"

#define GENERATE "generate", "-m", TALES, "-p", "Once", "-n", "3"
#define ON_SIMT  "--device", HW_SIMT_PLUGIN
#define BY_NCCL  ON_SIMT, "--comm", "nccl", "--stuck-after", "30" /* there are fewer cores than ranks */

#ifdef HW_SANITIZE
enum { SANITIZED = 1 }; /* several times slower */
#else
enum { SANITIZED = 0 };
#endif
enum { TIMEOUT_S = 600 };

/* A GPU for every rank. */
static void set_up(void)
{
    setenv("HW_NCCL", HW_SIMT_NCCL, 1);
    setenv("HW_SIMT_DEVICES", "4", 1);
}

static void passes(int n_ranks, const char *const argv[])
{
    hw_run_result r =
        n_ranks == 1 ? hw_run(argv, NULL, TIMEOUT_S) : hw_mpirun(n_ranks, argv, NULL, TIMEOUT_S);
    cr_expect_eq(r.exit_code, 0, "%d ranks: exit code %d\n%s\n%s", n_ranks, r.exit_code, r.out, r.err);
    hw_run_free(&r);
}

/* golden_worker.c says what is compared and how closely. */
static void match_transformers(int n_ranks)
{
    const char *const argv[] = {HW_BINARY_DIR "/tests/e2e/golden_worker",
                                "--device",
                                HW_SIMT_PLUGIN,
                                "--comm",
                                "nccl",
                                VECTORS "/llama-gqa-uneven",
                                NULL};
    passes(n_ranks, argv);
}

/* The sanitizers have seen the rest in test_device.c. */
Test(nccl, logits_match_transformers_on_2_ranks, .init = set_up) { match_transformers(2); }
#ifndef HW_SANITIZE
Test(nccl, logits_match_transformers_on_1_rank, .init = set_up) { match_transformers(1); }
Test(nccl, logits_match_transformers_on_4_ranks, .init = set_up) { match_transformers(4); }
#endif

Test(nccl, adds_alike_on_all_ranks, .init = set_up)
{
    const char *const argv[] = {HW_BINARY_DIR "/tests/runtime/comm_device_worker", HW_SIMT_PLUGIN, NULL};
    for (int n_ranks = 1; n_ranks <= 4; n_ranks += 1 + SANITIZED) passes(n_ranks, argv);
}

/* device_loop_worker.c says what is compared. */
Test(nccl, tokens_are_fed_back_as_if_they_came_from_the_host, .init = set_up)
{
    const char *const argv[] = {HW_BINARY_DIR "/tests/runtime/device_loop_worker", HW_SIMT_PLUGIN,
                                VECTORS "/llama-gqa-uneven", TALES, NULL};
    for (int n_ranks = 1; n_ranks <= 4; n_ranks *= 2)
        if (!SANITIZED || n_ranks == 2) passes(n_ranks, argv);
}

/* The payload of every site and phase, in the order of the report. How far loading is may be said beside. */
static bool read_payload(json_int_t payload[2][4], const char *const argv[])
{
    static const char *const phases[] = {"prefill", "decode"}, *const sites[] = {"embed", "attn", "mlp",
                                                                                 "sample"};
    hw_run_result r = run_headway(2, NULL, argv);
    json_t *j = json_loads(r.out, 0, NULL);
    const json_t *run = json_array_get(json_object_get(j, "runs"), 0);
    cr_assert(r.exit_code == 0 && run, "exit code %d\n%s\n%s", r.exit_code, r.out, r.err);
    for (int p = 0; p < 2; p++)
        for (int s = 0; s < 4; s++) {
            const json_t *phase = json_object_get(json_object_get(run, "phases"), phases[p]);
            const json_t *site = json_object_get(json_object_get(phase, "sites"), sites[s]);
            payload[p][s] = json_integer_value(json_object_get(site, "payload_bytes"));
        }
    const bool is_estimate = json_is_true(json_object_get(run, "sent_is_estimate"));
    json_decref(j);
    hw_run_free(&r);
    return is_estimate;
}

/* The report compares itself with the plan; here device is compared with CPU, as far as types are the same. */
Test(nccl, payload_is_that_of_the_cpu, .init = set_up)
{
#define COUNT(...)                                                                                           \
    (const char *const[]){HEADWAY, "traffic", "-m",      TALES,     "--tokens",  "1,2,3,4,5", "-n",          \
                          "4",     "--json",  "--dtype", "float32", __VA_ARGS__, NULL}
    json_int_t want[2][4], got[2][4];
    cr_expect_not(read_payload(want, COUNT("--device", "cpu")));
    cr_expect(read_payload(got, COUNT(BY_NCCL)));
    for (int p = 0; p < 2; p++)
        for (int s = 0; s < 4; s++) {
            cr_expect_eq(got[p][s], want[p][s], "phase %d, site %d: %lld and %lld B", p, s,
                         (long long)got[p][s], (long long)want[p][s]);
            cr_expect(got[p][s] > 0);
        }
}

/* Only messages of the control plane are left for Open MPI to count, and it counts as many as the meter. */
Test(nccl, traffic_verifies_what_is_left_to_mpi, .init = set_up)
{
    hw_run_result r =
        RUN(2, NULL, "traffic", "-m", TALES, "--tokens", "1,2,3", "-n", "3", "--verify", BY_NCCL);
    cr_expect_eq(r.exit_code, 0, "exit code %d\n%s", r.exit_code, r.err);
    cr_expect(strstr(r.out, "difference 0 B"), "%s", r.out);
    cr_expect(strstr(r.out, "an estimate"), "%s", r.out);
    cr_expect(strstr(r.out, "calls and payload of every site are as planned"), "%s", r.out);
    hw_run_free(&r);
}

/* What a run on 2 ranks prints; how far loading is may be said beside. */
static char *printed(const char *const argv[])
{
    hw_run_result r = run_headway(2, NULL, argv);
    cr_assert_eq(r.exit_code, 0, "exit code %d\n%s", r.exit_code, r.err);
    char *out = r.out;
    r.out = NULL;
    hw_run_free(&r);
    return out;
}
#define BENCH(...)                                                                                           \
    printed((const char *const[]){HEADWAY, "bench", "-m", TALES, "-pp", "0", "-tg", "2", "-r", "1",          \
                                  "--peaks", __VA_ARGS__, NULL})

/* Decode alone: products of a GPU's size would take the layer hours. */
Test(nccl, all_reduce_stands_beside_ours_in_a_benchmark, .init = set_up)
{
    char *out = BENCH("--json", BY_NCCL);
    json_t *j = json_loads(out, 0, NULL);
    const json_t *test = json_array_get(json_object_get(j, "tests"), 0);
    cr_expect(json_real_value(json_object_get(test, "nccl_all_reduce_us")) > 0, "%s", out);
    cr_expect(json_real_value(json_object_get(test, "all_reduce_over_nccl")) > 0, "%s", out);
    cr_expect_null(json_object_get(test, "mpi_all_reduce_us"), "%s", out);
    cr_expect(json_real_value(json_object_get(json_object_get(test, "limits"), "plain_read")) > 0, "%s", out);
    json_decref(j);
    free(out);
#ifndef HW_SANITIZE
    out = BENCH(BY_NCCL, "--cuda-graphs", "off");
    cr_expect(strstr(out, "over NCCL's") && !strstr(out, "over MPI's"), "%s", out);
    free(out);
    out = BENCH("--csv", ON_SIMT, "--comm", "mpi");
    cr_expect(strstr(out, ",library,library_all_reduce_us") && strstr(out, ",mpi,"), "%s", out);
    free(out);
#endif
}

/* ---- what goes wrong */

/* Rank 1 never comes to an all-reduce behind that of the proof, eleven while loading (1 to 512 rows, and keys), the embedding's, two of each
 * layer, and the first of layer 2. Both ranks wait in vain, and the one that is heard names it. */
Test(nccl, a_collective_that_one_rank_misses_is_named, .init = set_up)
{
    setenv("HW_SIMT_NCCL_STOP", "1:17", 1);
    hw_run_result r = RUN(2, NULL, GENERATE, ON_SIMT, "--comm", "nccl", "--stuck-after", "1");
    cr_expect_eq(r.exit_code, 5, "exit code %d\n%s", r.exit_code, r.err);
    cr_expect(strstr(r.err, "site attn, layer 2 (nccl) for up to 10 s"), "%s", r.err);
    cr_expect(strstr(r.err, "rank 0 on ") || strstr(r.err, "rank 1 on "), "%s", r.err);
    hw_run_free(&r);
}

/* The same in a graph, which holds its collectives until it is destroyed: the group is broken up while it lives. */
Test(nccl, a_graph_that_one_rank_misses_is_given_up, .init = set_up)
{
    setenv("HW_SIMT_NCCL_STOP", "1:56", 1);
    hw_run_result r = RUN(2, NULL, "generate", "-m", TALES, "-p", "Once", "-n", "12", ON_SIMT, "--comm",
                          "nccl", "--stuck-after", "1");
    cr_expect_eq(r.exit_code, 5, "exit code %d\n%s", r.exit_code, r.err);
    cr_expect(strstr(r.err, "a collective of a decode step's graph"), "%s", r.err);
    hw_run_free(&r);
}

/* And in the graph of a measurement, beside which no other holds anything. */
Test(nccl, a_measurement_that_one_rank_misses_is_given_up, .init = set_up)
{
    const char *const argv[] = {HW_BINARY_DIR "/tests/runtime/comm_device_worker", HW_SIMT_PLUGIN, "measure",
                                NULL};
    setenv("HW_SIMT_NCCL_STOP", "1:4", 1); /* one in the proof, one alone, then those of the graph */
    passes(2, argv);
}

Test(nccl, that_adds_wrongly_is_not_used, .init = set_up)
{
    setenv("HW_SIMT_NCCL_WRONG", "1", 1);
    REFUSED(2, 6,
            WORDS("collectives \"nccl\": an all-reduce over 2 ranks gives", "--comm mpi", "HW_PROVE=off"),
            GENERATE, BY_NCCL);
}

/* Where ranks come together there is no stream yet that could be waited for. */
Test(nccl, whose_ranks_do_not_come_together_is_given_up, .init = set_up)
{
    setenv("HW_SIMT_NCCL_STOP", "1:init", 1);
    REFUSED(2, 5, WORDS("making the communicator: other ranks did not come within 10 s"), GENERATE, ON_SIMT,
            "--comm", "nccl", "--stuck-after", "1");
}

/* The first collective that there is. */
Test(nccl, that_hangs_at_the_start_is_given_up, .init = set_up)
{
    setenv("HW_SIMT_NCCL_STOP", "1:0", 1);
    hw_run_result r = RUN(2, NULL, GENERATE, ON_SIMT, "--comm", "nccl", "--stuck-after", "1");
    cr_expect_eq(r.exit_code, 5, "exit code %d\n%s", r.exit_code, r.err);
    cr_expect(strstr(r.err, "site load") && strstr(r.err, "(nccl) for up to 10 s"), "%s", r.err);
    hw_run_free(&r);
}

Test(nccl, that_is_not_there, .init = set_up)
{
    setenv("HW_NCCL", "/nowhere/libnccl.so.2", 1);
    for (int n_ranks = 1; n_ranks <= 2; n_ranks++)
        REFUSED(n_ranks, 6, WORDS("NCCL was not found", "/nowhere/libnccl.so.2", "--comm mpi"), GENERATE,
                BY_NCCL);
    setenv("HW_NCCL", HW_SIMT_PLUGIN, 1); /* a library, but another */
    REFUSED(1, 6, WORDS("lacks nccl", "--comm mpi"), GENERATE, BY_NCCL);
}

Test(nccl, with_more_ranks_than_gpus_says_who_shares, .init = set_up)
{
    setenv("HW_SIMT_DEVICES", "2", 1);
    REFUSED(3, 6, WORDS("ranks 0 and 2 share cuda 0", "--comm mpi", "CUDA_VISIBLE_DEVICES"), GENERATE,
            BY_NCCL);
    setenv("HW_SIMT_DEVICES", "1", 1);
    REFUSED(4, 6, WORDS("ranks 0, 1, 2 and 3 share"), GENERATE, BY_NCCL);
}

Test(nccl, wants_a_device_that_has_it, .init = set_up)
{
    for (int n_ranks = 1; n_ranks <= 2; n_ranks++)
        REFUSED(n_ranks, 6, WORDS("\"nccl\" are not part of device", "cpu"), GENERATE, "--device", "cpu",
                "--comm", "nccl");
}

#ifndef HW_SANITIZE /* steps of the layer take seconds then */
/* Loading may take ten times as long as a step: what libraries do when they are first used has to be a part of it. */
Test(nccl, libraries_that_are_slow_at_first_keep_no_step_waiting, .init = set_up)
{
    char file[] = "/tmp/headway-test-XXXXXX";
    static const char config[] =
        "model: {path: " VECTORS "/llama-gqa-uneven}\nparallelism: {ranks: 2}\nlimits: {stuck_after: 3}\n";
    const int fd = mkstemp(file);
    cr_assert(fd >= 0 && write(fd, config, sizeof config - 1) == (ssize_t)sizeof config - 1 && !close(fd));
    setenv("HW_SIMT_LAZY_MS", "4000", 1);
    setenv("HW_PROVE", "off", 1);
    hw_run_result r = RUN(1, NULL, "launch", file, "--", "generate", "--tokens", "1,2,3,4,5,6,7,8,9,10,11,12",
                          "-n", "3", ON_SIMT, "--comm", "nccl");
    cr_expect_eq(r.exit_code, 0, "exit code %d\n%s", r.exit_code, r.err);
    hw_run_free(&r);
    unlink(file);
}
#endif

/* ---- what is taken when nobody says. HW_SIMT_AS_CUDA is a folder with the plug-in under CUDA's name. */

static void expect_taken(int n_ranks, const char *device, const char *comm, const char *const argv[])
{
    hw_run_result r = run_headway(n_ranks, NULL, argv);
    cr_expect_eq(r.exit_code, 0, "%d ranks: exit code %d\n%s", n_ranks, r.exit_code, r.err);
    cr_expect(strstr(r.err, device) && strstr(r.err, comm), "%d ranks: wanted %s, %s\n%s", n_ranks, device,
              comm, r.err);
    hw_run_free(&r);
}
#define TAKES(n_ranks, device, comm, ...)                                                                    \
    expect_taken(n_ranks, device, comm,                                                                      \
                 (const char *const[]){HEADWAY, GENERATE, "--stats", __VA_ARGS__, NULL})

Test(automatic, takes_gpus_where_every_rank_has_one, .init = set_up)
{
    setenv("HW_PLUGIN_PATH", HW_SIMT_AS_CUDA, 1);
    TAKES(1, "cuda 0", "collectives self", "--device", "auto");
    TAKES(2, "cuda 0", "collectives nccl", "--device", "auto");
    TAKES(2, "graphs                 none: sums go through host memory (--comm nccl", "collectives mpi",
          "--comm", "mpi");
    setenv("HW_SIMT_DEVICES", "1", 1);
    TAKES(2, " cpu ", "collectives shm", "--device", "auto");
    TAKES(2, "cuda 0", "collectives shm", "--device", "cuda");
}

/* A driver that is not used is worth a line; where there is none, nothing is missing. */
Test(automatic, says_why_it_does_without_a_gpu, .init = set_up)
{
    setenv("HW_PLUGIN_PATH", HW_SIMT_AS_CUDA, 1);
    setenv("HW_SIMT_DEVICES", "1", 1);
    TAKES(2, " cpu ", "headway: ranks compute on the CPU: ranks 0 and 1 would share a GPU; --device cuda",
          "--device", "auto");
    setenv("HW_SIMT_DEVICES", "0", 1);
    TAKES(1, " cpu ", "headway: ranks compute on the CPU: device cuda: no GPU is visible", "--device",
          "auto");
    setenv("HW_SIMT_DRIVER", "12080", 1);
    TAKES(1, " cpu ", "headway: ranks compute on the CPU: device cuda: the NVIDIA driver is for CUDA 12.8",
          "--device", "auto");
    setenv("HW_SIMT_DRIVER", "13000", 1);
    setenv("HW_SIMT_DEVICES", "1", 1);
    setenv("HW_CUBLASLT", "/nowhere/libcublasLt.so.13", 1);
    TAKES(1, " cpu ", "headway: ranks compute on the CPU: device cuda: cuBLASLt was not found", "--device",
          "auto");
    setenv("HW_SIMT_DRIVER", "0", 1);
    free(OUTPUT(1, GENERATE, "--device", "auto"));
}

/* On all ranks, whichever it is, and one line says why. */
Test(automatic, does_without_a_gpu_that_computes_wrongly, .init = set_up)
{
    setenv("HW_PLUGIN_PATH", HW_SIMT_AS_CUDA, 1);
    setenv("HW_SIMT_SKIP_KERNEL", "1", 1);
    TAKES(1, " cpu ", "headway: ranks compute on the CPU: device cuda: cuda 0, SIMT layer", "--device",
          "auto");
    setenv("HW_SIMT_SKIP_KERNEL", "1@1", 1);
    hw_run_result r = RUN(2, NULL, GENERATE, "--stats", "--device", "auto");
    const char *said = strstr(r.err, "headway: ranks compute on the CPU: rank 1 on ");
    cr_expect_eq(r.exit_code, 0, "exit code %d\n%s", r.exit_code, r.err);
    cr_expect(said && strstr(r.err, " cpu ") && strstr(said, "a product of 3 rows"), "%s", r.err);
    cr_expect(said && !strstr(said + 1, "headway: "), "more than one line: %s", r.err);
    hw_run_free(&r);
}

/* ---- cuBLASLt, which a plug-in without a folder of CUDA beside it has to find */

static void make_link(const char *folder, const char *name, const char *to)
{
    char path[256];
    for (size_t i = 1; folder[i]; i++) {
        snprintf(path, sizeof path, "%.*s", (int)i, folder);
        if (folder[i] == '/') mkdir(path, 0755);
    }
    mkdir(folder, 0755);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    cr_assert_eq(symlink(to, path), 0);
}

Test(cublaslt, is_found_where_cuda_and_python_keep_it, .init = set_up)
{
    static const char *const places[][2] = {
        {"CUDA_HOME", "lib64"},
        {"VIRTUAL_ENV", "lib/python3.12/site-packages/nvidia/cu13/lib"},
        {"CONDA_PREFIX", "lib"},
    };
    char root[] = "/tmp/headway-test-XXXXXX", folder[128], command[64];
    cr_assert_not_null(mkdtemp(root));
    snprintf(folder, sizeof folder, "%s/alone", root);
    make_link(folder, "libheadway_cuda.so", HW_SIMT_PLUGIN);
    setenv("HW_PLUGIN_PATH", folder, 1);
    unsetenv("CUDA_HOME"), unsetenv("CUDA_PATH");
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(folder, sizeof folder, "%s/%zu/%s", root, i, places[i][1]);
        make_link(folder, "libcublasLt.so.13", HW_SIMT_BLAS);
        snprintf(folder, sizeof folder, "%s/%zu", root, i);
        setenv(places[i][0], folder, 1);
        free(OUTPUT(1, GENERATE, "--device", "cuda"));
        unsetenv(places[i][0]);
    }
    snprintf(command, sizeof command, "rm -r %s", root);
    cr_expect_eq(system(command), 0);
}

Test(cublaslt, that_is_not_there_or_another_library_is_named, .init = set_up)
{
    setenv("HW_CUBLASLT", "/nowhere/libcublasLt.so.13", 1);
    REFUSED(1, 6, WORDS("cuBLASLt was not found", "/nowhere/libcublasLt.so.13", "--device cpu"), GENERATE,
            ON_SIMT);
    setenv("HW_CUBLASLT", HW_SIMT_PLUGIN, 1);
    REFUSED(2, 6, WORDS("is no cuBLASLt: it lacks cublasLtGetVersion"), GENERATE, ON_SIMT);
}

Test(automatic, does_without_an_nccl_that_is_not_there, .init = set_up)
{
    setenv("HW_NCCL", "/nowhere/libnccl.so.2", 1);
    TAKES(2, "cuda 0", "collectives shm", ON_SIMT);
}

Test(device, says_what_is_wrong_with_the_driver, .init = set_up)
{
    setenv("HW_SIMT_DRIVER", "0", 1);
    REFUSED(1, 6, WORDS("no NVIDIA driver", "--device cpu"), GENERATE, ON_SIMT);
    setenv("HW_SIMT_DRIVER", "12080", 1);
    REFUSED(2, 6, WORDS("driver is for CUDA 12.8", "wants 13.0 or later", "update"), GENERATE, ON_SIMT);
    setenv("HW_SIMT_DRIVER", "13000", 1);
    setenv("HW_SIMT_DEVICES", "0", 1);
    REFUSED(2, 6, WORDS("no GPU is visible", "--device cpu"), GENERATE, ON_SIMT);
}

/* The driver that it started lives until the process ends, and calls back then. */
Test(device, that_could_not_be_made_leaves_its_plug_in_mapped, .init = set_up)
{
    char *want = OUTPUT(1, GENERATE, "--device", "cpu");
    setenv("HW_PLUGIN_PATH", HW_SIMT_AS_CUDA, 1);
    setenv("HW_SIMT_DRIVER", "12080", 1);
    hw_run_result r = RUN(1, NULL, GENERATE, "--device", "auto");
    cr_expect_eq(r.exit_code, 0, "exit code %d\n%s", r.exit_code, r.err);
    cr_expect_str_eq(r.out, want);
    hw_run_free(&r);
    free(want);
}

/* The layer's device has 2048 MiB, of which its own work space takes some. 256 MiB are set aside. */
Test(device, is_planned_for_with_its_own_memory, .init = set_up)
{
    char *out = OUTPUT(1, "plan", "-m", TALES, "--ranks", "1,2", "--json", ON_SIMT);
    json_t *j = json_loads(out, 0, NULL), *plans = json_object_get(j, "plans");
    cr_assert(plans, "%s", out);
    cr_expect(strstr(json_string_value(json_object_get(j, "device")), "cuda 0"), "%s", out);
    for (size_t i = 0; i < 2; i++) {
        const json_t *most = json_object_get(json_array_get(plans, i), "most");
        json_int_t sum = 256 << 20;
        static const char *const parts[] = {"weight_bytes", "kv_bytes", "buffer_bytes"};
        for (int k = 0; k < 3; k++) sum += json_integer_value(json_object_get(most, parts[k]));
        cr_expect_eq(json_integer_value(json_object_get(most, "total_bytes")), sum, "%s", out);
    }
    json_decref(j);
    free(out);
    setenv("HW_SIMT_DRIVER", "0", 1);
    REFUSED(1, 6, WORDS("no NVIDIA driver"), "plan", "-m", TALES, ON_SIMT);
}

/* Before anything is loaded, with the numbers; a second GPU takes half of the ranks, not half of the bytes. */
Test(device, that_is_too_small_is_said_by_the_plan, .init = set_up)
{
#define LLAMA_1B "plan", "-m", HW_SOURCE_DIR "/models/shapes/llama-1b", "--dtype", "float32", ON_SIMT
    hw_run_result r = RUN(1, NULL, LLAMA_1B, "--ranks", "1,2");
    cr_expect_eq(r.exit_code, 4, "exit code %d\n%s", r.exit_code, r.err);
    cr_expect(strstr(r.err, "set aside for graphs and collectives 256 MiB") && strstr(r.err, "weights"), "%s",
              r.err);
    hw_run_free(&r);
    free(OUTPUT(1, LLAMA_1B, "--ranks", "4", "--max-model-len", "512"));
}

/* Whichever allocation it is that fails: at the start, of weights, of the cache, of a step. */
Test(device, out_of_memory_after_all_ends_cleanly, .init = set_up)
{
    for (int n = 1; n <= 41; n += 8) {
        char number[8];
        snprintf(number, sizeof number, "%d", n);
        setenv("HW_SIMT_FAIL_MALLOC", number, 1);
        REFUSED(1, 4, WORDS("device cuda: no memory for", "MiB are free"), GENERATE, ON_SIMT);
    }
    REFUSED(2, 4, WORDS("device cuda: no memory for"), GENERATE, BY_NCCL);
}

/* ---- a GPU that is lost: a call of CUDA (`which`) and all after it fail */

static void loses_its_gpu(int n_ranks, const char *which, const char *comm, const char *word)
{
    setenv("HW_SIMT_FAIL_AFTER", which, 1);
    hw_run_result r = RUN(n_ranks, NULL, "generate", "-m", TALES, "-p", "Once", "-n", "6", ON_SIMT, "--comm",
                          comm, "--stuck-after", "1");
    const char *said = strstr(r.err, "headway: ");
    cr_expect_eq(r.exit_code, 6, "%s: exit code %d\n%s", which, r.exit_code, r.err);
    cr_expect(said && strstr(said, word) && !strstr(said + 1, "headway: "), "%s: %s", which, r.err);
    hw_run_free(&r);
}

/* When the device is made, tried and loaded, and in a step. */
Test(device, that_is_lost_is_told_once, .init = set_up)
{
    static const char *const calls[] = {"1", "9", "90", "250", "330"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        loses_its_gpu(1, calls[i], "auto", "device cuda");
}

/* While ranks load they agree, and in a step the one that fails ends all. The other may have waited for it in a collective
 * until the deadline passed (the 250th call), which is not the reason to tell. */
Test(device, that_is_lost_on_one_rank_ends_all, .init = set_up)
{
    loses_its_gpu(2, "9@1", "nccl", "rank 1 on ");
    loses_its_gpu(2, "250@1", "nccl", "rank 1 on ");
    loses_its_gpu(2, "500@1", "nccl", "rank 1 on ");
    loses_its_gpu(2, "350@1", "mpi", "rank 1 on ");
}
