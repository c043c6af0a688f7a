/* Faults that a process can only do to itself, for LD_PRELOAD: on SIGUSR1 its own thread hangs for ever,
 * on SIGUSR2 it exits as if all were well. */
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

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
