/* The arithmetic of an all-reduce: one operation on two vectors, and the fixed tree over many (described in
 * comm.h). All functions are Local. */
#ifndef HW_PARALLEL_COMBINE_H
#define HW_PARALLEL_COMBINE_H

#include <stddef.h>

#include "parallel/comm.h"

/* out = a (op) b, `count` elements each. `out` may be a or b; otherwise nothing overlaps. The operations
 * commute bit for bit, so it does not matter which rank holds which operand. */
void hw_combine(void *out, const void *a, const void *b, size_t count, hw_dtype type, hw_reduce op);

/* The shape of the tree: the first 2 * n_pairs ranks add in pairs; n_nodes nodes are left, a power of two. */
typedef struct hw_tree {
    int n_nodes, n_pairs;
} hw_tree;

hw_tree hw_tree_of(int n_ranks);

/* The sum or maximum of the vectors x[0 .. n - 1] of n ranks, computed by one rank.
 *   out [count] may be one of them; otherwise it overlaps none   x [n][count] */
void hw_combine_tree(void *out, const void *const *x, int n, size_t count, hw_dtype type, hw_reduce op);

#endif
