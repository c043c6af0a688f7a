/* Ranks as if they were on several hosts, on one: hosts are told apart by number alone. */
#ifndef HW_TESTS_SUPPORT_OVER_HOSTS_H
#define HW_TESTS_SUPPORT_OVER_HOSTS_H

#include <stdlib.h>

#include "parallel/comm_ops.h"
#include "tests/support/rank.h"

/* Collective. Shared memory with every `per_host` neighbours on a host of their own, and messages between these. As hw_comm_create. */
static inline hw_status create_over_hosts(hw_comm **out, int per_host, hw_error *err)
{
    void *mpi, *state;
    hw_ranks r;
    hw_status st = hw_comm_mpi_ops.create(&mpi, &r, err);
    if (st) return st;
    for (int i = 0; i < r.n_ranks; i++) r.host_of[i] = i / per_host * per_host;
    if ((st = hw_comm_shm_adopt(&state, mpi, &r, err))) {
        hw_comm_mpi_ops.destroy(mpi);
        free(r.host_of);
        return st;
    }
    return hw_comm_wrap(out, &hw_comm_shm_ops, state, r, err);
}

/* Collective. Makes `comm` as a program is told: [BACKEND [RANKS_OF_A_HOST]]. Returns the latter, 0 where hosts are what they
 * are. Ends the process when that fails, with the exit code of the error. */
static inline int start_as_told(int argc, char **argv)
{
    hw_error err;
    const char *backend = argc > 1 ? argv[1] : "auto";
    const int per_host = argc > 2 ? atoi(argv[2]) : 0;
    hw_status st = per_host ? create_over_hosts(&comm, per_host, &err) : hw_comm_create(&comm, backend, &err);
    if (st) fprintf(stderr, "%s\n", err.message), exit(hw_exit_code(st));
    rank = hw_comm_rank(comm);
    n_ranks = hw_comm_n_ranks(comm);
    return per_host;
}

#endif
