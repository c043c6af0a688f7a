/* A job that waits for its prompt takes no core, and writes as usual once it is there. Processor time is judged, which does not
 * depend on what else the machine does. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "tests/e2e/headway.h"
#include "tests/faults/processes.h"

enum { N_RANKS = 2, SILENT_S = 2, START_S = 60, LOOK_US = 5000 };

/* Of a core, for each rank. One that spins takes all that it gets of one; one that looks 150 times a second takes a few
 * thousandths. */
static const double MOST = 0.1;

static const char prompt[] = "Once upon a time";

/* Of all its threads; 0 for a process that has ended. */
static double processor_seconds(pid_t pid)
{
    struct timespec t;
    clockid_t its;
    return clock_getcpuclockid(pid, &its) || clock_gettime(its, &t)
               ? 0
               : (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* False when they do not come to wait for the prompt. */
static bool wait_for_ranks(processes *p, const char *mark)
{
    const uint64_t start_ns = hw_clock_ns();
    for (; hw_seconds_since(start_ns) < START_S; usleep(LOOK_US)) {
        bool wait = (*p = find_processes(mark)).n_ranks == N_RANKS;
        for (int i = 0; i < p->n && wait; i++) wait = p->all[i].rank <= 0 || naps(p->all[i].pid);
        if (wait) return true;
    }
    return false;
}

/* The largest part of a core that a rank takes while the pipe is silent, -1 when there are no ranks. Opens the pipe, which
 * lets rank 0 read from it, before the ranks are looked for: until then it waits for a writer. */
static double measure(const char *mark, const char *pipe, FILE **writer)
{
    double before[MAX_PROCESSES], most = -1;
    processes p;
    *writer = fopen(pipe, "we");
    if (!*writer || !wait_for_ranks(&p, mark)) return -1;
    const uint64_t start_ns = hw_clock_ns();
    for (int i = 0; i < p.n; i++) before[i] = processor_seconds(p.all[i].pid);
    sleep(SILENT_S);
    const double seconds = hw_seconds_since(start_ns);
    for (int i = 0; i < p.n; i++) {
        const double part = (processor_seconds(p.all[i].pid) - before[i]) / seconds;
        if (p.all[i].rank >= 0 && part > most) most = part;
    }
    return most;
}

/* In a process of its own, beside the run. */
static _Noreturn void be_silent_then_write(const char *mark, const char *pipe, int told)
{
    FILE *writer;
    alarm(HEADWAY_TIMEOUT_S); /* a run that does not come to its prompt leaves nothing behind */
    const double most = measure(mark, pipe, &writer);
    if (write(told, &most, sizeof most) != sizeof most) perror("told");
    if (writer) {
        fputs(prompt, writer);
        fclose(writer);
    }
    _exit(0);
}

static void check_idle(const char *backend)
{
    char folder[] = "/tmp/headway-idle-XXXXXX", pipe_path[64], mark[32];
    int told[2];
    double most = -1;
    cr_assert_not_null(mkdtemp(folder));
    snprintf(pipe_path, sizeof pipe_path, "%s/prompt", folder);
    snprintf(mark, sizeof mark, "idle-%d-%s", (int)getpid(), backend);
    cr_assert(!mkfifo(pipe_path, 0600) && !pipe2(told, O_CLOEXEC));
    setenv(TRIAL_VARIABLE, mark, 1);
    const pid_t writer = fork();
    cr_assert(writer >= 0);
    if (!writer) be_silent_then_write(mark, pipe_path, told[1]);
    char *want = OUTPUT(1, "generate", "-m", TALES, "-p", prompt, "-n", "12");
    char *got = OUTPUT(N_RANKS, "generate", "-m", TALES, "-f", pipe_path, "-n", "12", "--comm", backend);
    cr_expect_eq(read(told[0], &most, sizeof most), (ssize_t)sizeof most);
    cr_expect(most >= 0, "%s: no ranks were found that wait for their prompt", backend);
    cr_expect(most < MOST, "%s: a rank that waits for its prompt takes %.3f of a core", backend, most);
    cr_expect_str_eq(got, want);
    free(got);
    free(want);
    waitpid(writer, NULL, 0);
    close(told[0]);
    close(told[1]);
    unlink(pipe_path);
    rmdir(folder);
}

Test(idle, ranks_that_wait_for_a_prompt_take_no_core)
{
    check_idle("shm");
    check_idle("mpi");
}
