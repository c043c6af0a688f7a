/* The machines of a run, from the configuration, and the command that starts the ranks on them. */
#ifndef HW_LAUNCH_CLUSTER_CLUSTER_H
#define HW_LAUNCH_CLUSTER_CLUSTER_H

#include <stdbool.h>

#include "runtime/base/status.h"

enum { HW_MAX_HOSTS = 1024, HW_MAX_ENVIRONMENT = 64 };

typedef enum hw_launcher { HW_MPIRUN, HW_SRUN } hw_launcher;
typedef enum hw_binding { HW_BIND_AUTO, HW_BIND_CORE, HW_BIND_NONE } hw_binding;
typedef enum hw_choice { HW_AUTO = -1, HW_NO, HW_YES } hw_choice;

typedef struct hw_host {
    const char *name;
    int slots; /* number of ranks on it */
} hw_host;

/* Plain. Texts are borrowed. */
typedef struct hw_cluster {
    int ranks; /* 0: as many as there are slots */
    hw_launcher launcher;
    hw_host hosts[HW_MAX_HOSTS]; /* [n_hosts] */
    int n_hosts;                 /* 0: this host under mpirun, Slurm's choice under srun */
    int nodes;                   /* srun without hosts: number of nodes; 0: Slurm's choice */
    int devices_per_slot;        /* GPUs per rank requested from Slurm */
    const char *interface;       /* NULL: Open MPI's choice; else devices or subnets, separated by commas */
    hw_binding binding;
    hw_choice oversubscribe;
    const char *environment[HW_MAX_ENVIRONMENT]; /* [n_environment] NAME, or NAME=VALUE */
    int n_environment;
    const char *
        remote_shell; /* NULL: ssh; else the program with which mpirun reaches other hosts, and its options */
    const char *work_folder;   /* NULL: the working directory of launch */
    const char *program;       /* NULL: the program that runs launch */
    const char *report_folder; /* limits.report_folder; NULL: $TMPDIR */
} hw_cluster;

/* The words of a command line. Plain; hw_command_line_free. */
typedef struct hw_command_line {
    char **words; /* [n + 1], ends with NULL */
    int n, capacity;
} hw_command_line;

/* The properties of this machine on which the command depends. Plain. */
typedef struct hw_here {
    const char *host_name, *program, *config; /* absolute paths */
    int n_cores; /* that this process may use; hardware threads of a core count as one */
    bool root;
} hw_here;

/* Local. Composes the command that runs `headway SUBCOMMAND -c CONFIG ARGUMENTS...` on the cluster. args
 * [n_args] begins with the subcommand; `threads` is the number of threads of each rank; 0: its share of the cores,
 * which the ranks of a host divide themselves if they are not bound. Pure: the same input gives the same
 * command. On HW_OK the caller owns *out. Errors: HW_ERR_INVALID (more ranks than slots, uneven slots under
 * srun), HW_ERR_NO_MEMORY. */
hw_status hw_cluster_command(hw_command_line *out, const hw_cluster *c, const hw_here *here, int threads,
                             char *const *args, int n_args, hw_error *err);
void hw_command_line_free(hw_command_line *line);

/* Local. Appends a copy of a word; false when out of memory, or if the word is NULL. */
bool hw_command_line_add(hw_command_line *line, const char *word);

/* Local. Whether a host of the file is this machine. */
bool hw_host_is_here(const char *host, const hw_here *here);

/* Local. The first host that is not this machine, NULL if there is none. With srun its name is unknown: "" if there may be
 * one. */
const char *hw_cluster_other_host(const hw_cluster *c, const hw_here *here);

#endif
