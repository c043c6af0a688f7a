/* Another program that is run in our place: it gets the signals that we get, and its end is ours. */
#ifndef HW_LAUNCH_CHILD_H
#define HW_LAUNCH_CHILD_H

#include "runtime/base/status.h"

/* Local. Runs argv (NULL-terminated, looked up in PATH) with our standard streams until it ends. SIGINT,
 * SIGTERM and SIGHUP are passed on, and it gets SIGTERM when we are killed. *exit_code is its own, or 128 +
 * the signal that killed it. Errors: HW_ERR_FAILED when it cannot be started. */
hw_status hw_child_run(char *const *argv, int *exit_code, hw_error *err);

#endif
