#include "launch/cluster/run_parallel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clock.h"

enum { AT_ONCE = 64, CHUNK = 4096, MOST_BYTES = 1 << 20, POLL_MS = 50 };
static const double LAST_WORDS_S = 0.5; /* after it has ended, while another process holds its output */

/* A running command. */
typedef struct running {
    hw_parallel_run *v;
    pid_t pid;
    int fds[2]; /* our ends of its standard output and error; -1 once closed */
    uint64_t started_ns, heard_ns;
    bool ended; /* with `status`; its children may still hold the pipes */
    int status;
} running;

static void become(const hw_parallel_run *v, int out, int err)
{
    const int nothing = open("/dev/null", O_RDONLY);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(nothing, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    signal(SIGPIPE, SIG_DFL);
    execvp(v->words[0], v->words);
    dprintf(STDERR_FILENO, "%s: %s\n", v->words[0], strerror(errno));
    _exit(127);
}

static hw_status start(running *r, hw_parallel_run *v, hw_error *err)
{
    int out[2], error[2];
    if (pipe2(out, O_CLOEXEC)) return hw_fail(err, HW_ERR_FAILED, "check: no pipe: %s", strerror(errno));
    if (pipe2(error, O_CLOEXEC)) {
        close(out[0]), close(out[1]);
        return hw_fail(err, HW_ERR_FAILED, "check: no pipe: %s", strerror(errno));
    }
    *r = (running){.v = v, .fds = {out[0], error[0]}, .started_ns = hw_clock_ns(), .heard_ns = hw_clock_ns()};
    r->pid = fork();
    if (r->pid == 0) become(v, out[1], error[1]);
    const int code = errno;
    close(out[1]), close(error[1]);
    if (r->pid > 0) return HW_OK;
    close(out[0]), close(error[0]);
    r->v = NULL;
    return hw_fail(err, HW_ERR_FAILED, "check: no process: %s", strerror(code));
}

static hw_status keep(char **text, size_t *n, const char *bytes, size_t got, hw_error *err)
{
    if (*n + got > MOST_BYTES) return HW_OK;
    char *more = realloc(*text, *n + got + 1);
    if (!more) return hw_fail(err, HW_ERR_NO_MEMORY, "check: no memory for the output of a host");
    memcpy(more + *n, bytes, got);
    *text = more;
    *n += got;
    more[*n] = '\0';
    return HW_OK;
}

static hw_status hear(running *r, int which, hw_error *err)
{
    char bytes[CHUNK];
    const ssize_t got = read(r->fds[which], bytes, sizeof bytes);
    if (got < 0 && errno == EINTR) return HW_OK;
    if (got <= 0) {
        close(r->fds[which]);
        r->fds[which] = -1;
        return HW_OK;
    }
    r->heard_ns = hw_clock_ns();
    return which ? keep(&r->v->err, &r->v->n_err, bytes, (size_t)got, err)
                 : keep(&r->v->out, &r->v->n_out, bytes, (size_t)got, err);
}

static void finish(running *r)
{
    if (!r->ended) waitpid(r->pid, &r->status, 0);
    r->v->exit_code = WIFSIGNALED(r->status) ? 128 + WTERMSIG(r->status) : WEXITSTATUS(r->status);
    r->v->seconds = hw_seconds_since(r->started_ns);
    for (int i = 0; i < 2; i++)
        if (r->fds[i] >= 0) close(r->fds[i]);
    r->v = NULL;
}

/* Kills its process group, which it leads: the number is not reused before it has been waited for. */
static void look_after(running *r, double patience_s)
{
    const double silent_s = hw_seconds_since(r->heard_ns);
    if (!r->ended && waitpid(r->pid, &r->status, WNOHANG) == r->pid) r->ended = true;
    if (r->ended && ((r->fds[0] < 0 && r->fds[1] < 0) || silent_s > LAST_WORDS_S)) finish(r);
    else if (silent_s > patience_s) {
        r->v->timed_out = true;
        kill(-r->pid, SIGKILL);
        finish(r);
    }
}

/* Waits briefly for output of any of them, and reads it. */
static hw_status listen(running *all, hw_error *err)
{
    struct pollfd fds[2 * AT_ONCE];
    int owner[2 * AT_ONCE], n = 0;
    hw_status st = HW_OK;
    for (int i = 0; i < 2 * AT_ONCE; i++) {
        if (!all[i / 2].v || all[i / 2].fds[i % 2] < 0) continue;
        owner[n] = i;
        fds[n++] = (struct pollfd){.fd = all[i / 2].fds[i % 2], .events = POLLIN};
    }
    if (poll(fds, (nfds_t)n, POLL_MS) <= 0) return HW_OK;
    for (int i = 0; i < n && !st; i++)
        if (fds[i].revents) st = hear(&all[owner[i] / 2], owner[i] % 2, err);
    return st;
}

hw_status hw_run_parallel(hw_parallel_run *runs, int n, double patience_s, hw_error *err)
{
    running all[AT_ONCE] = {{.v = NULL}};
    int next = 0, under_way = 1;
    hw_status st = HW_OK;
    while (!st && (next < n || under_way)) {
        under_way = 0;
        for (int i = 0; i < AT_ONCE && !st; i++) {
            if (!all[i].v && next < n) st = start(&all[i], &runs[next++], err);
            under_way += all[i].v != NULL;
        }
        if (!st) st = listen(all, err);
        for (int i = 0; i < AT_ONCE && !st; i++)
            if (all[i].v) look_after(&all[i], patience_s);
    }
    for (int i = 0; i < AT_ONCE; i++) /* left over after an error of ours */
        if (all[i].v) {
            kill(-all[i].pid, SIGKILL);
            finish(&all[i]);
        }
    return st;
}

void hw_parallel_runs_free(hw_parallel_run *runs, int n)
{
    for (int i = 0; i < n; i++) {
        free(runs[i].out);
        free(runs[i].err);
        runs[i].out = runs[i].err = NULL;
    }
}
