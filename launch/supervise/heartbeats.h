/* The launcher's side of the supervisor: what the ranks of a run tell it (parallel/watch_wire.h), gathered
 * in one table. It listens on the loopback interface, and where there are other hosts also on one address
 * of the network to them. All functions are Local. */
#ifndef HW_LAUNCH_SUPERVISE_HEARTBEATS_H
#define HW_LAUNCH_SUPERVISE_HEARTBEATS_H

#include <stdio.h>

#include "launch/supervise/diagnosis.h"
#include "runtime/base/status.h"

typedef struct hw_hub hw_hub;

/* `interface`: that of cluster.interface, or NULL; `other_host`: one of the other machines, NULL when
 * there is none. On HW_OK the caller owns *out. Errors: HW_ERR_FAILED (no address, no sockets),
 * HW_ERR_NO_MEMORY. */
hw_status hw_hub_open(hw_hub **out, const char *interface, const char *other_host, int limit_ms,
                      hw_error *err);
void hw_hub_close(hw_hub *h);

const char *hw_hub_address(const hw_hub *h); /* for HW_WATCH_VARIABLE */
int hw_hub_fd(const hw_hub *h);              /* readable when there is something to serve */

/* Takes in what came. `now_ns` is hw_clock_ns; calls that are more than a second apart mean that this
 * process was stopped, and all counting starts anew. */
void hw_hub_serve(hw_hub *h, uint64_t now_ns);

const hw_rank_view *hw_hub_ranks(const hw_hub *h, int *n_ranks); /* as of the last hw_hub_serve */
hw_verdict hw_hub_judge(const hw_hub *h); /* HW_DIED where a connection ended without a farewell */
int hw_hub_exit_code(const hw_hub *h);    /* of a rank that said that it ends the job, else 0 */
uint32_t hw_hub_job(const hw_hub *h);     /* Open MPI's number of the job, 0 until it is known */

/* Tells all ranks to send their last collectives and end. */
void hw_hub_end_ranks(hw_hub *h);
bool hw_hub_is_empty(const hw_hub *h); /* no rank is connected */
void hw_hub_kill_local(const hw_hub *h);

/* What every rank was doing, and its last collectives side by side. False when the file cannot be written. */
bool hw_hub_write_report(const hw_hub *h, FILE *f);

#endif
