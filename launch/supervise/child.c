#include "launch/supervise/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child, between fork and exec. `told`: a pipe for the errno of a failed exec; a successful exec closes it. */
static void become(char *const *argv, const sigset_t *mask, pid_t parent, int told)
{
    sigprocmask(SIG_SETMASK, mask, NULL);
    signal(SIGPIPE, SIG_DFL); /* we ignore it, and the child would inherit that */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1); /* we were killed before the prctl */
    execvp(argv[0], argv);
    const int code = errno;
    if (write(told, &code, sizeof code) < 0) _exit(126);
    _exit(127);
}

/* The errno of the exec, 0 if it succeeded. */
static int wait_for_exec(int fd)
{
    int code = 0;
    ssize_t n;
    while ((n = read(fd, &code, sizeof code)) < 0 && errno == EINTR) continue;
    close(fd);
    return n == sizeof code ? code : 0;
}

hw_status hw_child_start(pid_t *pid, char *const *argv, const sigset_t *mask, hw_error *err)
{
    int told[2];
    if (pipe2(told, O_CLOEXEC)) return hw_fail(err, HW_ERR_FAILED, "launch: no pipe: %s", strerror(errno));
    const pid_t parent = getpid();
    *pid = fork();
    if (*pid == 0) become(argv, mask, parent, told[1]);
    int code = *pid < 0 ? errno : 0;
    close(told[1]);
    if (*pid < 0) close(told[0]);
    else if ((code = wait_for_exec(told[0]))) waitpid(*pid, NULL, 0);
    if (!code) return HW_OK;
    return hw_fail(err, HW_ERR_FAILED, "cannot start %s: %s%s", argv[0], strerror(code),
                   code == ENOENT ? "; is it installed, and in PATH?" : "");
}
