/* The shard of the model that a rank holds: pure integer functions of the model's sizes and (rank, n_ranks). All
 * are Local.
 *
 * Cut i of N things over n ranks starts at floor(i * N / n), so that the cuts of 1, 2, 4 and 8 ranks nest.
 * Any n_ranks from 1 to n_heads works; nothing is dropped or padded, and a rank's share of something small may be
 * empty. */
#ifndef HW_PARALLEL_SHARD_H
#define HW_PARALLEL_SHARD_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Sums over split inputs are kept as this many partial sums, cut as for this many ranks, whatever the number
 * of ranks. */
enum { HW_SHARD_CUTS = 8 };

typedef struct hw_range {
    size_t begin, end; /* [begin, end) */
} hw_range;

static inline size_t hw_range_size(hw_range r) { return r.end - r.begin; }

/* Query heads. Whole groups of heads that share a KV head while n_ranks <= n_kv_heads; beyond that single
 * heads, and KV heads are replicated on the ranks whose query heads read them. Requires 1 <= n_ranks <= n_heads
 * and that n_kv_heads divides n_heads. */
hw_range hw_shard_heads(int n_heads, int n_kv_heads, int rank, int n_ranks);

/* The KV heads that those query heads read. */
hw_range hw_shard_kv_heads(int n_heads, int n_kv_heads, int rank, int n_ranks);

/* MLP columns and vocabulary rows: cut in granules of 16 if there are at least HW_SHARD_CUTS granules, else one
 * by one; the last rank gets the remainder. */
hw_range hw_shard_granules(size_t n, int rank, int n_ranks);
size_t hw_shard_widest(size_t n, int n_ranks); /* the size of the largest of these shares */

/* How this rank's shard of a split input falls into the HW_SHARD_CUTS cuts of the whole, in local indices:
 * cuts[i] .. cuts[i + 1] - 1 belong to cut i. Heads are cut as for HW_SHARD_CUTS ranks (as for n_heads ranks
 * if there are fewer heads). */
void hw_shard_head_cuts(size_t cuts[HW_SHARD_CUTS + 1], int n_heads, int n_kv_heads, int head_dim, int rank,
                        int n_ranks);
void hw_shard_granule_cuts(size_t cuts[HW_SHARD_CUTS + 1], size_t n, int rank, int n_ranks);

#ifdef __cplusplus
}
#endif
#endif
