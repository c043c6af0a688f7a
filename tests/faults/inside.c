/* Faults that a process can only do to itself, for LD_PRELOAD: on SIGUSR1 its own thread hangs for ever,
 * on SIGUSR2 it exits as if all were well. Rank HW_SLOW_END comes back late from MPI_Finalize, as on a busy machine. */
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/faults/trial.h"

int MPI_Finalize(void);
int MPI_Finalize(void)
{
    int (*finalize)(void);
    void *const symbol = dlsym(RTLD_NEXT, "MPI_Finalize");
    const char *slow = getenv("HW_SLOW_END"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    memcpy(&finalize, &symbol, sizeof finalize); /* C has no cast from an object to a function */
    const int code = finalize();
    if (slow && rank && !strcmp(slow, rank)) usleep(SLOW_END_US);
    return code;
}

static void act(int signal_number)
{
    const pid_t process = getpid();
    if (signal_number == SIGUSR2) _exit(0);
    /* A library's thread that took the signal is not the one that should hang. */
    if (gettid() != process) syscall(SYS_tgkill, process, process, signal_number);
    else
        for (;;) pause();
}

__attribute__((constructor)) static void prepare(void)
{
    const struct sigaction action = {.sa_handler = act};
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
}
