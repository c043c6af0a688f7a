/* The launcher's side of heartbeats: what the ranks of a run tell it (parallel/watch_wire.h), gathered
 * in one table. It listens on the loopback interface, and where there are other hosts also on one address
 * of the network to them. All functions are Local. */
#ifndef HW_LAUNCH_SUPERVISE_HEARTBEATS_H
#define HW_LAUNCH_SUPERVISE_HEARTBEATS_H

#include <stdio.h>

#include "launch/supervise/diagnosis.h"
#include "runtime/base/status.h"

typedef struct hw_heartbeats hw_heartbeats;

/* `interface`: that of cluster.interface, or NULL; `other_host`: one of the other machines, NULL when
 * there is none. On HW_OK the caller owns *out. Errors: HW_ERR_FAILED (no address, no sockets),
 * HW_ERR_NO_MEMORY. */
hw_status hw_heartbeats_open(hw_heartbeats **out, const char *interface, const char *other_host, int limit_ms,
                             hw_error *err);
void hw_heartbeats_close(hw_heartbeats *h);

const char *hw_heartbeats_address(const hw_heartbeats *h); /* for HW_WATCH_VARIABLE */
int hw_heartbeats_fd(const hw_heartbeats *h);              /* readable when there is something to serve */

/* Takes in what came. `now_ns` is hw_clock_ns; calls that are more than a second apart mean that this
 * process was stopped, and all counting starts anew. */
void hw_heartbeats_serve(hw_heartbeats *h, uint64_t now_ns);

const hw_rank_view *hw_heartbeats_ranks(const hw_heartbeats *h,
                                        int *n_ranks); /* as of the last hw_heartbeats_serve */
hw_diagnosis
hw_heartbeats_diagnose(const hw_heartbeats *h);      /* HW_DIED where a connection ended without a farewell */
int hw_heartbeats_exit_code(const hw_heartbeats *h); /* of a rank that said that it ends the job, else 0 */
uint32_t hw_heartbeats_job(const hw_heartbeats *h);  /* Open MPI's number of the job, 0 until it is known */

/* Tells all ranks to send their last collectives and end. */
void hw_heartbeats_end_ranks(hw_heartbeats *h);
bool hw_heartbeats_is_empty(const hw_heartbeats *h); /* no rank is connected */
void hw_heartbeats_kill_local(const hw_heartbeats *h);

/* What every rank was doing, and its last collectives side by side. False when the file cannot be written. */
bool hw_heartbeats_write_report(const hw_heartbeats *h, FILE *f);

#endif
