/* Runs code that may use instructions that this processor does not have. */
#ifndef HW_KERNELS_CPU_GUARD_H
#define HW_KERNELS_CPU_GUARD_H

/* Local. Calls fn(arg) on this thread. Returns 0 if it returned, else the signal that one of its instructions raised:
 * SIGILL, SIGSEGV, SIGBUS or SIGFPE. Resources of fn are then leaked, so it must not lock or allocate. The same signals on
 * other threads, or sent by a process, go to the previous handlers; handlers, signal mask and floating-point environment
 * are restored afterwards. One call at a time per process: others wait. */
int hw_guarded(void (*fn)(void *arg), void *arg);

/* "SIGILL". Static. */
const char *hw_guarded_signal_name(int signal);

#endif
