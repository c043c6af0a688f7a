/* What a collective makes a rank send, by arithmetic alone: the closed forms of the algorithms in comm_mpi.c,
 * and the least that any algorithm needs. A test runs both on real ranks and compares them with the meter.
 * All functions are Local and pure. */
#ifndef HW_PARALLEL_VOLUME_H
#define HW_PARALLEL_VOLUME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    HW_LONG_BYTES = 32 << 10,   /* an all-reduce works on halves instead of whole vectors from here on */
    HW_PIECE_BYTES = 256 << 20, /* longest message: MPI counts are int */
};

/* What one rank sends to the others together. */
typedef struct hw_volume {
    uint64_t bytes, messages;
} hw_volume;

/* The `mpi` backend's all-reduce of `count` elements. With p the largest power of two up to n_ranks and S the
 * buffer's bytes: log2 p messages of S bytes while S < HW_LONG_BYTES, else 2 log2 p messages of about 2 (p -
 * 1) / p S bytes together, exact for odd halves. Where n_ranks is no power of two, the first 2 (n_ranks - p)
 * ranks work in pairs: the odd one sends S once, the even one S more. */
hw_volume hw_volume_all_reduce(size_t count, size_t element_bytes, int rank, int n_ranks);

/* Its all-gather of `n_bytes` from every rank: each sends its part to each other rank. */
hw_volume hw_volume_all_gather(size_t n_bytes, int n_ranks);

/* The least that a rank must send on average, whatever the algorithm, for this payload (all parts together
 * for a gather). */
double hw_ideal_all_reduce(double payload_bytes, int n_ranks); /* 2 (n - 1) / n */
double hw_ideal_all_gather(double payload_bytes, int n_ranks); /* (n - 1) / n */

#ifdef __cplusplus
}
#endif
#endif
