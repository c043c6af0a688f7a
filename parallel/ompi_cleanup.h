/* What Open MPI leaves on this machine when its processes are killed, and removing what is provably a
 * run's own. All functions are Local, and say nothing about what they could not remove. */
#ifndef HW_PARALLEL_OMPI_CLEANUP_H
#define HW_PARALLEL_OMPI_CLEANUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* This rank's segment of shared memory, when it is about to end without MPI_Finalize. */
void hw_ompi_cleanup_remove_own(void);

/* Whether a process is Open MPI's daemon of a host, and runs. Above a rank it is on every host but mpirun's own. */
bool hw_ompi_cleanup_is_daemon(pid_t pid);

/* Ends the daemon above this rank and the other ranks below it, and removes their segments and session folder: cut
 * off from mpirun, it would wait for minutes. Nothing happens where `daemon` is none. */
void hw_ompi_cleanup_end_daemon(pid_t daemon);

/* Segments of all ranks of a job that this user had on this machine. */
void hw_ompi_cleanup_remove_segments(uint32_t job);

/* The session folder and other temporary files of an mpirun that has ended. */
void hw_ompi_cleanup_remove_session(pid_t mpirun);

#endif
