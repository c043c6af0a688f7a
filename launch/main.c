/* The program `headway`: finds the subcommand, runs it, says what went wrong. */
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
    {"perplexity", hw_cmd_perplexity, "how well the model predicts a text"},
    {"tokenize", hw_cmd_tokenize, "text to token ids"},
    {"detokenize", hw_cmd_detokenize, "token ids to text"},
    {"inspect", hw_cmd_inspect, "what is in a model folder, and what Headway makes of it"},
    {"plan", hw_cmd_plan, "memory per rank and traffic per step, before anything is loaded"},
    {"traffic", hw_cmd_traffic, "generate, and report what crossed between ranks"},
    {"check", hw_cmd_check, "the same prompt on one rank and on all: same bits, close, or wrong"},
    {"study", hw_cmd_study, "the KV cache and communication explained by measured numbers: a report"},
    {"bench", hw_cmd_bench, "speed of prefill and decode, beside what the machine allows"},
    {"selftest", hw_cmd_selftest,
     "every op of this machine's devices against plain loops: run it first on new hardware"},
    {"probe", hw_cmd_probe, NULL}, /* for launch --check */
    {"launch", hw_cmd_launch, "start any of these on the machines that a YAML file describes"},
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

/* Help is printed without looking whether it arrives, and that a disk is full may show when the last of it is written. */
static void check_output(int status, void *unused)
{
    (void)unused;
    if (status) return; /* has been told */
    const int failed = ferror(stdout);
    if (!fflush(stdout) && !failed) return;
    fprintf(stderr, "headway: cannot write to standard output: %s\n", strerror(errno ? errno : EIO));
    _exit(1);
}

/* Whether it is for this rank to say what went wrong. An error that has a rank is that rank's, whoever else has heard of it. One that
 * has none is a mistake that all ranks have found alike, and rank 0's; but a device or a library may have failed on this rank alone. */
static bool is_mine(hw_status st, const hw_error *err, int rank)
{
    if (err->rank >= 0) return err->rank == rank;
    return rank == 0 || st >= HW_ERR_DEVICE;
}

/* The rank that prints has the exit code, and the others have none: mpirun kills all ranks once one has failed, and would now and then
 * kill the one that is about to print. So no rank waits for another, which may not be there any more. */
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
