/* Removes what Open MPI leaves on this machine when its processes are killed, if it provably belongs to a given
 * run. All functions are Local, and do not report what they could not remove. */
#ifndef HW_PARALLEL_OMPI_CLEANUP_H
#define HW_PARALLEL_OMPI_CLEANUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Removes this rank's segment of shared memory. For a rank that is about to end without MPI_Finalize. */
void hw_ompi_cleanup_remove_own(void);

/* Whether a process is a running Open MPI daemon. It is the parent of ranks on every host but mpirun's own. */
bool hw_ompi_cleanup_is_daemon(pid_t pid);

/* Kills the daemon above this rank and its other ranks, and removes their segments and session folder: cut off from
 * mpirun, it would wait for minutes. No-op if `daemon` is not a daemon. */
void hw_ompi_cleanup_end_daemon(pid_t daemon);

/* Removes the segments of all ranks of a job that this user had on this machine. */
void hw_ompi_cleanup_remove_segments(uint32_t job);

/* Removes the session folder and other temporary files of an mpirun that has ended. */
void hw_ompi_cleanup_remove_session(pid_t mpirun);

#endif
