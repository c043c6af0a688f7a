/* Runs code that may not run on this processor at all. */
#ifndef HW_KERNELS_CPU_GUARD_H
#define HW_KERNELS_CPU_GUARD_H

/* Local. Calls fn(arg) on this thread. Returns 0 when it came back, and the signal when it was ended by one that an
 * instruction of its own raised: SIGILL, SIGSEGV, SIGBUS or SIGFPE. What fn held is then still held, so it takes no
 * locks and no memory. The same signals on other threads, or sent by a process, go to whoever handled them before;
 * handlers, signal mask and floating-point environment are afterwards what they were. One call at a time in a process: others wait. */
int hw_guarded(void (*fn)(void *arg), void *arg);

/* "SIGILL". Static. */
const char *hw_guarded_signal_name(int signal);

#endif
