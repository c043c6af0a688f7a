/* A file per run that says what the run has on this machine, so that the next start can remove it when
 * launch itself was killed. It lies in $TMPDIR, is locked while the run goes on, and is gone with it. All
 * functions are Local. */
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

/* Removes what runs left that are over, then makes this one's record. Errors: HW_ERR_FAILED; the run can
 * go on without. */
hw_status hw_run_record_open(hw_run_record *r, const char *mark, hw_error *err);

/* Notes what the run has now. */
void hw_run_record_note(hw_run_record *r, pid_t mpirun, uint32_t job);

/* Ends processes of the run that are still there, removes what it has left, and the record. mpirun has
 * ended. */
void hw_run_record_close(hw_run_record *r);

#endif
