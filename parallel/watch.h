/* The rank's side of supervision. A thread that never calls MPI keeps a connection to `headway launch`
 * (watch_wire.h) and reports the rank's progress ten times a second, so that a rank that is stopped, stuck or cut
 * off is noticed while the others wait for it. It ends the process when the launcher says so, and when the launcher
 * or the link to it is gone.
 *
 * The rank's main thread only records progress, a few stores each time. A NULL watch is fine everywhere: a rank
 * without a launcher has none. All functions are Local; those that record progress are for one thread. */
#ifndef HW_PARALLEL_WATCH_H
#define HW_PARALLEL_WATCH_H

#include "parallel/watch_wire.h"
#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hw_watch hw_watch;

/* Call before MPI is started. On HW_OK *out is NULL if no launcher is watching, else the caller owns it
 * (hw_watch_stop). Errors: HW_ERR_RANK (the launcher cannot be reached), HW_ERR_NO_MEMORY; then *out is NULL,
 * and the rank can run unwatched. */
hw_status hw_watch_start(hw_watch **out, hw_error *err);

/* Seconds without a heartbeat or progress after which the launcher reports a fault; 0 for NULL. */
double hw_watch_stuck_after(const hw_watch *w);

/* Announces that the process ends on its own. With an exit code other than 0 it ends the whole job, and has already
 * printed why. */
void hw_watch_leave(hw_watch *w, int exit_code);

/* The same, and ends the thread. */
void hw_watch_stop(hw_watch *w, int exit_code);

/* The meter whose last collectives are sent when the launcher asks; NULL: none. Borrowed until the next call. */
void hw_watch_set_meter(hw_watch *w, const hw_meter *meter);

/* Sets what the rank is doing from now on. Returns the previous phase. */
hw_watch_phase hw_watch_enter(hw_watch *w, hw_watch_phase phase);

/* A piece of work begins, and the previous one is done. `work`: its floating-point operations, or 0 for a
 * small one. */
void hw_watch_progress(hw_watch *w, uint64_t work);

/* A collective of n_bytes begins, and ends. */
void hw_watch_call_begin(hw_watch *w, hw_watch_call call, hw_tag tag, uint64_t n_bytes);
void hw_watch_call_end(hw_watch *w);

#ifdef __cplusplus
}
#endif
#endif
