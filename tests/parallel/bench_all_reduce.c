/* Our all-reduce beside MPI_Allreduce, in one process and taking turns: medians of the ratio of neighbouring
 * windows, and their quartiles. Not a test: it asserts nothing.
 *
 *   mpirun -np N bench_all_reduce [auto|shm|mpi] [BYTES...] */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/comm.h"
#include "runtime/base/clock.h"

enum { WINDOWS = 61 };

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, ascending);
    return v[n / 2];
}

static double time_ours(hw_comm *c, float *x, size_t count, int repeats)
{
    hw_error err;
    MPI_Barrier(MPI_COMM_WORLD);
    uint64_t start = hw_clock_ns();
    for (int i = 0; i < repeats; i++)
        if (hw_comm_all_reduce(c, (hw_tag){.site = HW_SITE_ATTN}, x, count, HW_F32, HW_SUM, &err)) exit(1);
    return (double)(hw_clock_ns() - start) / repeats * 1e-3;
}

static double time_mpi(float *x, size_t count, int repeats)
{
    MPI_Barrier(MPI_COMM_WORLD);
    uint64_t start = hw_clock_ns();
    for (int i = 0; i < repeats; i++)
        MPI_Allreduce(MPI_IN_PLACE, x, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    return (double)(hw_clock_ns() - start) / repeats * 1e-3;
}

/* What the meter costs a collective: reading the clock twice, one record, one message. */
static double time_meter(void)
{
    enum { RECORDS = 1000000 };
    hw_error err;
    hw_meter *m;
    if (hw_meter_create(&m, 2, &err) || hw_meter_set_layers(m, 12, &err)) exit(1);
    uint64_t start = hw_clock_ns();
    for (int i = 0; i < RECORDS; i++) {
        uint64_t before = hw_clock_ticks();
        hw_meter_send(m, 1, 3072);
        hw_meter_record(m, (hw_tag){.site = HW_SITE_ATTN, .layer = i % 12, .decode_rows = 1},
                        (hw_traffic){.calls = 1, .messages = 1, .payload_bytes = 3072, .sent_bytes = 3072},
                        hw_clock_ticks() - before);
    }
    double ns = (double)(hw_clock_ns() - start) / RECORDS;
    hw_meter_destroy(m);
    return ns;
}

int main(int argc, char **argv)
{
    static const size_t usual[] = {8, 1536, 3072, 8192, 16384, 32768, 65536, 262144, 1048576};
    hw_error err;
    hw_comm *c;
    const char *backend = "auto";
    if (argc > 1 && !strtoul(argv[1], NULL, 10)) backend = argv[1], argc--, argv++;
    if (hw_comm_create(&c, backend, &err)) return fprintf(stderr, "%s\n", err.message), 1;
    int rank = hw_comm_rank(c), n = argc > 1 ? argc - 1 : (int)(sizeof usual / sizeof *usual);
    if (!rank)
        printf("%d ranks, %s\n%10s %12s %12s %8s %8s %8s\n", hw_comm_n_ranks(c), hw_comm_backend(c), "bytes",
               "ours us", "MPI us", "ratio", "25 %", "75 %");
    for (int i = 0; i < n; i++) {
        size_t bytes = argc > 1 ? strtoul(argv[i + 1], NULL, 10) : usual[i], count = bytes / sizeof(float);
        float *x = calloc(count, sizeof *x); /* zeros: repeated sums stay finite */
        double ours[WINDOWS], mpi[WINDOWS], ratio[WINDOWS];
        int repeats = bytes > 100000 ? 20 : 200;
        for (int w = 0; w < WINDOWS; w++) {
            ours[w] = time_ours(c, x, count, repeats);
            mpi[w] = time_mpi(x, count, repeats);
            ratio[w] = ours[w] / mpi[w];
        }
        const double middle = median(ratio, WINDOWS); /* which sorts them */
        if (!rank)
            printf("%10zu %12.2f %12.2f %8.2f %8.2f %8.2f\n", bytes, median(ours, WINDOWS),
                   median(mpi, WINDOWS), middle, ratio[WINDOWS / 4], ratio[WINDOWS - 1 - WINDOWS / 4]);
        free(x);
    }
    if (!rank) printf("meter: %.0f ns per collective\n", time_meter());
    hw_comm_destroy(c);
    return 0;
}
