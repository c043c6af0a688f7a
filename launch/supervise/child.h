/* Runs another program with our standard streams; it is terminated when we are killed. */
#ifndef HW_LAUNCH_SUPERVISE_CHILD_H
#define HW_LAUNCH_SUPERVISE_CHILD_H

#include <signal.h>
#include <sys/types.h>

#include "runtime/base/status.h"

/* Local. Starts argv (NULL-terminated, searched in PATH) with the signal mask `mask`. It gets SIGTERM
 * when we are killed. On HW_OK the caller waits for *pid. Errors: HW_ERR_FAILED when it cannot be started. */
hw_status hw_child_start(pid_t *pid, char *const *argv, const sigset_t *mask, hw_error *err);

#endif
