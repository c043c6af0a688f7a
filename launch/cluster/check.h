/* Checks every host of a cluster before a run is started there. */
#ifndef HW_LAUNCH_CLUSTER_CHECK_H
#define HW_LAUNCH_CLUSTER_CHECK_H

#include "launch/settings/config.h"

/* The commands of a check: one for each host, or one for all under srun, and one that starts the ranks. Plain;
 * hw_cluster_check_free. */
typedef struct hw_cluster_check {
    hw_command_line *hosts; /* [n_hosts] */
    int n_hosts;
    hw_command_line pairs;
} hw_cluster_check;

/* Local. `threads` of each rank; 0: one per core of its share. On HW_OK the caller owns *out. Errors: as
 * hw_cluster_command. */
hw_status hw_cluster_check_compose(hw_cluster_check *out, const hw_config *config, const hw_here *here,
                                   int threads, hw_error *err);
void hw_cluster_check_free(hw_cluster_check *check);

/* Local. Runs the commands, each until it has printed nothing for some seconds, and prints a table of the results and, for
 * each problem, a line with a remedy. HW_OK if there is none. Errors: that of the most serious problem: HW_ERR_INVALID (a host that
 * does not answer, another program, too few cores or GPUs), HW_ERR_MODEL (files), HW_ERR_NO_MEMORY, HW_ERR_DEVICE (ranks do not
 * start, or get no message). */
hw_status hw_cluster_check_run(const hw_cluster_check *check, const hw_config *config, int threads,
                               hw_error *err);

#endif
