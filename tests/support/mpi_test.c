#include "tests/support/mpi_test.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ARGS = 128 };

hw_run_result hw_mpirun(int n_ranks, const char *const argv[], const char *stdin_text, int timeout_s)
{
    char np[16];
    snprintf(np, sizeof np, "%d", n_ranks);
    const char *all[MAX_ARGS] = {"mpirun", "--oversubscribe", "--bind-to", "none", "-np", np};
    size_t n = 6;
    for (size_t i = 0; argv[i]; i++) {
        assert(n + 1 < MAX_ARGS);
        all[n++] = argv[i];
    }
    /* Open MPI refuses root unless told twice; without root these mean nothing. */
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    /* hwloc looks for X displays, and where "localhost" has no entry in /etc/hosts that waits for a name
     * server. */
    setenv("HWLOC_COMPONENTS", "-gl", 0);
    /* Under the address sanitizer, what Open MPI keeps is no leak of ours. Its plugins are gone from memory
     * when leaks are looked for, so only whole stacks show where a block came from, and those need the slow
     * unwinder. Other builds ignore both variables. */
    setenv("ASAN_OPTIONS", "fast_unwind_on_malloc=0", 0);
    setenv("LSAN_OPTIONS", "print_suppressions=0:suppressions=" HW_SOURCE_DIR "/tests/support/lsan.supp", 0);
    return hw_run(all, stdin_text, timeout_s);
}
