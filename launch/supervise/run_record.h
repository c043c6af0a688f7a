/* A file per run that records what the run has on this machine, so that the next start can clean up if launch itself was
 * killed. It is in $TMPDIR, locked while the run lasts, and removed with it. All functions are Local. */
#ifndef HW_LAUNCH_SUPERVISE_RUN_RECORD_H
#define HW_LAUNCH_SUPERVISE_RUN_RECORD_H

#include <stdint.h>
#include <sys/types.h>

#include "runtime/base/status.h"

typedef struct hw_run_record {
    int fd; /* -1: none */
    char path[4096];
    char mark[256]; /* of the run's processes (processes.h) */
    pid_t mpirun;
    uint32_t job;
} hw_run_record;

/* Cleans up after runs that have ended, then creates the record of this one. Errors: HW_ERR_FAILED; the run can continue
 * without a record. */
hw_status hw_run_record_open(hw_run_record *r, const char *mark, hw_error *err);

/* Records what the run has now. */
void hw_run_record_note(hw_run_record *r, pid_t mpirun, uint32_t job);

/* Call after mpirun has ended. Kills remaining processes of the run, and removes its files and the record. */
void hw_run_record_close(hw_run_record *r);

#endif
