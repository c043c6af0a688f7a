/* headway launch and -c: a run that a file describes is the run that the same options describe, and ends as
 * it does. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/headway.h"

#define CONFIGS HW_SOURCE_DIR "/configs"
#define DEMO    CONFIGS "/demo.yaml"

static char file[] = "/tmp/headway-launch-XXXXXX";

/* Paths in configs/demo.yaml are from the root of the repository. */
static void set_up(void)
{
    cr_assert_eq(chdir(HW_SOURCE_DIR), 0);
    setenv("HWLOC_COMPONENTS", "-gl", 0);
    setenv("ASAN_OPTIONS", "fast_unwind_on_malloc=0", 0);
    setenv("LSAN_OPTIONS", "print_suppressions=0:suppressions=" HW_SOURCE_DIR "/tests/support/lsan.supp", 0);
}

static const char *write_config(const char *text)
{
    strcpy(file, "/tmp/headway-launch-XXXXXX");
    const int fd = mkstemp(file);
    cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && !close(fd));
    return file;
}

static void tear_down(void)
{
    if (!strstr(file, "XXXXXX")) unlink(file);
}

TestSuite(launch, .init = set_up, .fini = tear_down);

/* ---- --dry-run */

Test(launch, every_configuration_that_is_shipped_can_be_composed)
{
    DIR *folder = opendir(CONFIGS);
    int n = 0;
    cr_assert_not_null(folder);
    for (const struct dirent *e; (e = readdir(folder));) {
        char path[512];
        if (!strstr(e->d_name, ".yaml")) continue;
        snprintf(path, sizeof path, CONFIGS "/%s", e->d_name);
        char *out = output_of(1, (const char *const[]){HEADWAY, "launch", path, "--dry-run", "--", "generate",
                                                       "-p", "it's \"x\" $y", NULL});
        const char *launcher = strcmp(e->d_name, "slurm.yaml") ? "mpirun " : "srun ";
        cr_expect(!strncmp(out, launcher, strlen(launcher)), "%s", out);
        cr_expect(strstr(out, " generate -c " CONFIGS "/"), "%s", out);
        cr_expect(strstr(out, " -p 'it'\\''s \"x\" $y'\n"), "%s", out);
        cr_expect_eq(strchr(out, '\n') + 1, out + strlen(out), "more than a line: %s", out);
        free(out);
        n++;
    }
    closedir(folder);
    cr_expect_geq(n, 5);
}

/* A shell that is given the line does what launch does without --dry-run. */
Test(launch, dry_run_prints_what_is_run)
{
    char *line =
        OUTPUT(1, "launch", DEMO, "--dry-run", "--", "generate", "-p", "Once upon a time", "-n", "12");
    hw_run_result by_hand = hw_run((const char *const[]){"sh", "-c", line, NULL}, NULL, HEADWAY_TIMEOUT_S);
    char *launched = OUTPUT(1, "launch", DEMO, "--", "generate", "-p", "Once upon a time", "-n", "12");
    cr_expect_eq(by_hand.exit_code, 0, "%s", by_hand.err);
    cr_expect_str_eq(by_hand.out, launched);
    free(line);
    free(launched);
    hw_run_free(&by_hand);
}

Test(launch, check_prints_how_it_would_look)
{
    char *out = OUTPUT(1, "launch", CONFIGS "/two-nodes.yaml", "--check", "--dry-run");
    cr_expect(strstr(out, "ssh -o BatchMode=yes -o ConnectTimeout=5 node2 'cd "), "%s", out);
    cr_expect(strstr(out, " -x HWLOC_COMPONENTS=-gl "), "%s", out);
    cr_expect(strstr(out, " probe -c " CONFIGS "/two-nodes.yaml --pairs\n"), "%s", out);
    free(out);
    write_config("model: {path: /m}\ncluster: {launcher: srun, hosts: [{name: a}, {name: b}]}\n");
    out = OUTPUT(1, "launch", file, "--dry-run", "--check", "--", "generate", "-t", "3");
    cr_expect_eq(
        strstr(out, "srun --mpi=none --input=none --ntasks-per-node=1 --nodes=2 --nodelist=a,b sh -c 'cd "),
        out, "%s", out);
    cr_expect(strstr(out, "--cpus-per-task=3"), "%s", out);
    free(out);
}

/* ---- running */

Test(launch, demo_says_what_a_direct_run_says)
{
    char *direct = OUTPUT(1, "generate", "-m", TALES, "-p", "Once upon a time", "-n", "24");
    char *launched = OUTPUT(1, "launch", DEMO, "--", "generate", "-p", "Once upon a time", "-n", "24");
    cr_expect_str_eq(launched, direct);
    char *json = OUTPUT(1, "launch", DEMO, "--", "generate", "-p", "Once", "-n", "2", "--json");
    cr_expect(strstr(json, "\"ranks\": 2"), "%s", json);
    hw_run_result piped = RUN(1, "Once upon a time", "launch", DEMO, "--", "generate", "-", "-n", "24");
    cr_expect_str_eq(piped.out, direct, "%s", piped.err);
    free(direct), free(launched), free(json);
    hw_run_free(&piped);
}

Test(launch, options_of_the_subcommand_are_its_own)
{
    char *out = OUTPUT(1, "launch", DEMO, "generate", "-p", "Once", "-n", "2", "--kv-cache=off", "--json");
    cr_expect(strstr(out, "\"kv_cache\": \"off\""), "%s", out);
    free(out);
    out = OUTPUT(1, "launch", DEMO, "--dry-run", "--", "generate", "-p", "--dry-run", "-t", "1");
    cr_expect(strstr(out, "-p --dry-run -t 1\n"), "%s", out);
    free(out);
}

/* What mpirun adds on standard error is its own. */
static void ends_with(int exit_code, const char *word, const char *const argv[])
{
    hw_run_result r = hw_run(argv, NULL, HEADWAY_TIMEOUT_S);
    cr_expect_eq(r.exit_code, exit_code, "exit code %d: %s", r.exit_code, r.err);
    cr_expect(strstr(r.err, word), "'%s' is not in: %s", word, r.err);
    cr_expect_str_eq(r.out, "");
    hw_run_free(&r);
}
#define ENDS_WITH(exit_code, word, ...)                                                                      \
    ends_with(exit_code, word, (const char *const[]){HEADWAY, "launch", __VA_ARGS__, NULL})

Test(launch, the_exit_code_is_the_subcommands)
{
    ENDS_WITH(2, "\"tpu\" is not known", DEMO, "--", "generate", "-p", "x", "--device", "tpu");
    ENDS_WITH(2, "no-such-option", DEMO, "--", "generate", "--no-such-option");
    ENDS_WITH(3, "/nowhere: No such file", DEMO, "--", "generate", "-m", "/nowhere", "-p", "x");
}

Test(launch, what_cannot_be_launched)
{
    REFUSED(1, 2, WORDS("/nowhere.yaml", "No such file"), "launch", "/nowhere.yaml", "--", "generate");
    REFUSED(1, 2, WORDS("no subcommand 'genrate'"), "launch", DEMO, "--", "genrate");
    REFUSED(1, 2, WORDS("no subcommand 'launch'"), "launch", DEMO, "--", "launch", DEMO);
    REFUSED(2, 2, WORDS("without mpirun"), "launch", DEMO, "--", "generate");
    MISUSED(1, WORDS("name a YAML file"), "launch");
    MISUSED(1, WORDS("no subcommand"), "launch", DEMO);
    MISUSED(1, WORDS("--chekc"), "launch", "--chekc", DEMO);
    write_config("cluster:\n  lancher: srun\n");
    REFUSED(1, 2, WORDS(file, ":2:3: ", "did you mean cluster.launcher?"), "launch", file, "--dry-run", "--",
            "generate");
    setenv("PATH", "/nowhere", 1);
    REFUSED(1, 1, WORDS("cannot start mpirun", "in PATH"), "launch", DEMO, "--", "generate", "-p", "x");
}

/* ---- signals */

/* Processes of the program that were started with this configuration, launch itself not among them; in `pids`
 * [16]. */
static int find_ranks(const char *config, pid_t *pids)
{
    int n = 0;
    DIR *proc = opendir("/proc");
    for (const struct dirent *e; (e = readdir(proc));) {
        char path[300], line[4096] = "";
        snprintf(path, sizeof path, "/proc/%s/cmdline", e->d_name);
        FILE *f = atoi(e->d_name) > 0 ? fopen(path, "re") : NULL;
        if (!f) continue;
        const size_t got = fread(line, 1, sizeof line - 1, f);
        fclose(f);
        for (size_t i = 0; i < got; i++)
            if (!line[i]) line[i] = ' ';
        if (n < 16 && strstr(line, config) && !strncmp(line, HEADWAY " generate", sizeof HEADWAY + 8))
            pids[n++] = atoi(e->d_name);
    }
    closedir(proc);
    return n;
}

static void ends_all_ranks(int signal_number)
{
    pid_t pids[16], launcher;
    int n = 0, status;
    char *config = realpath(write_config("model: {path: models/tales}\nparallelism: {ranks: 2}\n"), NULL);
    const char *const argv[] = {HEADWAY, "launch", config, "--", "generate", "-", NULL};
    int in[2];
    cr_assert_eq(pipe(in), 0); /* rank 0 waits for its prompt until it is told to end */
    cr_assert_geq(launcher = fork(), 0);
    if (!launcher) {
        dup2(in[0], 0);
        close(in[0]), close(in[1]);
        close(2);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    for (int tries = 0; tries < 600 && (n = find_ranks(config, pids)) < 2; tries++) usleep(100000);
    cr_assert_eq(n, 2, "%d ranks are there", n);
    kill(launcher, signal_number);
    cr_assert_eq(waitpid(launcher, &status, 0), launcher);
    if (signal_number != SIGKILL) cr_expect(WIFEXITED(status) && WEXITSTATUS(status), "status %x", status);
    for (int i = 0; i < n; i++) cr_expect(hw_process_ends_soon(pids[i]), "rank process %d goes on", pids[i]);
    close(in[0]), close(in[1]);
    free(config);
}

Test(launch, sigterm_ends_all_ranks) { ends_all_ranks(SIGTERM); }
Test(launch, sigint_ends_all_ranks) { ends_all_ranks(SIGINT); }
Test(launch, sighup_ends_all_ranks) { ends_all_ranks(SIGHUP); }
Test(launch, without_launch_the_ranks_end_too) { ends_all_ranks(SIGKILL); }

/* ---- -c */

Test(launch, flags_override_the_file_and_the_file_the_defaults)
{
    write_config(
        "model: {path: models/tales}\nsampling: {max_tokens: 3, temperature: 0.9, top_k: 5, stop: [\"q!\"]}\n"
        "cache: {policy: dynamic}\n");
    for (int n_ranks = 1; n_ranks <= 2; n_ranks++) {
        char *from_file = OUTPUT(n_ranks, "generate", "-c", file, "-p", "Once upon a time");
        char *by_options = OUTPUT(n_ranks, "generate", "-m", TALES, "-p", "Once upon a time", "-n", "3",
                                  "--temperature", "0.9", "--top-k", "5", "--stop", "q!");
        cr_expect_str_eq(from_file, by_options);
        char *greedy = OUTPUT(n_ranks, "generate", "-p", "Once", "-c", file, "-n", "2", "--temperature", "0",
                              "--kv-cache", "paged", "--json");
        cr_expect(strstr(greedy, "\"completion_tokens\": 2"), "%s", greedy);
        cr_expect(strstr(greedy, "\"kv_cache\": \"paged\""), "%s", greedy);
        free(from_file), free(by_options), free(greedy);
    }
}

Test(launch, every_subcommand_with_a_model_takes_a_file)
{
    write_config("model: {path: models/tales}\n");
    char *ids = OUTPUT(1, "tokenize", "-c", file, "-p", "Once upon");
    ids[strcspn(ids, "\n")] = '\0';
    char *text = OUTPUT(1, "detokenize", "-c", file, "--tokens", ids);
    cr_expect(strstr(text, "Once upon"), "%s", text);
    free(OUTPUT(1, "inspect", "-c", file));
    free(OUTPUT(1, "plan", "-c", file));
    free(OUTPUT(2, "perplexity", "-c", file, "-p", "Once upon a time"));
    free(OUTPUT(2, "traffic", "-c", file, "-p", "Once upon a time", "-n", "2", "--verify"));
    char *json = OUTPUT(2, "traffic", "-c", file, "-p", "Once upon a time", "-n", "2", "--json");
    cr_expect(strstr(json, "\"model\": \"models/tales\""), "%s", json);
    free(json);
    free(OUTPUT(2, "bench", "-c", file, "-p", "2", "-n", "1", "-r", "1"));
    free(ids), free(text);
}

Test(launch, mistakes_in_a_file_end_all_ranks_with_one_message)
{
    for (int n_ranks = 1; n_ranks <= 2; n_ranks++) {
        write_config("model: {path: models/tales}\nparallelism: {threads: yes}\n");
        REFUSED(n_ranks, 2, WORDS(file, ":2:24: parallelism.threads is 'yes'"), "generate", "-c", file, "-p",
                "x");
        unlink(file);
        REFUSED(n_ranks, 2, WORDS(file, "No such file"), "generate", "-c", file, "-p", "x");
        write_config("cache: {policy: off}\n");
        REFUSED(n_ranks, 2, WORDS("no model", "model.path", "-m FOLDER"), "generate", "-c", file, "-p", "x");
        REFUSED(n_ranks, 2, WORDS("--dummy-seed"), "generate", "-c", file, "-m", TALES, "-p", "x",
                "--dummy-seed", "3");
        unlink(file);
        write_config("collectives: {backend: nccl}\ndevice: {kind: cpu}\n");
        REFUSED(n_ranks, 6, WORDS("\"nccl\"", "not part of device"), "generate", "-c", file, "-m", TALES,
                "-p", "x");
        unlink(file);
    }
}

/* Rank 0 begins where the file is and the other one where it is not, as on another host. */
Test(launch, only_rank_0_opens_the_file)
{
    write_config("model: {path: " TALES "}\nsampling: {max_tokens: 4}\n");
    char *config = realpath(file, NULL), shell[1024];
    snprintf(shell, sizeof shell,
             "if [ $OMPI_COMM_WORLD_RANK = 0 ]; then exec %s generate -c %s -p Once; "
             "else exec %s generate -c /nowhere.yaml -p Once; fi",
             HEADWAY, config, HEADWAY);
    hw_run_result r = run_headway(2, NULL, (const char *const[]){"sh", "-c", shell, NULL});
    char *direct = OUTPUT(1, "generate", "-m", TALES, "-p", "Once", "-n", "4");
    cr_expect_eq(r.exit_code, 0, "%s", r.err);
    cr_expect_str_eq(r.out, direct);
    hw_run_free(&r);
    free(direct), free(config);
}

/* ---- ranks that were started with something else */

/* Rank 1 gets these words behind those that both get. */
static void rank_1_differs(const char *words, const char *message)
{
    char shell[2048];
    snprintf(shell, sizeof shell,
             "if [ $OMPI_COMM_WORLD_RANK = 0 ]; then exec %s generate --tokens 1 -n 2 -m %s; "
             "else exec %s generate --tokens 1 -n 2 -m %s %s; fi",
             HEADWAY, TALES, HEADWAY, TALES, words);
    hw_run_result r = run_headway(2, NULL, (const char *const[]){"sh", "-c", shell, NULL});
    assert_one_message(&r, 2, 2, WORDS("rank 1 on ", message, "rank 0 on "));
    hw_run_free(&r);
}

Test(launch, ranks_with_other_options_are_told_so) { rank_1_differs("--seed 3", "other options"); }

Test(launch, ranks_with_another_model_are_told_so)
{
    rank_1_differs("-m " VECTORS "/llama-gqa", "another config.json");
}
