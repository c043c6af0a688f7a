/* Keys and values of this rank's KV heads, on its device, and the sequences that hold them.
 *
 * Layout [n_layers, n_blocks, 2 (K, V), n_local_kv_heads, block_tokens, head_dim]: one layout and one
 * attention op for all policies.
 *
 *   paged       blocks of a few tokens; full blocks are shared by any number of sequences with the same prefix,
 *               and stay findable after the last sequence has released them, until they are evicted
 *   contiguous  a block holds max_seq_len tokens; a sequence takes one when it is created
 *   dynamic     a run of adjacent blocks per sequence; when it is full, the content is copied into a run of twice
 *               the length, and the old run is released
 *   off         blocks as for paged, but only as scratch: every step rewrites them
 *
 * Never communicates: cached keys and values never leave this rank. The blocks that a sequence gets or shares depend
 * only on tokens and on the order of calls, so all ranks hold equal tables. All functions are Local. One cache, one
 * thread. */
#ifndef HW_RUNTIME_KV_CACHE_H
#define HW_RUNTIME_KV_CACHE_H

#include <stdint.h>

#include "kernels/kernels.h"
#include "runtime/kv/usage.h"

typedef struct hw_kv_dims {
    int n_layers, n_kv_heads, head_dim; /* this rank's heads */
    int block_tokens, n_blocks;
    hw_dtype dtype;
} hw_kv_dims;

/* The geometry of a policy: tokens per block, blocks of the longest sequence, and blocks that suffice for max_seqs
 * sequences of max_seq_len tokens. */
typedef struct hw_kv_shape {
    int block_tokens, seq_blocks, n_blocks;
} hw_kv_shape;

typedef struct hw_kv_cache hw_kv_cache;

/* The block table of one sequence: position p is in block blocks[p / block_tokens]. Plain; start with {0}. */
typedef struct hw_kv_table {
    int32_t *blocks;
    int n_blocks, capacity;
    int n_published; /* leading blocks that are full, computed, and findable by content */
    uint64_t parent; /* number of the last of these, see prefix.h */
} hw_kv_table;

/* `block_tokens` is the setting; contiguous ignores it. Dynamic needs room for one more sequence than the others,
 * because a sequence exists twice while it is copied. */
hw_kv_shape hw_kv_shape_of(hw_kv_policy policy, int block_tokens, int max_seq_len, int max_seqs);

/* Bytes of a cache of these dims: 2 * n_layers * n_blocks * n_kv_heads * block_tokens * head_dim * element;
 * SIZE_MAX when that does not fit. */
size_t hw_kv_bytes(hw_kv_dims dims);

/* `seq_blocks`: blocks of the longest sequence. Only paged uses `prefix_sharing`. On HW_OK the caller owns *out
 * (hw_kv_cache_destroy). `device` is borrowed. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_kv_cache_create(hw_kv_cache **out, hw_device *device, hw_kv_policy policy, hw_kv_dims dims,
                             int seq_blocks, bool prefix_sharing, hw_error *err);
void hw_kv_cache_destroy(hw_kv_cache *kv); /* NULL is fine */

hw_kv_layer hw_kv_cache_layer(const hw_kv_cache *kv, int layer);
hw_kv_dims hw_kv_cache_dims(const hw_kv_cache *kv);
hw_kv_usage hw_kv_cache_usage(const hw_kv_cache *kv);

/* ---- a sequence's table. Errors: HW_ERR_CACHE_FULL, whose message has the numbers and which is the same on all
 * ranks; HW_ERR_NO_MEMORY. After either, cache and table are unchanged. */

/* A new sequence: contiguous takes its block here, the others when tokens are added. */
hw_status hw_kv_open(hw_kv_cache *kv, hw_kv_table *table, hw_error *err);

/* How many of `tokens` [n_tokens], of which the table holds `n_known`, need not be computed because their
 * keys and values are in the cache: n_known, or more if a prefix can be shared, at most `limit`. Changes
 * nothing. */
int hw_kv_lookup(const hw_kv_cache *kv, const hw_kv_table *table, const int32_t *tokens, int n_known,
                 int n_tokens, int limit);

/* Makes the table cover positions 0 .. n_tokens - 1, with positions from `first` on writable: takes the shared blocks
 * before `first` (which is the result of hw_kv_lookup, with no call in between, or 0 if everything is rewritten),
 * copies the block of `first` if other sequences hold it too, and takes new blocks for the rest. */
hw_status hw_kv_extend(hw_kv_cache *kv, hw_kv_table *table, const int32_t *tokens, int first, int n_tokens,
                       hw_error *err);

/* Drops positions from n_tokens on, none of which may be in a published block, and releases blocks that are then
 * empty. Dynamic keeps its run, and contiguous its block. */
void hw_kv_shrink(hw_kv_cache *kv, hw_kv_table *table, int n_tokens);

/* Call when keys and values of the first `n_computed` tokens are computed: makes the full blocks findable. */
void hw_kv_publish(hw_kv_cache *kv, hw_kv_table *table, const int32_t *tokens, int n_computed);

/* Makes a second sequence with the same content. Paged shares the blocks, contiguous and dynamic copy them. `out`
 * must be {0}. */
hw_status hw_kv_fork(hw_kv_cache *kv, hw_kv_table *out, const hw_kv_table *from, hw_error *err);

/* Releases all blocks of the table and frees it. */
void hw_kv_release(hw_kv_cache *kv, hw_kv_table *table);

#endif
