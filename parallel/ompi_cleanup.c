#include "parallel/ompi_cleanup.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/host.h"

#define SHARED_MEMORY "/dev/shm"
enum { MAX_CHILDREN = 1024, REMOVALS = 20, REMOVAL_US = 10000 };

static bool ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), n_end = strlen(end);
    return n >= n_end && !strcmp(name + n - n_end, end);
}

/* Removes this user's files in a folder whose names begin with, contain and end with these strings. */
static void remove_files(const char *path, const char *beginning, const char *middle, const char *end)
{
    struct stat info;
    DIR *folder = opendir(path);
    for (const struct dirent *e; folder && (e = readdir(folder));) {
        if (strncmp(e->d_name, beginning, strlen(beginning)) || !strstr(e->d_name, middle) ||
            !ends_with(e->d_name, end))
            continue;
        if (!fstatat(dirfd(folder), e->d_name, &info, AT_SYMLINK_NOFOLLOW) && info.st_uid == geteuid())
            unlinkat(dirfd(folder), e->d_name, 0);
    }
    if (folder) closedir(folder);
}

/* Segments are named vader_segment.HOST.USER.JOB.RANK, with the job in hexadecimal and the local rank. local_rank -1:
 * all. */
static void remove_segments(uint32_t job, int local_rank)
{
    char middle[64], end[64] = "";
    if (!job) return;
    snprintf(middle, sizeof middle, ".%u.%x.", (unsigned)geteuid(), job);
    if (local_rank >= 0) snprintf(end, sizeof end, "%s%d", middle, local_rank);
    remove_files(SHARED_MEMORY, "vader_segment.", middle, end);
}

/* The host name as Open MPI writes it, without the domain. */
static void open_mpi_host(char *host, size_t size)
{
    hw_host_name(host, size);
    host[strcspn(host, ".")] = '\0';
}

/* pmix-gds-shmem.HOST-JOB.PART.PROCESS: data of an mpirun or daemon with PMIx 5 for its ranks. */
static void remove_pmix_files(pid_t process)
{
    char host[256], beginning[300], end[32];
    open_mpi_host(host, sizeof host);
    snprintf(beginning, sizeof beginning, "pmix-gds-shmem.%s-", host);
    snprintf(end, sizeof end, ".%d", (int)process);
    remove_files(hw_temporary_folder(), beginning, "", end);
}

void hw_ompi_cleanup_remove_segments(uint32_t job) { remove_segments(job, -1); }

void hw_ompi_cleanup_remove_own(void)
{
    const char *job = getenv("OMPI_MCA_ess_base_jobid"), *rank = getenv("OMPI_COMM_WORLD_LOCAL_RANK");
    if (job && rank) remove_segments((uint32_t)strtoul(job, NULL, 10), atoi(rank));
}

bool hw_ompi_cleanup_is_daemon(pid_t pid)
{
    char path[64], name[32] = "", state = 'Z';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = pid > 1 ? fopen(path, "re") : NULL;
    if (f && fscanf(f, "%*d (%31[^)]) %c", name, &state) != 2) state = 'Z';
    if (f) fclose(f);
    return !strcmp(name, "orted") && state != 'Z' && state != 'X';
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)info, (void)type, (void)place;
    remove(path);
    return 0;
}

/* Tries several times: nftw gives up when a file vanishes meanwhile, and Open MPI itself may be removing files. */
static void remove_folder(const char *path)
{
    struct stat info;
    for (int i = 0; i < REMOVALS; i++) {
        if (lstat(path, &info) || !S_ISDIR(info.st_mode) || info.st_uid != geteuid()) return;
        if (i) usleep(REMOVAL_US);
        nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    }
}

/* Children of `parent`, except this process; at most `capacity`. */
static int list_children(pid_t parent, pid_t *children, int capacity)
{
    int n = 0;
    DIR *proc = opendir("/proc");
    for (const struct dirent *e; proc && n < capacity && (e = readdir(proc));) {
        char path[64];
        int its = 0;
        const pid_t pid = atoi(e->d_name);
        if (pid <= 1 || pid == getpid()) continue;
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        FILE *f = fopen(path, "re");
        if (f && fscanf(f, "%*d (%*[^)]) %*c %d", &its) == 1 && its == parent) children[n++] = pid;
        if (f) fclose(f);
    }
    if (proc) closedir(proc);
    return n;
}

/* Uses SIGKILL: on SIGTERM the daemon would first end this process and then wait for mpirun, and after two of them it may
 * do neither. Several ranks do this at once, and each may be killed by another: a rank kills the daemon only after it
 * has removed everything else. */
void hw_ompi_cleanup_end_daemon(pid_t daemon)
{
    const char *folder = getenv("OMPI_MCA_orte_jobfam_session_dir"), *job = getenv("OMPI_MCA_ess_base_jobid");
    pid_t ranks[MAX_CHILDREN];
    if (!hw_ompi_cleanup_is_daemon(daemon)) return;
    if (job) remove_segments((uint32_t)strtoul(job, NULL, 10), -1);
    if (folder && strstr(folder, "/ompi.")) remove_folder(folder);
    remove_pmix_files(daemon);
    const int n = list_children(daemon, ranks, MAX_CHILDREN);
    kill(daemon, SIGKILL);
    for (int i = 0; i < n; i++) kill(ranks[i], SIGKILL);
}

void hw_ompi_cleanup_remove_session(pid_t mpirun)
{
    char path[4096], host[256];
    if (mpirun <= 1) return;
    open_mpi_host(host, sizeof host);
    remove_pmix_files(mpirun);
    snprintf(path, sizeof path, "%s/ompi.%s.%u/pid.%d", hw_temporary_folder(), host, (unsigned)geteuid(),
             (int)mpirun);
    remove_folder(path);
    *strrchr(path, '/') = '\0';
    rmdir(path); /* fails if another run uses it */
}
