/* What test_mpi_test.c starts on several ranks: adds up numbers over the ranks, and fails, stalls or
 * leaks if told to. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int rank, n_ranks, sum = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &n_ranks);
    const char *what = argc > 1 ? argv[1] : "";
    int mine = (rank + 1) * 10;
    MPI_Allreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0) {
        char line[256] = "";
        if (!fgets(line, sizeof line, stdin)) line[0] = 0;
        printf("%d ranks, sum %d, pid %d, input %s", n_ranks, sum, (int)getpid(), line);
        fflush(stdout);
    }
    if (!strcmp(what, "stall") && rank == n_ranks - 1)
        for (;;) pause();
    if (!strcmp(what, "abort") && rank == n_ranks - 1) MPI_Abort(MPI_COMM_WORLD, 5);
    /* The others must not be on their way out when it happens, or how they end may be what mpirun reports. */
    if (!strcmp(what, "abort")) MPI_Barrier(MPI_COMM_WORLD);
    if (!strcmp(what, "leak")) {
        void *volatile lost = malloc(4321);
        lost = NULL;
        (void)lost;
    }
    MPI_Finalize();
    return 0;
}
