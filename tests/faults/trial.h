/* One run under `headway launch` that something happens to, and how it ended. */
#ifndef HW_TESTS_FAULTS_TRIAL_H
#define HW_TESTS_FAULTS_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

typedef enum fault {
    FAULT_KILL,   /* SIGKILL */
    FAULT_CRASH,  /* SIGSEGV */
    FAULT_STOP,   /* SIGSTOP */
    FAULT_EXIT,   /* _exit(0) in the middle */
    FAULT_STUCK,  /* the rank's thread hangs, the process lives */
    FAULT_DISK,   /* a rank may write no file (RLIMIT_FSIZE) */
    FAULT_MEMORY, /* a rank gets no more memory (RLIMIT_AS) */
    FAULT_MPIRUN, /* SIGKILL for mpirun */
    FAULT_LAUNCH, /* SIGKILL for launch and mpirun: nobody is left to clean up, but for the next start */
    FAULT_LINK,   /* two hosts, and the cable between them is pulled out */
    N_FAULTS
} fault;

typedef enum phase {
    PHASE_LOADING,
    PHASE_PREFILLING,
    PHASE_DECODING,
    PHASE_IDLE,   /* rank 0 waits for its prompt, and the others for rank 0 */
    PHASE_ENDING, /* a rank has ended; for FAULT_LINK, since the others end by themselves at any moment */
    N_PHASES
} phase;

extern const char *const fault_names[N_FAULTS], *const phase_names[N_PHASES];

/* A limit may never be met, and then the run comes to its end. */
bool is_limit(fault f);

/* Seconds: until a message is there, and until everything is gone. A fault without a bound for the first
 * has 0 there. */
typedef struct bounds {
    double told, gone;
} bounds;
extern const bounds fault_bounds[N_FAULTS];

typedef struct trial {
    fault fault;
    phase phase;
    int n_ranks, victim; /* a rank; -1: whoever it is */
    bool messages; /* collectives by messages; false: in shared memory, where the ranks are on one host */
    double delay;  /* seconds after the ranks are there */
    int slow_end;  /* a rank that takes longer to end; -1: none */
    bool untimed;  /* seconds are not judged: the machine may be busy */
} trial;

typedef struct outcome {
    bool disturbed; /* this machine stood still, or no ranks came: nothing was shown */
    bool unharmed;  /* the run came to its end: it asked for nothing that the limit forbids, or was faster */
    double told, gone; /* seconds after the fault; -1: not within the time-out */
    int exit_code;
    char message[512];    /* the line of ours, "" when there is none */
    char complaint[1024]; /* what is wrong with how it ended, "" when nothing is */
} outcome;

enum { SLOW_END_US = 800000 };

/* Untimed, it is for what hangs: no bound of the program's own is longer than 35 s (a rank that hangs where it may read a
 * file), and a busy machine may make several times as much of it. */
enum { TRIAL_TIMEOUT_S = 40, UNTIMED_TIMEOUT_S = 240 };

/* `folder`: for its files. FAULT_LINK needs tests/net/with_hosts 2 around the process. */
outcome run_trial(trial t, const char *folder);

#endif
