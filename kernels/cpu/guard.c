#include "kernels/cpu/guard.h"

#include <fenv.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

static const int guarded_signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE};
enum { N_SIGNALS = sizeof guarded_signals / sizeof *guarded_signals };

/* Handlers belong to the process, so there is one guard, and one call at a time has it. */
static struct {
    pthread_mutex_t mutex;
    pthread_t thread; /* runs fn */
    sigjmp_buf way_out;
    volatile sig_atomic_t ended_by;
    struct sigaction before[N_SIGNALS];
} guard = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static struct sigaction *handled_before(int signal)
{
    size_t i = 0;
    while (guarded_signals[i] != signal) i++;
    return &guard.before[i];
}

/* As if there were no guard. Without a handler of its own the process ends: an instruction that is run again under the
 * default action raises its signal again. */
static void pass_on(int signal, siginfo_t *info, void *context, bool by_instruction)
{
    struct sigaction *const before = handled_before(signal), was = *before;
    const bool has_siginfo = was.sa_flags & SA_SIGINFO;
    if (!has_siginfo && was.sa_handler == SIG_IGN && !by_instruction) return;
    if (!has_siginfo && (was.sa_handler == SIG_DFL || was.sa_handler == SIG_IGN)) {
        const struct sigaction none = {.sa_handler = SIG_DFL};
        (void)sigaction(signal, &none, NULL);
        if (!by_instruction) (void)raise(signal);
        return;
    }
    if (was.sa_flags & SA_RESETHAND) *before = (struct sigaction){.sa_handler = SIG_DFL};
    if (has_siginfo) was.sa_sigaction(signal, info, context);
    else was.sa_handler(signal);
}

static void catch_signal(int signal, siginfo_t *info, void *context)
{
    const bool by_instruction = info->si_code > 0; /* those that a process sends have 0 or less */
    if (by_instruction && pthread_equal(pthread_self(), guard.thread)) {
        guard.ended_by = signal;
        siglongjmp(guard.way_out, 1);
    }
    pass_on(signal, info, context, by_instruction);
}

/* With the mask that a handler had: it may have to be passed a signal. A blocked signal of an instruction would end the
 * process. */
static void install(sigset_t *mask_before)
{
    sigset_t ours;
    sigemptyset(&ours);
    for (int i = 0; i < N_SIGNALS; i++) {
        (void)sigaction(guarded_signals[i], NULL, &guard.before[i]);
        struct sigaction mine = {.sa_sigaction = catch_signal, .sa_mask = guard.before[i].sa_mask};
        mine.sa_flags = SA_SIGINFO | SA_ONSTACK | (guard.before[i].sa_flags & (SA_RESTART | SA_NODEFER));
        (void)sigaction(guarded_signals[i], &mine, NULL);
        sigaddset(&ours, guarded_signals[i]);
    }
    (void)pthread_sigmask(SIG_UNBLOCK, &ours, mask_before);
}

static void restore(const sigset_t *mask_before)
{
    for (int i = 0; i < N_SIGNALS; i++) (void)sigaction(guarded_signals[i], &guard.before[i], NULL);
    (void)pthread_sigmask(SIG_SETMASK, mask_before, NULL);
}

int hw_guarded(void (*fn)(void *arg), void *arg)
{
    sigset_t mask_before;
    fenv_t numbers_before; /* a jump out of a handler leaves the handler's */
    (void)pthread_mutex_lock(&guard.mutex);
    guard.thread = pthread_self();
    guard.ended_by = 0;
    fegetenv(&numbers_before);
    install(&mask_before);
    if (!sigsetjmp(guard.way_out, 1)) fn(arg);
    const int signal = guard.ended_by;
    fesetenv(&numbers_before);
    restore(&mask_before);
    (void)pthread_mutex_unlock(&guard.mutex);
    return signal;
}

const char *hw_guarded_signal_name(int signal)
{
    switch (signal) {
    case SIGILL: return "SIGILL";
    case SIGSEGV: return "SIGSEGV";
    case SIGBUS: return "SIGBUS";
    case SIGFPE: return "SIGFPE";
    default: return "a signal";
    }
}
