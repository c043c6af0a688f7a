#include "launch/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child, between fork and exec. `told`: where to write why it failed; it closes by itself when it did
 * not. */
static void become(char *const *argv, const sigset_t *mask, pid_t parent, int told)
{
    sigprocmask(SIG_SETMASK, mask, NULL);
    signal(SIGPIPE, SIG_DFL); /* ours is ignored, and that would be inherited */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1); /* we were killed before the line above */
    execvp(argv[0], argv);
    const int code = errno;
    if (write(told, &code, sizeof code) < 0) _exit(126);
    _exit(127);
}

/* The errno of the exec, 0 when it went well. */
static int wait_for_exec(int fd)
{
    int code = 0;
    ssize_t n;
    while ((n = read(fd, &code, sizeof code)) < 0 && errno == EINTR) continue;
    close(fd);
    return n == sizeof code ? code : 0;
}

/* Signals of the terminal (si_code SI_KERNEL) reach the child without us, and twice would mean "at once" to
 * mpirun. */
static void serve(pid_t child, const sigset_t *mine, int *status)
{
    siginfo_t info;
    while (waitpid(child, status, WNOHANG) == 0) {
        const int signal_number = sigwaitinfo(mine, &info);
        if (signal_number > 0 && signal_number != SIGCHLD && info.si_code != SI_KERNEL)
            kill(child, signal_number);
    }
}

hw_status hw_child_run(char *const *argv, int *exit_code, hw_error *err)
{
    sigset_t mine, before;
    int told[2], status = 0;
    *exit_code = 1;
    sigemptyset(&mine);
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGCHLD};
    for (int i = 0; i < 4; i++) sigaddset(&mine, signals[i]);
    if (pipe2(told, O_CLOEXEC)) return hw_fail(err, HW_ERR_FAILED, "launch: no pipe: %s", strerror(errno));
    /* A SIGCHLD that is ignored, as some parents leave it, would take the exit code with it. */
    void (*old_handler)(int) = signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_BLOCK, &mine, &before);
    const pid_t parent = getpid(), child = fork();
    if (child == 0) become(argv, &before, parent, told[1]);
    int code = child < 0 ? errno : 0;
    close(told[1]);
    if (child < 0) close(told[0]);
    else {
        code = wait_for_exec(told[0]);
        serve(child, &mine, &status);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    signal(SIGCHLD, old_handler);
    if (code)
        return hw_fail(err, HW_ERR_FAILED, "cannot start %s: %s%s", argv[0], strerror(code),
                       code == ENOENT ? "; is it installed, and in PATH?" : "");
    *exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return HW_OK;
}
