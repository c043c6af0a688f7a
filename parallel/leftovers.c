#include "parallel/leftovers.h"

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
enum { DAEMON_WAITS = 30, DAEMON_WAIT_US = 10000 };

static bool ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), n_end = strlen(end);
    return n >= n_end && !strcmp(name + n - n_end, end);
}

/* This user's files in a folder whose names begin with, contain and end with these. */
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

/* vader_segment.HOST.USER.JOB.RANK, the job in hexadecimal, the rank among those of its host. local_rank
 * -1: all. */
static void remove_segments(uint32_t job, int local_rank)
{
    char middle[64], end[64] = "";
    if (!job) return;
    snprintf(middle, sizeof middle, ".%u.%x.", (unsigned)geteuid(), job);
    if (local_rank >= 0) snprintf(end, sizeof end, "%s%d", middle, local_rank);
    remove_files(SHARED_MEMORY, "vader_segment.", middle, end);
}

void hw_leftovers_remove_segments(uint32_t job) { remove_segments(job, -1); }

void hw_leftovers_remove_own(void)
{
    const char *job = getenv("OMPI_MCA_ess_base_jobid"), *rank = getenv("OMPI_COMM_WORLD_LOCAL_RANK");
    if (job && rank) remove_segments((uint32_t)strtoul(job, NULL, 10), atoi(rank));
}

static bool is_daemon(pid_t pid)
{
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *f = fopen(path, "re");
    if (f && !fgets(name, sizeof name, f)) *name = '\0';
    if (f) fclose(f);
    return !strcmp(name, "orted\n");
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)info, (void)type, (void)place;
    remove(path);
    return 0;
}

static void remove_folder(const char *path)
{
    struct stat info;
    if (!lstat(path, &info) && S_ISDIR(info.st_mode) && info.st_uid == geteuid())
        nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void hw_leftovers_end_daemon(void)
{
    const pid_t daemon = getppid();
    const char *folder = getenv("OMPI_MCA_orte_jobfam_session_dir");
    if (daemon <= 1 || !is_daemon(daemon)) return;
    kill(daemon, SIGTERM);
    for (int i = 0; i < DAEMON_WAITS && getppid() == daemon; i++) usleep(DAEMON_WAIT_US);
    if (getppid() == daemon) kill(daemon, SIGKILL);
    if (folder && strstr(folder, "/ompi.")) remove_folder(folder);
}

/* pmix-gds-shmem.HOST-JOB.PART.PROCESS: what an mpirun or daemon with PMIx 5 tells its ranks. */
static void remove_pmix_files(const char *folder, const char *host, pid_t process)
{
    char beginning[300], end[32];
    snprintf(beginning, sizeof beginning, "pmix-gds-shmem.%s-", host);
    snprintf(end, sizeof end, ".%d", (int)process);
    remove_files(folder, beginning, "", end);
}

void hw_leftovers_remove_session(pid_t mpirun)
{
    char path[4096], host[256];
    const char *tmp = getenv("TMPDIR");
    if (mpirun <= 1) return;
    if (!tmp || !*tmp) tmp = "/tmp";
    hw_host_name(host, sizeof host);
    host[strcspn(host, ".")] = '\0'; /* Open MPI leaves the domain out */
    remove_pmix_files(tmp, host, mpirun);
    snprintf(path, sizeof path, "%s/ompi.%s.%u/pid.%d", tmp, host, (unsigned)geteuid(), (int)mpirun);
    remove_folder(path);
    *strrchr(path, '/') = '\0';
    rmdir(path); /* when no other run is in it */
}
