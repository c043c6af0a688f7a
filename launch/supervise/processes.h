/* Processes of a run on this machine, identified by an environment variable that is unique to the run. All functions are
 * Local. */
#ifndef HW_LAUNCH_SUPERVISE_PROCESSES_H
#define HW_LAUNCH_SUPERVISE_PROCESSES_H

#include <stdbool.h>
#include <sys/types.h>

/* True for zombies too: where process 1 does not reap, an ended process stays one. */
bool hw_process_has_ended(pid_t pid);

/* `mark`: the value of HW_WATCH_VARIABLE. A process without it, or in another network namespace, is left alone. */
bool hw_process_is_stopped(pid_t pid, const char *mark);
void hw_process_kill(pid_t pid, const char *mark);

/* Kills all processes of a run, and waits up to a second until they are gone. */
void hw_processes_kill_all(const char *mark);

#endif
