/* The parent of mpirun: passes signals on, watches the ranks (heartbeats.h), and makes a run that has lost a rank end at
 * once, with one message, and leave nothing behind. */
#ifndef HW_LAUNCH_SUPERVISE_SUPERVISOR_H
#define HW_LAUNCH_SUPERVISE_SUPERVISOR_H

#include <stdbool.h>

#include "runtime/base/status.h"

/* Plain. */
typedef struct hw_supervision {
    double stuck_after;        /* seconds without a heartbeat or progress */
    const char *report_folder; /* for the last collectives when a rank is lost; NULL: $TMPDIR */
    const char *interface;     /* cluster.interface, or NULL */
    const char *other_host;    /* one of the other machines, NULL when all ranks are on this one */
} hw_supervision;

/* Local. Runs argv, which starts ranks, with our standard streams until it and they have ended. SIGINT,
 * SIGTERM and SIGHUP are passed on. *exit_code is that of the program. Errors: HW_ERR_RANK, with the message, when a
 * rank died, was stopped or stuck, or cannot be reached, or mpirun itself was killed; HW_ERR_FAILED when argv cannot be
 * started. */
hw_status hw_supervise(char *const *argv, const hw_supervision *s, int *exit_code, hw_error *err);

#endif
