#include "tests/support/process.h"

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

enum { POLL_MS = 20, GRACE_S = 3, ENDS_SOON_S = 20, CHUNK = 65536 };

typedef struct child {
    pid_t pid;
    int in, out, err; /* our ends of the pipes; -1 once closed */
    const char *input;
    size_t n_input;
    bool ended;
    int wait_status;
} child;

static void give_up(const char *what)
{
    fprintf(stderr, "tests/support/process.c: %s: %s\n", what, strerror(errno));
    abort();
}

static void close_end(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* In the child, between fork and exec: only calls that are safe there. */
static void become(const char *const argv[], int in, int out, int err)
{
    setpgid(0, 0);
    /* When the test itself is killed (its own time-out), the program must not stay behind. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    signal(SIGPIPE, SIG_DFL); /* the parent ignores it, and an ignored signal survives exec */
    execvp(argv[0], (char *const *)argv);
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static child start(const char *const argv[], const char *stdin_text)
{
    int in[2], out[2], err[2];
    /* Close-on-exec, or a second program started later would hold the first one's pipes open. */
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC)) give_up("pipe");
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) give_up("fork");
    if (pid == 0) become(argv, in[0], out[1], err[1]);
    setpgid(pid, pid); /* in both, so that neither has to wait for the other; fails harmlessly after exec */
    close(in[0]);
    close(out[1]);
    close(err[1]);
    fcntl(in[1], F_SETFL, O_NONBLOCK);
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(err[0], F_SETFL, O_NONBLOCK);
    return (child){.pid = pid,
                   .in = in[1],
                   .out = out[0],
                   .err = err[0],
                   .input = stdin_text,
                   .n_input = stdin_text ? strlen(stdin_text) : 0};
}

/* Appends what the pipe holds now; closes it at its end. */
static void drain(int *fd, char **text, size_t *n_bytes)
{
    while (*fd >= 0) {
        char *grown = realloc(*text, *n_bytes + CHUNK + 1);
        if (!grown) give_up("output");
        *text = grown;
        ssize_t n = read(*fd, *text + *n_bytes, CHUNK);
        if (n > 0) *n_bytes += (size_t)n;
        (*text)[*n_bytes] = 0;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) close_end(fd);
    }
}

static void feed(child *c)
{
    while (c->in >= 0 && c->n_input > 0) {
        ssize_t n = write(c->in, c->input, c->n_input);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) break; /* the program does not read on: its own business */
        c->input += n;
        c->n_input -= (size_t)n;
    }
    close_end(&c->in);
}

/* Moves bytes until `deadline_ns`, the end of the program, or the next poll. */
static void serve(child *c, hw_run_result *r)
{
    struct pollfd ends[3] = {{c->in, POLLOUT, 0}, {c->out, POLLIN, 0}, {c->err, POLLIN, 0}};
    poll(ends, 3, POLL_MS); /* negative descriptors are skipped */
    feed(c);
    drain(&c->out, &r->out, &r->n_out);
    drain(&c->err, &r->err, &r->n_err);
    if (!c->ended) c->ended = waitpid(c->pid, &c->wait_status, WNOHANG) == c->pid;
}

static void serve_until_end(child *c, hw_run_result *r, double seconds)
{
    uint64_t start_ns = hw_clock_ns();
    while (!c->ended && hw_seconds_since(start_ns) < seconds) serve(c, r);
}

hw_run_result hw_run(const char *const argv[], const char *stdin_text, int timeout_s)
{
    hw_run_result r = {.out = calloc(1, 1), .err = calloc(1, 1)};
    if (!r.out || !r.err) give_up("output");
    void (*old_sigpipe)(int) = signal(SIGPIPE, SIG_IGN);
    child c = start(argv, stdin_text);

    serve_until_end(&c, &r, timeout_s);
    if (!c.ended) {
        r.timed_out = true;
        /* mpirun needs the chance to end ranks that are in other groups and to remove its shared memory. */
        kill(-c.pid, SIGTERM);
        serve_until_end(&c, &r, GRACE_S);
    }
    kill(-c.pid, SIGKILL);
    if (!c.ended) waitpid(c.pid, &c.wait_status, 0);
    c.ended = true;
    /* What was written last is still in the pipes. A process that left the group may hold them open for ever,
     * so one look is all. */
    serve(&c, &r);

    close_end(&c.in);
    close_end(&c.out);
    close_end(&c.err);
    signal(SIGPIPE, old_sigpipe);
    r.exit_code = WIFSIGNALED(c.wait_status) ? 128 + WTERMSIG(c.wait_status) : WEXITSTATUS(c.wait_status);
    return r;
}

void hw_run_free(hw_run_result *r)
{
    if (!r) return;
    free(r->out);
    free(r->err);
    *r = (hw_run_result){0};
}

/* A zombie has ended too: in a container, init may never reap it. */
static bool is_running(pid_t pid)
{
    char path[64], state = 'Z';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = 'Z';
    fclose(f);
    return state != 'Z' && state != 'X';
}

bool hw_process_ends_soon(pid_t pid)
{
    uint64_t start_ns = hw_clock_ns();
    while (is_running(pid) && hw_seconds_since(start_ns) < ENDS_SOON_S) usleep(10000);
    return !is_running(pid);
}
