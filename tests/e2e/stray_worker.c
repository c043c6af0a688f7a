/* Some collectives under Open MPI's monitoring; with the argument "stray" also one byte behind the meter's
 * back. Exit code 0 when the counts are equal, 7 when they are not. */
#include <mpi.h>
#include <stdio.h>
#include <string.h>

#include "parallel/monitoring.h"

int main(int argc, char **argv)
{
    hw_error err;
    hw_monitoring *m;
    hw_comm *c;
    const hw_pair *pairs;
    static float x[20000];
    char byte = 1;
    if (hw_monitoring_start(&m, &err) || hw_comm_create(&c, "mpi", &err))
        return fprintf(stderr, "%s\n", err.message), 1;
    int rank = hw_comm_rank(c), n = hw_comm_n_ranks(c), differ = 0;
    for (size_t count = 1; count <= 20000; count *= 3)
        if (hw_comm_all_reduce(c, (hw_tag){.site = HW_SITE_MLP}, x, count, HW_F32, HW_SUM, &err)) return 1;
    if (argc > 1 && !strcmp(argv[1], "stray")) {
        if (rank == n - 1) MPI_Send(&byte, 1, MPI_BYTE, 0, 99, MPI_COMM_WORLD);
        if (rank == 0) MPI_Recv(&byte, 1, MPI_BYTE, n - 1, 99, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
    if (hw_monitoring_collect(m, c, &err)) return 1;
    hw_comm_destroy(c);
    if (hw_monitoring_compare(m, &pairs, &err)) return fprintf(stderr, "%s\n", err.message), 1;
    for (int i = 0; pairs && i < n * n; i++)
        if (pairs[i].metered_bytes != pairs[i].counted_bytes) {
            differ = 7;
            printf("%d to %d: %llu metered, %llu counted\n", i / n, i % n,
                   (unsigned long long)pairs[i].metered_bytes, (unsigned long long)pairs[i].counted_bytes);
        }
    hw_monitoring_destroy(m);
    return differ;
}
