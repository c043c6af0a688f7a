#include "tests/faults/processes.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_ENVIRONMENT = 1 << 18, MAX_HOSTS = 4 };

bool is_running(pid_t pid)
{
    char path[64], state = 'Z';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f) return false;
    if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = 'Z';
    fclose(f);
    return state != 'Z' && state != 'X';
}

static size_t read_proc(pid_t pid, const char *what, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
    FILE *f = fopen(path, "re");
    const size_t n = f ? fread(text, 1, size - 1, f) : 0;
    if (f) fclose(f);
    text[n] = '\0';
    return n;
}

/* `descriptor`: its first argument; -1: any. */
static bool is_in_call(pid_t pid, long wanted, int descriptor)
{
    char text[256];
    long number;
    unsigned long first;
    if (!read_proc(pid, "syscall", text, sizeof text)) return true;
    if (sscanf(text, "%ld %lx", &number, &first) != 2) return false; /* "running" */
    return number == wanted && (descriptor < 0 || first == (unsigned long)descriptor);
}

bool reads_input(pid_t pid) { return is_in_call(pid, SYS_read, 0); }
bool naps(pid_t pid) { return is_in_call(pid, SYS_clock_nanosleep, -1); }

static const char *variable(const char *text, size_t n, const char *name)
{
    const size_t n_name = strlen(name);
    for (const char *p = text; p < text + n; p += strlen(p) + 1)
        if (!strncmp(p, name, n_name) && p[n_name] == '=') return p + n_name + 1;
    return NULL;
}

/* The networks of the hosts of $HW_NET, and who keeps them. */
typedef struct hosts {
    ino_t network[MAX_HOSTS];
    pid_t keeper[MAX_HOSTS];
    int n;
} hosts;

static ino_t network_of(pid_t pid)
{
    char path[64];
    struct stat info;
    snprintf(path, sizeof path, "/proc/%d/ns/net", (int)pid);
    return stat(path, &info) ? 0 : info.st_ino;
}

static hosts find_hosts(void)
{
    hosts h = {.n = 0};
    const char *net = getenv("HW_NET");
    for (int i = 1; net && h.n < MAX_HOSTS; i++) {
        char path[PATH_MAX], text[32] = "";
        snprintf(path, sizeof path, "%s/node%d", net, i);
        FILE *f = fopen(path, "re");
        if (!f) break;
        if (fgets(text, sizeof text, f)) {
            h.keeper[h.n] = atoi(text);
            h.network[h.n] = network_of(h.keeper[h.n]);
            h.n++;
        }
        fclose(f);
    }
    return h;
}

/* What keeps the hosts, and those that run the trials there, belong to none: they are our ancestors or the
 * keepers. */
static bool is_ours(pid_t pid)
{
    for (pid_t p = getpid(); p > 1;) {
        char text[512];
        int parent = 0;
        if (p == pid) return true;
        read_proc(p, "stat", text, sizeof text);
        const char *after = strrchr(text, ')');
        if (!after || sscanf(after + 1, " %*c %d", &parent) != 1) break;
        p = parent;
    }
    return false;
}

static bool is_on(const hosts *h, pid_t pid)
{
    for (int i = 0; i < h->n; i++)
        if (h->keeper[i] == pid) return false;
    for (int i = 0; i < h->n; i++)
        if (network_of(pid) == h->network[i]) return !is_ours(pid);
    return false;
}

static void add(processes *p, pid_t pid, const char *environment, size_t n)
{
    char line[4096];
    const char *rank = variable(environment, n, "OMPI_COMM_WORLD_RANK");
    const size_t n_line = read_proc(pid, "cmdline", line, sizeof line);
    process *one = &p->all[p->n++];
    *one = (process){.pid = pid, .rank = -1, .is_mpirun = n_line && !strcmp(line, "mpirun")};
    /* Between fork and exec it is not a rank yet. */
    if (rank && strstr(line, "headway")) one->rank = atoi(rank);
    p->n_ranks += one->rank >= 0;
}

processes find_processes(const char *mark)
{
    static char environment[MAX_ENVIRONMENT];
    processes p = {.n = 0};
    const hosts h = find_hosts();
    DIR *proc = opendir("/proc");
    for (const struct dirent *e; proc && (e = readdir(proc)) && p.n < MAX_PROCESSES;) {
        const pid_t pid = atoi(e->d_name);
        if (pid <= 1 || pid == getpid()) continue;
        const size_t n = read_proc(pid, "environ", environment, sizeof environment);
        const char *its = variable(environment, n, TRIAL_VARIABLE);
        if ((!its || strcmp(its, mark)) && !is_on(&h, pid)) continue;
        if (is_running(pid)) add(&p, pid, environment, n);
    }
    if (proc) closedir(proc);
    return p;
}
