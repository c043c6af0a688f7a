/* A processor that is broken on request: takes the place of hw_cpu_paths where a program is linked with
 * -Wl,--wrap=hw_cpu_paths (hw_faulty_paths in tests/support/CMakeLists.txt). The environment variable HW_TEST_FAULT says
 * which products go wrong, as in "amx:bits,avx512:sigill": bits (of 3 rows or more the last number, in its last place),
 * sigill, sigsegv, sigbus, sigfpe (each by an instruction), slow (half the rate of multiply-adds), or count (nothing is wrong).
 * Empty: none. */
#ifndef HW_TESTS_SUPPORT_FAULTY_PATHS_H
#define HW_TESTS_SUPPORT_FAULTY_PATHS_H

#include "kernels/cpu/paths.h"

const hw_cpu_path *__real_hw_cpu_paths(void);

/* Of products on paths with a fault, "count" included. */
typedef struct hw_faulty_seen {
    long n_products, n_multiply_adds;
    int most_threads; /* that the process had meanwhile */
} hw_faulty_seen;
extern hw_faulty_seen hw_faulty;
int hw_count_threads(void); /* of this process, now */

/* Faults by one instruction each. */
void hw_fault_sigill(void);
void hw_fault_sigsegv(void);
void hw_fault_sigbus(void);
void hw_fault_sigfpe(void); /* x86-64 only: elsewhere a division by zero is none */

#endif
