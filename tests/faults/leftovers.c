#include "tests/faults/leftovers.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/host.h"

typedef struct list {
    char *text;
    size_t size;
    time_t since;
} list;

#define ADD(l, ...) snprintf((l)->text + strlen((l)->text), (l)->size - strlen((l)->text), __VA_ARGS__)

static bool is_newer(DIR *folder, const char *name, time_t since)
{
    struct stat info;
    return !fstatat(dirfd(folder), name, &info, AT_SYMLINK_NOFOLLOW) && info.st_mtime >= since;
}

/* Files that bear the number of a process of this trial. */
static void look_for_files(const processes *p, const char *folder, const char *pattern, list *l)
{
    DIR *d = opendir(folder);
    for (const struct dirent *e; d && (e = readdir(d));)
        for (int i = 0; i < p->n; i++) {
            char number[24];
            const char *digits = e->d_name + strlen(e->d_name);
            while (digits > e->d_name && digits[-1] >= '0' && digits[-1] <= '9') digits--;
            snprintf(number, sizeof number, "%d", (int)p->all[i].pid);
            if (!strncmp(e->d_name, pattern, strlen(pattern)) && !strcmp(digits, number) &&
                is_newer(d, e->d_name, l->since))
                ADD(l, "left behind: %s/%s; ", folder, e->d_name);
        }
    if (d) closedir(d);
}

void list_leftovers(const char *mark, const processes *p, time_t since, char *text, size_t size)
{
    char host[64], sessions[128];
    list l = {text, size, since};
    const processes left = find_processes(mark);
    *text = '\0';
    for (int i = 0; i < left.n; i++)
        ADD(&l, "process %d (rank %d) goes on; ", (int)left.all[i].pid, left.all[i].rank);
    hw_host_name(host, sizeof host);
    snprintf(sessions, sizeof sessions, "/tmp/ompi.%s.%u", host, (unsigned)geteuid());
    look_for_files(p, sessions, "pid.", &l);
    look_for_files(p, "/tmp", "headway-run-", &l);
    look_for_files(p, "/tmp", "pmix-gds-shmem.", &l);
}

int count_segments(void)
{
    int n = 0;
    DIR *d = opendir("/dev/shm");
    for (const struct dirent *e; d && (e = readdir(d));) n += !strncmp(e->d_name, "vader_segment.", 14);
    if (d) closedir(d);
    return n;
}

decoy place_decoy(void)
{
    decoy d;
    char host[64];
    hw_host_name(host, sizeof host);
    snprintf(d.path, sizeof d.path, "/dev/shm/vader_segment.%s.%u.%x.0", host, (unsigned)geteuid(),
             (unsigned)getpid());
    const int fd = open(d.path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) perror(d.path);
    else close(fd);
    return d;
}

bool is_decoy_there(const decoy *d) { return !unlink(d->path); }
