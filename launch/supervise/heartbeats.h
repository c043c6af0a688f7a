/* The launcher's side of heartbeats: collects the messages of the ranks (parallel/watch_wire.h) in one table. It listens
 * on the loopback interface and, with other hosts, also on one address of the network to them. All functions are
 * Local. */
#ifndef HW_LAUNCH_SUPERVISE_HEARTBEATS_H
#define HW_LAUNCH_SUPERVISE_HEARTBEATS_H

#include <stdio.h>

#include "launch/supervise/diagnosis.h"
#include "runtime/base/status.h"

typedef struct hw_heartbeats hw_heartbeats;

/* `interface`: cluster.interface, or NULL; `other_host`: one of the other machines, NULL if there is none. On HW_OK the
 * caller owns *out. Errors: HW_ERR_FAILED (no address, no sockets), HW_ERR_NO_MEMORY. */
hw_status hw_heartbeats_open(hw_heartbeats **out, const char *interface, const char *other_host, int limit_ms,
                             hw_error *err);
void hw_heartbeats_close(hw_heartbeats *h);

const char *hw_heartbeats_address(const hw_heartbeats *h); /* for HW_WATCH_VARIABLE */
int hw_heartbeats_fd(const hw_heartbeats *h);              /* readable when hw_heartbeats_serve has work */

/* Processes all pending messages. `now_ns` is hw_clock_ns. If calls are more than a second apart, this process was
 * paused, and all timing restarts. */
void hw_heartbeats_serve(hw_heartbeats *h, uint64_t now_ns);

const hw_rank_view *hw_heartbeats_ranks(const hw_heartbeats *h,
                                        int *n_ranks); /* as of the last hw_heartbeats_serve */
hw_diagnosis
hw_heartbeats_diagnose(const hw_heartbeats *h); /* HW_DIED if a connection ended without a leave message */
int hw_heartbeats_exit_code(const hw_heartbeats *h); /* announced by a rank that ends the job, else 0 */
uint32_t hw_heartbeats_job(const hw_heartbeats *h);  /* Open MPI's job number, 0 until it is known */

/* Tells all ranks to send their last collectives and end. */
void hw_heartbeats_end_ranks(hw_heartbeats *h);
bool hw_heartbeats_is_empty(const hw_heartbeats *h); /* no rank is connected */
void hw_heartbeats_kill_local(const hw_heartbeats *h);

/* Writes what every rank was doing, and its last collectives. False when the file cannot be written. */
bool hw_heartbeats_write_report(const hw_heartbeats *h, FILE *f);

#endif
