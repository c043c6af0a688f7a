/* Runs a program on several real ranks. Criterion can start MPI in one test per process only, so a test is a
 * driver: it starts the program under `mpirun` and looks at its exit code and its output. */
#ifndef HW_TESTS_SUPPORT_MPI_TEST_H
#define HW_TESTS_SUPPORT_MPI_TEST_H

#include "tests/support/process.h"

/* mpirun -np n_ranks argv...: as root too, with more ranks than cores if need be, threads not bound. Rank 0
 * reads `stdin_text`. Otherwise as hw_run. */
hw_run_result hw_mpirun(int n_ranks, const char *const argv[], const char *stdin_text, int timeout_s);

#endif
