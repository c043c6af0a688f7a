#include "tests/faults/trial.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "tests/faults/leftovers.h"
#include "tests/faults/processes.h"

#define HEADWAY HW_BINARY_DIR "/launch/headway"
#define INSIDE  HW_BINARY_DIR "/tests/faults/libinside.so"
#define SHAPE   HW_SOURCE_DIR "/models/shapes/gpt2-124m"
#define TALES   HW_SOURCE_DIR "/models/tales"

enum { LOOK_US = 5000, ENDING_LOOK_US = 500, ASLEEP_MS = 700, START_S = 60 };

const char *const fault_names[N_FAULTS] = {"killed",     "crashed",   "stopped",   "exits",
                                           "stuck",      "disk full", "no memory", "mpirun killed",
                                           "all killed", "link down"};
const char *const phase_names[N_PHASES] = {"loading", "prefilling", "decoding", "idle", "ending"};

/* A limit that was set does nothing until something runs into it: what counts is the time from the message
 * to the end, which is the bound of a killed rank. */
const bounds fault_bounds[N_FAULTS] = {
    [FAULT_KILL] = {2, 2},   [FAULT_CRASH] = {2, 2}, [FAULT_STOP] = {5, 7},   [FAULT_EXIT] = {2, 2},
    [FAULT_STUCK] = {5, 7},  [FAULT_DISK] = {0, 2},  [FAULT_MEMORY] = {0, 2}, [FAULT_MPIRUN] = {2, 2},
    [FAULT_LAUNCH] = {0, 2}, [FAULT_LINK] = {5, 7}};

bool is_limit(fault f) { return f == FAULT_DISK || f == FAULT_MEMORY; }

/* ---- the run */

typedef struct running {
    pid_t pid;
    int in, err; /* our ends of its standard input and error */
    time_t since;
    char mark[64];
    char config[PATH_MAX];
    char text[8192];
    size_t n_text;
} running;

static bool is_on_two_hosts(trial t)
{
    return t.fault == FAULT_LINK || (t.fault == FAULT_LAUNCH && t.messages && getenv("HW_NET"));
}

static void write_config(trial t, const char *path, const char *folder)
{
    FILE *f = fopen(path, "w");
    if (!f) perror(path), exit(1);
    if (t.phase >= PHASE_IDLE) fprintf(f, "model: {path: %s}\n", TALES);
    else fprintf(f, "model: {path: %s, load_format: dummy}\n", SHAPE);
    fprintf(f, "limits: {report_folder: %s}\n", folder);
    if (is_on_two_hosts(t))
        fprintf(f,
                "cluster:\n  hosts: [{name: node1, slots: %d}, {name: node2, slots: %d}]\n  interface: "
                "10.77.0.0/24\n"
                "  binding: none\n  oversubscribe: true\n  remote_shell: %s\n",
                t.n_ranks - t.n_ranks / 2, t.n_ranks / 2, getenv("HW_NET_AGENT"));
    else
        fprintf(f,
                "collectives: {backend: %s}\nparallelism: {ranks: %d}\n"
                "cluster:\n  hosts: [{name: localhost, slots: %d}]\n",
                t.messages ? "mpi" : "shm", t.n_ranks, t.n_ranks);
    fprintf(f, "  environment: [LD_PRELOAD=%s, HWLOC_COMPONENTS=-gl, HW_SLOW_END=%d]\n", INSIDE, t.slow_end);
    fclose(f);
}

static void become(trial t, const char *config, const char *mark, int in, int err)
{
    static const char *const work[N_PHASES][9] = {
        [PHASE_LOADING] = {"bench", "-p", "16", "-n", "0", "-r", "1000"}, /* not over before the fault */
        [PHASE_PREFILLING] = {"bench", "-v", "-p", "512", "-n", "0", "-r", "1000"},
        [PHASE_DECODING] = {"bench", "-v", "-p", "0", "-n", "900", "-r", "1000"},
        [PHASE_IDLE] = {"generate", "-"},
        [PHASE_ENDING] = {"generate", "-q", "-p", "Once upon a time", "-n", "2"},
    };
    static const char *const short_load[] = {"bench", "-p", "16", "-n", "0", "-r", "1", NULL};
    const char *argv[16] = {HEADWAY, "launch", config, "--"};
    const char *const *words = t.phase == PHASE_LOADING && is_limit(t.fault) ? short_load : work[t.phase];
    for (int i = 0; words[i]; i++) argv[4 + i] = words[i];
    setenv(TRIAL_VARIABLE, mark, 1);
    setpgid(0, 0);
    dup2(in, 0);
    dup2(err, 2);
    close(1);
    open("/dev/null", O_WRONLY);
    execv(argv[0], (char *const *)argv);
    _exit(127);
}

static running start(trial t, const char *folder, int number)
{
    running r = {.n_text = 0, .since = time(NULL)};
    int in[2], err[2];
    snprintf(r.config, sizeof r.config, "%s/%d.yaml", folder, number);
    snprintf(r.mark, sizeof r.mark, "%d-%d", (int)getpid(), number);
    write_config(t, r.config, folder);
    if (pipe2(in, O_CLOEXEC) || pipe2(err, O_CLOEXEC) || (r.pid = fork()) < 0) perror("trial"), exit(1);
    if (!r.pid) become(t, r.config, r.mark, in[0], err[1]);
    close(in[0]);
    close(err[1]);
    fcntl(err[0], F_SETFL, O_NONBLOCK);
    r.in = in[1];
    r.err = err[0];
    return r;
}

static void read_text(running *r)
{
    ssize_t n;
    while (r->n_text < sizeof r->text - 1 &&
           (n = read(r->err, r->text + r->n_text, sizeof r->text - 1 - r->n_text)) > 0)
        r->n_text += (size_t)n;
    r->text[r->n_text] = '\0';
}

/* The first line of ours, "" before it is whole. */
static void find_message(const running *r, char *message, size_t size)
{
    *message = '\0';
    for (const char *p = r->text; p && *p; p = strchr(p, '\n'), p += p != NULL)
        if (!strncmp(p, "headway: ", 9) && strchr(p, '\n')) {
            snprintf(message, size, "%.*s", (int)strcspn(p, "\n"), p);
            return;
        }
}

/* ---- the fault */

static const process *find_rank(const processes *p, int rank)
{
    for (int i = 0; i < p->n; i++)
        if (p->all[i].rank == rank) return &p->all[i];
    return NULL;
}

static pid_t find_mpirun(const processes *p)
{
    for (int i = 0; i < p->n; i++)
        if (p->all[i].is_mpirun) return p->all[i].pid;
    return -1;
}

/* More than it has now, so that it fails sooner or later while it loads, or not at all. */
static void limit_memory(pid_t pid, double share)
{
    char path[64];
    unsigned long long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "re");
    if (f && fscanf(f, "%llu", &pages) != 1) pages = 0;
    if (f) fclose(f);
    const rlim_t bytes = (rlim_t)pages * 4096 + (rlim_t)(share * 200e6);
    prlimit(pid, RLIMIT_AS, &(struct rlimit){bytes, bytes}, NULL);
}

static void set_link(const char *state)
{
    char command[128];
    snprintf(command, sizeof command, "nsenter --target $(cat $HW_NET/switch) --net ip link set node2 %s",
             state);
    if (system(command)) fprintf(stderr, "the link does not go %s\n", state);
}

static void inject(trial t, const running *r, const processes *p)
{
    static const int signals[N_FAULTS] = {[FAULT_KILL] = SIGKILL,
                                          [FAULT_CRASH] = SIGSEGV,
                                          [FAULT_STOP] = SIGSTOP,
                                          [FAULT_EXIT] = SIGUSR2,
                                          [FAULT_STUCK] = SIGUSR1};
    const process *victim = find_rank(p, t.victim);
    const pid_t pid = victim ? victim->pid : -1;
    if (t.fault == FAULT_LAUNCH) kill(r->pid, SIGKILL);
    if (t.fault == FAULT_LAUNCH || t.fault == FAULT_MPIRUN) kill(find_mpirun(p), SIGKILL);
    else if (t.fault == FAULT_LINK) set_link("down");
    else if (pid <= 1) return;
    else if (t.fault == FAULT_DISK) prlimit(pid, RLIMIT_FSIZE, &(struct rlimit){4096, 4096}, NULL);
    else if (t.fault == FAULT_MEMORY) limit_memory(pid, t.delay);
    else kill(pid, signals[t.fault]);
}

/* ---- how it ends */

/* A clock that notices when this process itself was not run. */
typedef struct stopwatch {
    uint64_t start_ns, last_ns;
    bool disturbed;
} stopwatch;

static double elapsed(stopwatch *w)
{
    const uint64_t now = hw_clock_ns();
    if (now - w->last_ns > (uint64_t)ASLEEP_MS * 1000000) w->disturbed = true;
    w->last_ns = now;
    return (double)(now - w->start_ns) * 1e-9;
}

/* Those that were there at the fault, or came after it: what looks after a host's daemon when its ranks have ended takes
 * as long as the link is given. */
static bool any_running(const processes *p, const char *mark)
{
    for (int i = 0; i < p->n; i++)
        if (is_running(p->all[i].pid)) return true;
    return find_processes(mark).n > 0;
}

static void kill_all(const char *mark)
{
    for (int tries = 0; tries < 100; tries++) {
        const processes left = find_processes(mark);
        if (!left.n) return;
        for (int i = 0; i < left.n; i++) kill(left.all[i].pid, SIGKILL);
        usleep(10000);
    }
}

#define COMPLAIN(o, ...)                                                                                     \
    snprintf((o)->complaint + strlen((o)->complaint), sizeof(o)->complaint - strlen((o)->complaint),         \
             __VA_ARGS__)

static void wait_for_end(trial t, running *r, const processes *p, stopwatch *w, outcome *o)
{
    const double most = t.untimed ? UNTIMED_TIMEOUT_S : TRIAL_TIMEOUT_S;
    int status = 0;
    bool ended = false;
    o->told = o->gone = -1;
    while (o->gone < 0 && elapsed(w) < most) {
        usleep(LOOK_US);
        read_text(r);
        if (!*o->message) find_message(r, o->message, sizeof o->message);
        if (*o->message && o->told < 0) o->told = elapsed(w);
        if (!ended) ended = waitpid(r->pid, &status, WNOHANG) == r->pid;
        if (ended && !any_running(p, r->mark)) o->gone = elapsed(w);
    }
    o->exit_code = ended ? (WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status)) : -1;
    if (!ended) kill(-r->pid, SIGKILL), waitpid(r->pid, &status, 0);
    read_text(r);
    if (!*o->message) find_message(r, o->message, sizeof o->message);
}

/* `bound`: seconds from `from`. */
static void judge_gone(trial t, outcome *o, double from, double bound)
{
    if (o->gone < 0) COMPLAIN(o, "not gone; ");
    else if (!t.untimed && o->gone - from > bound) COMPLAIN(o, "gone late; ");
}

/* Nobody was left to say anything. */
static void judge_silent_end(trial t, outcome *o)
{
    judge_gone(t, o, 0, fault_bounds[FAULT_LAUNCH].gone);
    if (o->exit_code != 128 + SIGKILL) COMPLAIN(o, "exit code %d; ", o->exit_code);
}

static void judge(trial t, const running *r, outcome *o)
{
    const bounds b = fault_bounds[t.fault];
    char who[32];
    snprintf(who, sizeof who, "rank %d on ", t.victim);
    const bool limits = is_limit(t.fault);
    const double from = limits && o->told >= 0 ? o->told : 0;
    if (o->exit_code == 0 && (limits || t.phase == PHASE_ENDING)) {
        o->unharmed = true;
        return;
    }
    if (o->told < 0 && !(limits && r->n_text)) COMPLAIN(o, "no message; ");
    if (!t.untimed && b.told > 0 && o->told > b.told) COMPLAIN(o, "told late; ");
    judge_gone(t, o, from, b.gone);
    if (!limits && t.fault != FAULT_MPIRUN && t.victim >= 0 && !strstr(o->message, who))
        COMPLAIN(o, "the message names another than rank %d; ", t.victim);
    if (t.fault == FAULT_LINK && !strstr(o->message, "link to node2"))
        COMPLAIN(o, "the message does not name node2; ");
    if (!limits && o->exit_code != 5) COMPLAIN(o, "exit code %d; ", o->exit_code);
    if (limits && (o->exit_code < 1 || o->exit_code > 6)) COMPLAIN(o, "exit code %d; ", o->exit_code);
}

/* A run that is to compute has said what runs, and so has loaded. */
static bool has_loaded(running *r, trial t)
{
    read_text(r);
    return (t.phase != PHASE_PREFILLING && t.phase != PHASE_DECODING) || strstr(r->text, " positions)");
}

/* Until a rank has ended, which all do in the end. */
static void wait_for_ending(const processes *p)
{
    int n = p->n_ranks;
    while (n == p->n_ranks) {
        usleep(ENDING_LOOK_US);
        n = 0;
        for (int i = 0; i < p->n; i++) n += p->all[i].rank >= 0 && is_running(p->all[i].pid);
    }
}

/* Into the time that a slow rank takes to end. */
static useconds_t slow_end_us(trial t)
{
    return t.slow_end < 0 ? 0 : (useconds_t)(t.delay * 0.8 * SLOW_END_US);
}

/* False when they do not come. */
static bool wait_for_ranks(running *r, trial t, processes *p)
{
    const uint64_t start_ns = hw_clock_ns();
    while ((*p = find_processes(r->mark)).n_ranks < t.n_ranks || !has_loaded(r, t)) {
        if (hw_seconds_since(start_ns) > START_S) return false;
        usleep(LOOK_US);
    }
    return true;
}

/* Until rank 0 reads its prompt and the others sleep until it has. Before that they open a tokenizer, as long as they like: a
 * rank that hangs there may read a file, and is given more time. */
static void wait_for_idle(const processes *p)
{
    const uint64_t start_ns = hw_clock_ns();
    const process *first = find_rank(p, 0);
    while (first && !reads_input(first->pid) && hw_seconds_since(start_ns) < START_S) usleep(LOOK_US);
    for (int i = 0; i < p->n; i++)
        while (p->all[i].rank > 0 && !naps(p->all[i].pid) && hw_seconds_since(start_ns) < START_S)
            usleep(LOOK_US);
}

/* Nothing comes of the fault before the run goes on. */
static bool waits_for_prompt(fault f) { return is_limit(f) || f == FAULT_STUCK; }

static void give_prompt(running *r)
{
    static const char prompt[] = "Once upon a time";
    if (write(r->in, prompt, sizeof prompt - 1) < 0) perror("prompt");
    close(r->in);
    r->in = -1;
}

/* What was killed could not clean up, so the next start does. */
static void start_again(const running *r, outcome *o)
{
    int status = 0;
    decoy d = place_decoy();
    const uint64_t start_ns = hw_clock_ns();
    const pid_t pid = fork();
    if (!pid) {
        setenv(TRIAL_VARIABLE, r->mark, 1);
        dup2(open("/dev/null", O_RDWR), 1);
        execl(HEADWAY, HEADWAY, "launch", r->config, "--", "plan", (char *)NULL);
        _exit(127);
    }
    while (waitpid(pid, &status, WNOHANG) != pid && hw_seconds_since(start_ns) < START_S) usleep(LOOK_US);
    if (hw_seconds_since(start_ns) >= START_S || status)
        COMPLAIN(o, "the next start ended with %d; ", status);
    if (!is_decoy_there(&d)) COMPLAIN(o, "the next start removed what was not its own; ");
}

static void look_for_leftovers(const running *r, const processes *p, int segments, outcome *o)
{
    const size_t n = strlen(o->complaint);
    list_leftovers(r->mark, p, r->since, o->complaint + n, sizeof o->complaint - n);
    /* Other runs on this machine may begin and end meanwhile; on hosts of our own there are none. */
    if (getenv("HW_NET") && count_segments() > segments) COMPLAIN(o, "segments in /dev/shm are left; ");
}

outcome run_trial(trial t, const char *folder)
{
    static int number;
    outcome o = {.told = -1};
    processes p;
    const int segments = count_segments();
    running r = start(t, folder, ++number);
    if (wait_for_ranks(&r, t, &p)) {
        /* A limit is for what comes, so it is set at once. */
        if (t.phase == PHASE_IDLE && t.fault == FAULT_STUCK) wait_for_idle(&p);
        if (t.phase == PHASE_ENDING) wait_for_ending(&p), usleep(slow_end_us(t));
        else if (!is_limit(t.fault)) usleep((useconds_t)(t.delay * 1e6));
        stopwatch w = {.start_ns = hw_clock_ns(), .last_ns = hw_clock_ns()};
        inject(t, &r, &p);
        if (t.phase == PHASE_IDLE && waits_for_prompt(t.fault)) give_prompt(&r);
        wait_for_end(t, &r, &p, &w, &o);
        o.disturbed = w.disturbed && !t.untimed;
        if (t.fault == FAULT_LAUNCH) judge_silent_end(t, &o), start_again(&r, &o);
        else judge(t, &r, &o);
        look_for_leftovers(&r, &p, segments, &o);
        if (*o.complaint) fprintf(stderr, "%s", r.text);
    } else {
        read_text(&r);
        o.disturbed = true;
        COMPLAIN(&o, "the ranks did not start: %.200s", r.text);
        kill(-r.pid, SIGKILL);
        waitpid(r.pid, NULL, 0);
    }
    kill_all(r.mark);
    if (t.fault == FAULT_LINK) set_link("up");
    if (r.in >= 0) close(r.in);
    close(r.err);
    return o;
}
