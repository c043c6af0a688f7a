#include "launch/supervise/processes.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "parallel/watch_wire.h"

enum { MAX_ENVIRONMENT = 4 << 20, WAITS = 100, WAIT_US = 10000 };

/* Zero-terminated variables, one after the other. The caller frees it. */
static char *read_environment(pid_t pid, size_t *n)
{
    char path[64];
    size_t capacity = 1 << 16, got;
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    FILE *f = fopen(path, "re");
    char *text = f ? malloc(capacity) : NULL;
    for (*n = 0; text && (got = fread(text + *n, 1, capacity - *n, f)) > 0;) {
        if ((*n += got) < capacity) continue;
        char *more = capacity < MAX_ENVIRONMENT ? realloc(text, capacity *= 2) : NULL;
        if (!more) break;
        text = more;
    }
    if (f) fclose(f);
    return text;
}

/* Several "hosts" may be namespaces of one machine, which can see each other's processes. */
static bool is_on_our_network(pid_t pid)
{
    char path[64];
    struct stat ours, its;
    snprintf(path, sizeof path, "/proc/%d/ns/net", (int)pid);
    return !stat("/proc/self/ns/net", &ours) && !stat(path, &its) && ours.st_ino == its.st_ino &&
           ours.st_dev == its.st_dev;
}

static bool has_mark(pid_t pid, const char *mark)
{
    const size_t n_name = sizeof HW_WATCH_VARIABLE; /* with the '=' in place of the zero */
    const size_t n_whole = n_name + strlen(mark);
    size_t n;
    bool found = false;
    if (pid == getpid()) return false;
    char *text = read_environment(pid, &n);
    for (size_t i = 0; text && i < n && !found; i += strnlen(text + i, n - i) + 1)
        found = strnlen(text + i, n - i) == n_whole && !strncmp(text + i, HW_WATCH_VARIABLE "=", n_name) &&
                !strncmp(text + i + n_name, mark, n_whole - n_name);
    free(text);
    return found && is_on_our_network(pid);
}

/* The state in /proc: 'R', 'S', 'T', ...; 'X' if there is no such process. */
static char state_of(pid_t pid)
{
    char path[64], state = 'X';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = 'X';
    if (f) fclose(f);
    return state;
}

bool hw_process_has_ended(pid_t pid)
{
    const char state = state_of(pid);
    return state == 'Z' || state == 'X';
}

bool hw_process_is_stopped(pid_t pid, const char *mark)
{
    const char state = state_of(pid);
    return (state == 'T' || state == 't') && has_mark(pid, mark);
}

void hw_process_kill(pid_t pid, const char *mark)
{
    if (pid > 1 && has_mark(pid, mark)) kill(pid, SIGKILL);
}

static int kill_all(const char *mark)
{
    int n = 0;
    DIR *proc = opendir("/proc");
    for (const struct dirent *e; proc && (e = readdir(proc));) {
        const pid_t pid = atoi(e->d_name);
        if (pid <= 1 || !has_mark(pid, mark)) continue;
        kill(pid, SIGKILL);
        n++;
    }
    if (proc) closedir(proc);
    return n;
}

/* A zombie has no environment. */
void hw_processes_kill_all(const char *mark)
{
    for (int i = 0; i < WAITS && kill_all(mark); i++) usleep(WAIT_US);
}
