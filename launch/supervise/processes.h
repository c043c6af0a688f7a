/* Processes of a run on this machine, known by a variable of their environment that no other run has. All
 * functions are Local. */
#ifndef HW_LAUNCH_SUPERVISE_PROCESSES_H
#define HW_LAUNCH_SUPERVISE_PROCESSES_H

#include <stdbool.h>
#include <sys/types.h>

/* Also when nobody has waited for it: where process 1 does not, it stays a zombie. */
bool hw_process_has_ended(pid_t pid);

/* `mark`: the value of HW_WATCH_VARIABLE. A process without it, or on another network than ours, is left
 * alone. */
bool hw_process_is_stopped(pid_t pid, const char *mark);
void hw_process_kill(pid_t pid, const char *mark);

/* Kills what is left of a run, and waits for up to a second until it is gone. */
void hw_processes_kill_all(const char *mark);

#endif
