/* The program `headway`: runs a subcommand, and prints its error. */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/commands/commands.h"
#include "launch/report/machine.h"
#include "launch/settings/suggest.h"
#include "launch/version.h"
#include "parallel/comm.h"
#include "runtime/base/host.h"

static const struct {
    const char *name;
    hw_command *run;
    const char *what;
} commands[] = {
    {"generate", hw_cmd_generate, "continue a prompt"},
    {"logits", hw_cmd_logits, "write the logits of every prompt token to a .npy file"},
    {"perplexity", hw_cmd_perplexity, "measure how well the model predicts a text"},
    {"tokenize", hw_cmd_tokenize, "convert text to token ids"},
    {"detokenize", hw_cmd_detokenize, "convert token ids to text"},
    {"inspect", hw_cmd_inspect, "show what is in a model folder, and how Headway interprets it"},
    {"plan", hw_cmd_plan, "predict memory per rank and traffic per step, without loading anything"},
    {"traffic", hw_cmd_traffic, "generate, and report the traffic between ranks"},
    {"check", hw_cmd_check, "compare one rank with several: same bits, close, or wrong"},
    {"study", hw_cmd_study, "write a report that explains the KV cache and communication by measurements"},
    {"bench", hw_cmd_bench, "measure the speed of prefill and decode, also as a share of the machine's peak"},
    {"selftest", hw_cmd_selftest,
     "compare every op of this machine's devices with plain loops: run it first on new hardware"},
    {"probe", hw_cmd_probe, NULL}, /* for launch --check */
    {"launch", hw_cmd_launch, "run any of these on the machines that a YAML file describes"},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

bool hw_is_command(const char *name)
{
    for (int i = 0; i < N_COMMANDS; i++)
        if (!strcmp(commands[i].name, name)) return true;
    return false;
}

hw_status hw_no_such_command(const char *name, hw_error *err)
{
    const char *known[N_COMMANDS];
    char guess[64] = "";
    int n = 0;
    for (int i = 0; i < N_COMMANDS; i++)
        if (commands[i].what && strcmp(commands[i].name, name)) known[n++] = commands[i].name;
    const int nearest = hw_suggest(name, known, n);
    if (nearest >= 0) snprintf(guess, sizeof guess, " (did you mean %s?)", known[nearest]);
    return hw_fail(err, HW_ERR_INVALID, "there is no subcommand '%s'%s; 'headway --help' lists them", name,
                   guess);
}

static void print_usage(FILE *f)
{
    fprintf(f, "Usage: headway SUBCOMMAND [OPTION...]\n"
               "       mpirun -np N headway SUBCOMMAND [OPTION...]\n"
               "       headway launch CONFIG -- SUBCOMMAND [OPTION...]\n\n"
               "Runs decoder-only language models split over MPI ranks.\n\n");
    for (int i = 0; i < N_COMMANDS; i++)
        if (commands[i].what) fprintf(f, "  %-12s %s\n", commands[i].name, commands[i].what);
    fprintf(f, "\n'headway SUBCOMMAND --help' explains its options.\n"
               "Exit status: 0 done, 1 failed, 2 usage or configuration, 3 model files, 4 not enough memory, "
               "5 a rank died,\n"
               "was stopped, stuck or cut off, 6 device or collective library (docs/deployment.md).\n");
}

/* Help is printed without checking for errors, and a full disk may show only when the last of it is flushed. */
static void check_output(int status, void *unused)
{
    (void)unused;
    if (status) return; /* already reported */
    const int failed = ferror(stdout);
    if (!fflush(stdout) && !failed) return;
    fprintf(stderr, "headway: cannot write to standard output: %s\n", strerror(errno ? errno : EIO));
    _exit(1);
}

/* Whether this rank prints the error. An error with a rank is printed by that rank. An error without a rank was found by all ranks
 * alike, and rank 0 prints it; but a device or a library may have failed on this rank alone. */
static bool is_mine(hw_status st, const hw_error *err, int rank)
{
    if (err->rank >= 0) return err->rank == rank;
    return rank == 0 || st >= HW_ERR_RANK;
}

/* Only the rank that prints exits with an error code: mpirun kills all ranks once one has failed, and could otherwise kill the rank
 * that is about to print. No rank waits for another, which may be gone. */
static int tell(hw_status st, hw_error *err, int rank)
{
    if (!st || !is_mine(st, err, rank)) return 0;
    if (err->rank < 0 && rank) hw_rank_context(err, st, rank);
    fprintf(stderr, "headway: %s\n", err->message);
    return hw_exit_code(st);
}

int main(int argc, char **argv)
{
    const int rank = hw_comm_launched_rank(), prints = rank == 0;
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of the write */
    on_exit(check_output, NULL);
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))) {
        if (prints) print_usage(stdout);
        return 0;
    }
    if (argc > 1 && (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))) {
        if (prints) printf("headway %s, commit %s\n", HW_VERSION, hw_build_commit());
        return 0;
    }
    for (int i = 0; argc > 1 && i < N_COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name)) continue;
        hw_error err = {.rank = -1};
        const hw_status st = commands[i].run(argc - 1, argv + 1, &err);
        return tell(st, &err, rank);
    }
    if (!prints) return 0;
    if (argc > 1) {
        hw_error err;
        hw_no_such_command(argv[1], &err);
        fprintf(stderr, "headway: %s\n", err.message);
    } else print_usage(stderr);
    return 2;
}
