#include "launch/supervise/run_record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch/supervise/processes.h"
#include "parallel/ompi_cleanup.h"
#include "runtime/base/host.h"

#define NAME "headway-run-"

static void remove_leftovers(const hw_run_record *r)
{
    hw_processes_kill_all(r->mark);
    if (r->mpirun > 1 && !hw_process_has_ended(r->mpirun))
        return; /* the pid was reused, or mpirun still runs: leave it alone */
    hw_ompi_cleanup_remove_segments(r->job);
    hw_ompi_cleanup_remove_session(r->mpirun);
}

/* The record of a run that has ended: it is ours, and not locked. */
static void clean_up_after(const char *path)
{
    hw_run_record old = {.fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)};
    struct stat info;
    char text[512] = "";
    int mpirun = 0;
    unsigned job = 0;
    if (old.fd < 0) return;
    if (!fstat(old.fd, &info) && S_ISREG(info.st_mode) && info.st_uid == geteuid() &&
        !flock(old.fd, LOCK_EX | LOCK_NB)) {
        if (read(old.fd, text, sizeof text - 1) > 0 &&
            sscanf(text, "%255s %d %x", old.mark, &mpirun, &job) == 3) {
            old.mpirun = mpirun;
            old.job = job;
            remove_leftovers(&old);
        }
        unlink(path);
    }
    close(old.fd);
}

static void clean_up_after_others(void)
{
    DIR *folder = opendir(hw_temporary_folder());
    for (const struct dirent *e; folder && (e = readdir(folder));) {
        char path[4096];
        if (strncmp(e->d_name, NAME, sizeof NAME - 1)) continue;
        snprintf(path, sizeof path, "%s/%s", hw_temporary_folder(), e->d_name);
        clean_up_after(path);
    }
    if (folder) closedir(folder);
}

/* Locked before it gets its name, so that another start does not mistake it for that of an ended run. */
static int make_file(hw_run_record *r)
{
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s/.headway-XXXXXX", hw_temporary_folder());
    const int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) return -1;
    snprintf(r->path, sizeof r->path, "%s/" NAME "%u-%d", hw_temporary_folder(), (unsigned)geteuid(),
             (int)getpid());
    if (!flock(fd, LOCK_EX | LOCK_NB) && !rename(temporary, r->path)) return fd;
    unlink(temporary);
    close(fd);
    return -1;
}

hw_status hw_run_record_open(hw_run_record *r, const char *mark, hw_error *err)
{
    *r = (hw_run_record){.fd = -1};
    snprintf(r->mark, sizeof r->mark, "%s", mark);
    clean_up_after_others();
    r->fd = make_file(r);
    if (r->fd < 0)
        return hw_fail(err, HW_ERR_FAILED, "launch: cannot write to %s: %s", hw_temporary_folder(),
                       strerror(errno));
    hw_run_record_note(r, 0, 0);
    return HW_OK;
}

void hw_run_record_note(hw_run_record *r, pid_t mpirun, uint32_t job)
{
    char text[512];
    r->mpirun = mpirun;
    r->job = job;
    const int n = snprintf(text, sizeof text, "%s %d %x\n", r->mark, (int)mpirun, job);
    if (r->fd >= 0 && pwrite(r->fd, text, (size_t)n, 0) != n)
        unlink(r->path); /* a partial record is useless */
}

void hw_run_record_close(hw_run_record *r)
{
    remove_leftovers(r);
    if (r->fd < 0) return;
    unlink(r->path);
    close(r->fd);
    r->fd = -1;
}
