/* A rank's side of the supervisor. A thread that never calls MPI keeps a connection to `headway launch`
 * (watch_wire.h) and tells it ten times a second how far the rank is, so that a rank that is stopped, stuck
 * or cut off is noticed while the others wait for it. It ends the process when the launcher says so, and when
 * the launcher or the link to it is gone.
 *
 * The rank itself only leaves marks, a few stores each. A NULL watch is fine everywhere: a rank without
 * a launcher has none. All functions are Local; those that leave marks are for one thread. */
#ifndef HW_PARALLEL_WATCH_H
#define HW_PARALLEL_WATCH_H

#include "parallel/watch_wire.h"
#include "runtime/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hw_watch hw_watch;

/* Before MPI is started. On HW_OK *out is NULL when no launcher asked to be told, else the caller owns it
 * (hw_watch_stop). Errors: HW_ERR_RANK (the launcher cannot be reached), HW_ERR_NO_MEMORY; *out is NULL
 * then, and the rank can run unwatched. */
hw_status hw_watch_start(hw_watch **out, hw_error *err);

/* Seconds without a sign of life or progress that the launcher takes for a fault; 0 for NULL. */
double hw_watch_stuck_after(const hw_watch *w);

/* Says that the process ends of its own will: with another exit code than 0 it ends the whole job, and has
 * told why. */
void hw_watch_leave(hw_watch *w, int exit_code);

/* The same, and ends the thread. */
void hw_watch_stop(hw_watch *w, int exit_code);

/* Whose last collectives are sent when the launcher asks; NULL: nobody's. Borrowed until the next call. */
void hw_watch_set_meter(hw_watch *w, const hw_meter *meter);

/* What the rank does from now on. Returns what it did before. */
hw_watch_phase hw_watch_enter(hw_watch *w, hw_watch_phase phase);

/* A piece of work begins, and the one before it is done. `work`: its floating-point operations, or 0 for a
 * small one. */
void hw_watch_progress(hw_watch *w, uint64_t work);

/* A collective of so many bytes begins, and ends. */
void hw_watch_call_begin(hw_watch *w, hw_watch_call call, hw_tag tag, uint64_t n_bytes);
void hw_watch_call_end(hw_watch *w);

#ifdef __cplusplus
}
#endif
#endif
