/* Processes of a trial, found without the help of the program under test: by a variable of their
 * environment, and where there are several hosts also by the network that they are in. */
#ifndef HW_TESTS_FAULTS_PROCESSES_H
#define HW_TESTS_FAULTS_PROCESSES_H

#include <stdbool.h>
#include <sys/types.h>

enum { MAX_PROCESSES = 64 };

typedef struct process {
    pid_t pid;
    int rank; /* -1: not a rank */
    bool is_mpirun;
} process;

typedef struct processes {
    process all[MAX_PROCESSES];
    int n, n_ranks;
} processes;

#define TRIAL_VARIABLE "HW_FAULT_TRIAL"

/* Those with TRIAL_VARIABLE=mark, and those on the hosts of $HW_NET; not this process, not zombies. */
processes find_processes(const char *mark);

bool is_running(pid_t pid); /* a zombie has ended */

/* Whether its first thread is in a system call: read of descriptor 0; a nap. True as well where the kernel does not say. */
bool reads_input(pid_t pid);
bool naps(pid_t pid);

#endif
