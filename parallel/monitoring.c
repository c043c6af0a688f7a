#include "parallel/monitoring.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/host.h"

enum { MAX_PATH = 4096, WAIT_S = 10 };

struct hw_monitoring {
    char folder[MAX_PATH];
    int rank, n_ranks;
    bool marked;    /* this rank has reported that it is done: rank 0 cleans up */
    hw_pair *pairs; /* [n_ranks, n_ranks] from, to */
};

/* A name of the job, equal on all ranks and unique on this host. */
static const char *job_name(void)
{
    static const char *const names[] = {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "SLURM_JOB_ID"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i])) return getenv(names[i]);
    return "0";
}

static hw_status make_folder(hw_monitoring *m, hw_error *err)
{
    struct stat info;
    int n = snprintf(m->folder, sizeof m->folder, "%s/headway-monitoring-%ld-%s", hw_temporary_folder(),
                     (long)getuid(), job_name());
    if (n >= (int)sizeof m->folder - 64) return hw_fail(err, HW_ERR_FAILED, "TMPDIR is too long a name");
    if (mkdir(m->folder, 0700) && errno != EEXIST)
        return hw_fail(err, HW_ERR_FAILED, "%s: cannot make a folder for Open MPI's counts: %s", m->folder,
                       strerror(errno));
    /* Another rank may have created it, but not another user. */
    if (lstat(m->folder, &info) || !S_ISDIR(info.st_mode) || info.st_uid != getuid())
        return hw_fail(err, HW_ERR_FAILED, "%s: is there already, and is not a folder of ours", m->folder);
    return HW_OK;
}

static void report_path(const hw_monitoring *m, char path[MAX_PATH], int rank, const char *ending)
{
    snprintf(path, MAX_PATH, "%.*s/count.%d.%s", MAX_PATH - 64, m->folder, rank, ending);
}

hw_status hw_monitoring_start(hw_monitoring **out, hw_error *err)
{
    *out = NULL;
    if (hw_comm_launched_ranks() < 2)
        return hw_fail(
            err, HW_ERR_INVALID,
            "with one rank nothing is sent that could be verified; start it with mpirun -np 2 or more");
    hw_monitoring *m = calloc(1, sizeof *m);
    if (!m) return hw_fail(err, HW_ERR_NO_MEMORY, "monitoring: no memory");
    m->rank = hw_comm_launched_rank();
    hw_status st = make_folder(m, err);
    if (st) {
        hw_monitoring_destroy(m);
        return st;
    }
    char prefix[MAX_PATH], stale[MAX_PATH];
    snprintf(prefix, sizeof prefix, "%.*s/count", MAX_PATH - 64, m->folder);
    report_path(m, stale, m->rank, "prof");
    unlink(stale);
    report_path(m, stale, m->rank, "done");
    unlink(stale);
    /* 2: tell the program's messages from MPI's own. 3: write a report per rank to a file of this name. */
    setenv("OMPI_MCA_pml_monitoring_enable", "2", 1);
    setenv("OMPI_MCA_pml_monitoring_enable_output", "3", 1);
    setenv("OMPI_MCA_pml_monitoring_filename", prefix, 1);
    *out = m;
    return HW_OK;
}

hw_status hw_monitoring_collect(hw_monitoring *m, hw_comm *c, hw_error *err)
{
    size_t n = (size_t)hw_comm_n_ranks(c);
    const hw_meter *meter = hw_comm_meter(c);
    m->n_ranks = (int)n;
    m->rank = hw_comm_rank(c);
    m->pairs = calloc(n * n, sizeof *m->pairs);
    uint64_t *mine = calloc(2 * n, sizeof *mine), *all = calloc(2 * n * n, sizeof *all);
    hw_status st = m->pairs && mine && all
                       ? HW_OK
                       : hw_fail(err, HW_ERR_NO_MEMORY, "monitoring: no memory for %zu ranks", n);
    st = hw_comm_agree(c, st, err);
    for (size_t to = 0; to < n && !st; to++) {
        mine[2 * to] = hw_meter_sent_bytes(meter, (int)to);
        mine[2 * to + 1] = hw_meter_sent_messages(meter, (int)to);
    }
    size_t row = 2 * n * sizeof *mine;
    if (!st) st = hw_comm_all_gather(c, (hw_tag){.site = HW_SITE_CONTROL}, mine, row, all, err);
    for (size_t i = 0; i < n * n && !st; i++) {
        /* The gather itself sent each rank's row to every other rank. */
        bool other = i / n != i % n;
        m->pairs[i].metered_bytes = all[2 * i] + (other ? row : 0);
        m->pairs[i].metered_messages = all[2 * i + 1] + other;
    }
    free(mine);
    free(all);
    return st;
}

static hw_status wait_for(const hw_monitoring *m, int rank, const char *ending, hw_error *err)
{
    char path[MAX_PATH];
    uint64_t start = hw_clock_ns();
    report_path(m, path, rank, ending);
    while (access(path, F_OK)) {
        if (hw_seconds_since(start) > WAIT_S)
            return hw_fail(
                err, HW_ERR_UNSUPPORTED,
                "%s: Open MPI wrote no count for rank %d: its monitoring component is missing "
                "(ompi_info | grep "
                "monitoring), was switched off (--mca pml ob1 does), or that rank's host does not "
                "share this folder (cluster.environment: [\"TMPDIR=FOLDER\"], or mpirun -x TMPDIR)",
                path, rank);
        usleep(2000);
    }
    return HW_OK;
}

static hw_status read_report(hw_monitoring *m, int rank, hw_error *err)
{
    char path[MAX_PATH], line[1024], kind;
    hw_status st = wait_for(m, rank, "prof", err);
    if (st) return st;
    report_path(m, path, rank, "prof");
    FILE *f = fopen(path, "re");
    if (!f) return hw_fail(err, HW_ERR_FAILED, "%s: cannot read Open MPI's count: %s", path, strerror(errno));
    while (fgets(line, sizeof line, f)) {
        int from, to;
        uint64_t bytes, messages;
        if (sscanf(line, "%c\t%d\t%d\t%" SCNu64 " bytes\t%" SCNu64 " msgs", &kind, &from, &to, &bytes,
                   &messages) != 5)
            continue;
        if (from != rank || to < 0 || to >= m->n_ranks) continue;
        hw_pair *p = &m->pairs[(size_t)from * (size_t)m->n_ranks + (size_t)to];
        if (kind == 'E') p->counted_bytes += bytes, p->counted_messages += messages;
        if (kind == 'I') p->internal_bytes += bytes, p->internal_messages += messages;
    }
    fclose(f);
    return HW_OK;
}

static void remove_reports(const hw_monitoring *m)
{
    char path[MAX_PATH];
    for (int r = 0; r < m->n_ranks; r++) {
        report_path(m, path, r, "prof");
        unlink(path);
        report_path(m, path, r, "done");
        unlink(path);
    }
    rmdir(m->folder);
}

/* MPI has ended on this rank, so its report is complete. */
static hw_status mark_done(hw_monitoring *m, hw_error *err)
{
    char path[MAX_PATH];
    report_path(m, path, m->rank, "done");
    FILE *f = fopen(path, "wex");
    m->marked = true;
    if (!f || fclose(f)) return hw_fail(err, HW_ERR_FAILED, "%s: cannot write: %s", path, strerror(errno));
    return HW_OK;
}

hw_status hw_monitoring_compare(hw_monitoring *m, const hw_pair **pairs, hw_error *err)
{
    *pairs = NULL;
    hw_status st = mark_done(m, err);
    if (m->rank) return st;
    /* All ranks have ended before anything is read or removed. */
    for (int r = 0; r < m->n_ranks && !st; r++) st = wait_for(m, r, "done", err);
    for (int r = 0; r < m->n_ranks && !st; r++) st = read_report(m, r, err);
    remove_reports(m);
    if (!st) *pairs = m->pairs;
    return st;
}

/* Nothing was compared: every rank removes its own report, and the last one the folder. */
static void remove_own(const hw_monitoring *m)
{
    char path[MAX_PATH];
    report_path(m, path, m->rank, "prof");
    unlink(path);
    rmdir(m->folder);
}

void hw_monitoring_destroy(hw_monitoring *m)
{
    if (!m) return;
    if (!m->marked) remove_own(m);
    free(m->pairs);
    free(m);
}
