#include "launch/supervise/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launch/supervise/child.h"
#include "launch/supervise/heartbeats.h"
#include "launch/supervise/run_record.h"
#include "launch/version.h"
#include "runtime/base/clock.h"
#include "runtime/base/host.h"

enum {
    TICK_MS = 50,
    RINGS_MS = 400,     /* for ranks to send their last collectives and end */
    ALONE_MS = 700,     /* for mpirun to end after that */
    FAREWELL_MS = 3000, /* for a job that is ending on its own */
};

/* The stages of ending a run; each waits a while for mpirun to end. mpirun gets no signal before the last stage: it is
 * ending anyway because its ranks have, and Open MPI 4.1 fails when it is told twice. */
typedef enum stage {
    RUNNING,
    COLLECTING, /* ranks were told to end */
    KILLING,    /* local ranks were killed */
    OVER        /* mpirun was killed */
} stage;

typedef struct supervisor {
    const hw_supervision *s;
    hw_heartbeats *heartbeats;
    hw_run_record record;
    pid_t mpirun;
    int status, signals;
    bool ended; /* mpirun has ended */
    bool asked; /* a signal was passed on: deaths of ranks are expected */
    stage stage;
    uint64_t since_ns; /* start of the stage */
    uint64_t alone_ns; /* when the job began to end on its own; 0: it has not */
    hw_diagnosis diagnosis;
    /* The message, written when the diagnosis is made: later a stopped rank may have been resumed to be killed. */
    char what[512];
    bool told;         /* the message was printed */
    char report[4096]; /* path of the report, "" if there is none */
} supervisor;

/* ---- messages */

static void write_report(supervisor *v, const char *message)
{
    const char *folder = v->s->report_folder ? v->s->report_folder : hw_temporary_folder();
    snprintf(v->report, sizeof v->report, "%s/headway-collectives-XXXXXX", folder);
    const int fd = mkstemp(v->report);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool ok = f && fprintf(f, "headway %s: %s\n\n", HW_VERSION, message) > 0 &&
              hw_heartbeats_write_report(v->heartbeats, f);
    if (f) ok = !fclose(f) && ok;
    else if (fd >= 0) close(fd);
    if (ok) return;
    if (fd >= 0) unlink(v->report);
    *v->report = '\0';
}

static const char *describe_death(const supervisor *v, char *text, size_t size)
{
    if (!v->ended || !WIFEXITED(v->status)) return "died";
    const int code = WEXITSTATUS(v->status);
    if (code > 128 && code < 128 + NSIG)
        snprintf(text, size, "was killed by signal %d (%s)", code - 128, strsignal(code - 128));
    else snprintf(text, size, "exited in the middle of the run (exit status %d)", code);
    return text;
}

static void put_in_words(supervisor *v, const char *how)
{
    int n;
    const hw_rank_view *ranks = hw_heartbeats_ranks(v->heartbeats, &n);
    hw_diagnosis_text(v->what, sizeof v->what, v->diagnosis, ranks, how);
}

/* Prints the message once, as soon as the cause is known. */
static void tell(supervisor *v)
{
    char how[128];
    if (v->told || !v->diagnosis.kind) return;
    v->told = true;
    if (v->diagnosis.kind == HW_DIED) put_in_words(v, describe_death(v, how, sizeof how));
    write_report(v, v->what);
    fprintf(stderr, "headway: %s%s%s\n", v->what, *v->report ? "; what all ranks did last is in " : "",
            v->report);
}

/* ---- stages */

static void go_on(supervisor *v, stage next)
{
    v->stage = next;
    v->since_ns = hw_clock_ns();
    switch (next) {
    case COLLECTING: hw_heartbeats_end_ranks(v->heartbeats); break;
    case KILLING: hw_heartbeats_kill_local(v->heartbeats); break;
    case OVER: kill(v->mpirun, SIGKILL); break;
    default: break;
    }
}

static bool stage_is_over(const supervisor *v)
{
    const double ms = hw_seconds_since(v->since_ns) * 1000;
    if (v->stage == COLLECTING) return ms > RINGS_MS || hw_heartbeats_is_empty(v->heartbeats);
    return ms > ALONE_MS;
}

/* A rank that failed ends the job through MPI, and a signal through mpirun; both get some time before the run is ended by
 * force. */
static bool is_ending_by_itself(supervisor *v)
{
    if (!hw_heartbeats_exit_code(v->heartbeats) && !v->asked) return false;
    if (!v->alone_ns) v->alone_ns = hw_clock_ns();
    if (hw_seconds_since(v->alone_ns) * 1000 > FAREWELL_MS) go_on(v, COLLECTING);
    return true;
}

static void decide(supervisor *v)
{
    if (v->stage == RUNNING) {
        if (is_ending_by_itself(v)) return;
        const hw_diagnosis found = hw_heartbeats_diagnose(v->heartbeats);
        if (!found.kind) return;
        v->diagnosis = found;
        put_in_words(v, "");
        go_on(v, COLLECTING);
        return;
    }
    if (!stage_is_over(v)) return;
    /* How a rank died is known only when mpirun has ended; other diagnoses are complete now. */
    if (v->stage == COLLECTING && v->diagnosis.kind != HW_DIED) tell(v);
    if (v->stage < OVER) go_on(v, v->stage + 1);
}

/* ---- signals and waiting */

/* Signals of the terminal (SI_KERNEL) reach mpirun directly, and it would take a second one as "immediately". */
static void take_signals(supervisor *v)
{
    struct signalfd_siginfo info;
    while (read(v->signals, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGCHLD) continue;
        v->asked = true;
        if (info.ssi_code != SI_KERNEL) kill(v->mpirun, (int)info.ssi_signo);
    }
    if (waitpid(v->mpirun, &v->status, WNOHANG) == v->mpirun) v->ended = true;
}

static void watch(supervisor *v)
{
    struct pollfd from[2] = {{v->signals, POLLIN, 0}, {hw_heartbeats_fd(v->heartbeats), POLLIN, 0}};
    uint32_t job = 0;
    while (!v->ended) {
        poll(from, 2, TICK_MS);
        take_signals(v);
        hw_heartbeats_serve(v->heartbeats, hw_clock_ns());
        if (hw_heartbeats_job(v->heartbeats) != job)
            hw_run_record_note(&v->record, v->mpirun, job = hw_heartbeats_job(v->heartbeats));
        if (!v->ended) decide(v);
    }
}

/* mpirun does not wait for ranks that it has killed; they are gone when their connections have ended. */
static void watch_the_last(supervisor *v)
{
    struct pollfd from = {hw_heartbeats_fd(v->heartbeats), POLLIN, 0};
    const uint64_t start_ns = hw_clock_ns();
    if (WIFEXITED(v->status) && WEXITSTATUS(v->status) == 0) return;
    while (!hw_heartbeats_is_empty(v->heartbeats) && hw_seconds_since(start_ns) * 1000 < RINGS_MS) {
        poll(&from, 1, TICK_MS);
        hw_heartbeats_serve(v->heartbeats, hw_clock_ns());
        if (v->stage == RUNNING && hw_heartbeats_diagnose(v->heartbeats).kind) return;
    }
}

/* True if mpirun was killed directly, not by SIGPIPE when it wrote to a rank that had died. */
static bool mpirun_was_killed(const supervisor *v)
{
    if (!WIFSIGNALED(v->status) || v->asked || v->diagnosis.kind) return false;
    return WTERMSIG(v->status) == SIGKILL || !hw_heartbeats_diagnose(v->heartbeats).kind;
}

/* Standard output was closed, as by `head`: mpirun then ends the run, which looks as if a rank had died. */
static bool nobody_reads(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO};
    return poll(&out, 1, 0) == 1 && out.revents & POLLERR;
}

/* Interprets the exit status of mpirun. */
static hw_status conclude(supervisor *v, int *exit_code, hw_error *err)
{
    const int code = WIFEXITED(v->status) ? WEXITSTATUS(v->status) : 128 + WTERMSIG(v->status);
    *exit_code = code;
    if (code && !v->told && nobody_reads())
        return hw_fail(err, HW_ERR_FAILED, "cannot write to standard output: %s", strerror(EPIPE));
    if (mpirun_was_killed(v))
        return hw_fail(err, HW_ERR_RANK, "mpirun was killed by signal %d (%s); all ranks have been ended",
                       WTERMSIG(v->status), strsignal(WTERMSIG(v->status)));
    if (!v->diagnosis.kind && code && !v->asked && !hw_heartbeats_exit_code(v->heartbeats)) {
        v->diagnosis = hw_heartbeats_diagnose(v->heartbeats);
        if (v->diagnosis.kind) put_in_words(v, "");
    }
    tell(v);
    if (v->told) *exit_code = hw_exit_code(HW_ERR_RANK);
    else if (hw_heartbeats_exit_code(v->heartbeats)) *exit_code = hw_heartbeats_exit_code(v->heartbeats);
    else if (code > 128 && code < 128 + NSIG && !v->asked)
        return hw_fail(err, HW_ERR_RANK, "a rank was killed by signal %d (%s) as it started", code - 128,
                       strsignal(code - 128));
    return HW_OK;
}

/* ---- start */

static int take_over_signals(sigset_t *before)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGCHLD};
    sigset_t mine;
    sigemptyset(&mine);
    for (int i = 0; i < 4; i++) sigaddset(&mine, signals[i]);
    /* If the parent left SIGCHLD ignored, the exit status would be lost. */
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_BLOCK, &mine, before);
    return signalfd(-1, &mine, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Without a route to the other hosts, their ranks run unwatched. */
static hw_status open_heartbeats(supervisor *v, hw_error *err)
{
    const int limit_ms = (int)(v->s->stuck_after * 1000);
    hw_status st = hw_heartbeats_open(&v->heartbeats, v->s->interface, v->s->other_host, limit_ms, err);
    if (!st || !v->s->other_host) return st;
    fprintf(stderr, "headway: ranks on other hosts are not watched: %s\n", err->message);
    return hw_heartbeats_open(&v->heartbeats, NULL, NULL, limit_ms, err);
}

static hw_status start(supervisor *v, char *const *argv, const sigset_t *mask, hw_error *err)
{
    setenv(HW_WATCH_VARIABLE, hw_heartbeats_address(v->heartbeats), 1);
    /* Suppress mpirun's own message about a rank that has ended; ours is more precise. */
    setenv("OMPI_MCA_orte_execute_quiet", "1", 0);
    hw_error record_err;
    if (hw_run_record_open(&v->record, hw_heartbeats_address(v->heartbeats), &record_err))
        fprintf(stderr, "headway: %s; continuing without\n", record_err.message);
    hw_status st = hw_child_start(&v->mpirun, argv, mask, err);
    if (!st) hw_run_record_note(&v->record, v->mpirun, 0);
    return st;
}

hw_status hw_supervise(char *const *argv, const hw_supervision *s, int *exit_code, hw_error *err)
{
    supervisor *v = calloc(1, sizeof *v);
    sigset_t before;
    if (!v) return hw_fail(err, HW_ERR_NO_MEMORY, "launch: no memory");
    v->s = s;
    v->record.fd = -1;
    v->signals = take_over_signals(&before);
    hw_status st =
        v->signals < 0 ? hw_fail(err, HW_ERR_FAILED, "launch: no signals: %s", strerror(errno)) : HW_OK;
    if (!st) st = open_heartbeats(v, err);
    if (!st && !(st = start(v, argv, &before, err))) {
        watch(v);
        watch_the_last(v);
        hw_run_record_close(&v->record);
        st = conclude(v, exit_code, err);
    } else if (v->heartbeats) hw_run_record_close(&v->record);
    hw_heartbeats_close(v->heartbeats);
    if (v->signals >= 0) close(v->signals);
    sigprocmask(SIG_SETMASK, &before, NULL);
    free(v);
    return st;
}
