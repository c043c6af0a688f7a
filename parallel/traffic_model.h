/* Predicts what a rank sends in a collective: the closed forms of the algorithms in comm_mpi.c and comm_shm.c,
 * and the least that any algorithm needs. A test runs both backends on real ranks and compares the forms with the
 * meter. All functions are Local and pure. */
#ifndef HW_PARALLEL_TRAFFIC_MODEL_H
#define HW_PARALLEL_TRAFFIC_MODEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    HW_LONG_BYTES = 32 << 10,     /* mpi: from this size an all-reduce exchanges halves, not whole vectors */
    HW_PIECE_BYTES = 256 << 20,   /* mpi: longest message, since counts are int */
    HW_SHM_LONG_BYTES = 32 << 10, /* shm: from this size in slices, not whole vectors */
    HW_SHM_PIECE_BYTES =
        256 << 10, /* shm: size of each of a rank's two buffers; longer vectors go in pieces */
};

/* The position of a rank. Groups of `n_sharing` consecutive ranks add in shared memory (hw_comm_n_sharing); 1:
 * messages only, which is the `mpi` backend. */
typedef struct hw_place {
    int rank, n_ranks, n_sharing;
} hw_place;

/* How many of n_ranks share memory under `shm` when every host has per_host consecutive ranks: per_host, if one host
 * has all ranks or every host has the same power of two; else 1. */
int hw_traffic_model_sharing(int n_ranks, int per_host);

/* What one rank sends to all others (see `sent` in meter.h for shared memory). */
typedef struct hw_traffic_model {
    uint64_t bytes, messages;
} hw_traffic_model;

/* An all-reduce of `count` elements, S bytes.
 *
 * mpi, with p the largest power of two up to n_ranks: log2 p messages of S bytes while S < HW_LONG_BYTES,
 * else 2 log2 p messages of about 2 (p - 1) / p S bytes in total, exact for odd halves. If n_ranks is not a
 * power of two, the first 2 (n_ranks - p) ranks work in pairs: the odd one sends S once, the even one S in addition.
 *
 * shm, n ranks on one host: (n - 1) S while S < HW_SHM_LONG_BYTES, else S plus n - 2 times its slice of it, in
 * pieces. Over several hosts with n ranks each: the same in slices (short vectors in one slice, the first rank's),
 * plus what mpi sends for that slice among as many ranks as there are hosts. */
hw_traffic_model hw_traffic_model_all_reduce(hw_place at, size_t count, size_t element_bytes);

/* An all-gather of `n_bytes` from every rank: each rank sends its part to each other rank once. */
hw_traffic_model hw_traffic_model_all_gather(hw_place at, size_t n_bytes);

/* Slice i of n of a vector of n_bytes, in whole lines of 64 bytes except at the end. Empty for i >= n. */
typedef struct hw_slice {
    size_t begin, end;
} hw_slice;

hw_slice hw_traffic_model_slice(size_t n_bytes, int i, int n);

/* The least that a rank must send on average, whatever the algorithm, for this payload (all parts together
 * for a gather). */
double hw_ideal_all_reduce(double payload_bytes, int n_ranks); /* 2 (n - 1) / n */
double hw_ideal_all_gather(double payload_bytes, int n_ranks); /* (n - 1) / n */

#ifdef __cplusplus
}
#endif
#endif
