/* Keys and values of this rank's KV heads, on its device, and which sequence holds which of them.
 *
 * Layout [n_layers, n_blocks, 2 (K, V), n_local_kv_heads, block_tokens, head_dim]: one layout and one
 * attention op for all policies.
 *
 *   paged       blocks of a few tokens; full ones are shared between sequences that begin with the same
 *               tokens, by any number of them, and stay findable after the last one is gone, until their
 *               place is needed
 *   contiguous  a block holds max_seq_len tokens; a sequence takes one when it is created
 *   dynamic     a run of neighbouring blocks per sequence; when it is full, one of twice the length is taken,
 *               the content copied, and the old run given back
 *   off         blocks as for paged, but only as scratch: every step writes them anew, and nothing in them
 *               outlives it
 *
 * Never communicates: what is cached here never leaves this rank. Which block a sequence gets, and what it
 * shares, is decided by tokens and by the order of calls alone, so all ranks hold equal tables. All functions
 * are Local. One cache, one thread. */
#ifndef HW_RUNTIME_KV_CACHE_H
#define HW_RUNTIME_KV_CACHE_H

#include <stdint.h>

#include "kernels/kernels.h"
#include "runtime/engine.h"

typedef struct hw_kv_dims {
    int n_layers, n_kv_heads, head_dim; /* this rank's heads */
    int block_tokens, n_blocks;
    hw_dtype dtype;
} hw_kv_dims;

/* How a policy cuts the cache: tokens of a block, blocks of the longest sequence, and blocks with which
 * max_seqs sequences of max_seq_len tokens never run out. */
typedef struct hw_kv_shape {
    int block_tokens, seq_blocks, n_blocks;
} hw_kv_shape;

typedef struct hw_kv_cache hw_kv_cache;

/* The blocks of one sequence: position p lies in block blocks[p / block_tokens]. Plain; start with {0}. */
typedef struct hw_kv_table {
    int32_t *blocks;
    int n_blocks, capacity;
    int n_published; /* leading blocks that are full, computed, and findable by their content */
    uint64_t parent; /* the number of the last of them, see prefix.h */
} hw_kv_table;

/* `block_tokens` is what was asked for; contiguous decides for itself. Dynamic needs one sequence more than
 * the others: while one is copied it is there twice. */
hw_kv_shape hw_kv_shape_of(hw_kv_policy policy, int block_tokens, int max_seq_len, int max_seqs);

/* Bytes of a cache of these dims: 2 * n_layers * n_blocks * n_kv_heads * block_tokens * head_dim * element;
 * SIZE_MAX when that does not fit. */
size_t hw_kv_bytes(hw_kv_dims dims);

/* `seq_blocks`: blocks of the longest sequence. `prefix_sharing` matters to paged alone. On HW_OK the caller
 * owns *out (hw_kv_cache_destroy). `device` is borrowed. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_kv_cache_create(hw_kv_cache **out, hw_device *device, hw_kv_policy policy, hw_kv_dims dims,
                             int seq_blocks, bool prefix_sharing, hw_error *err);
void hw_kv_cache_destroy(hw_kv_cache *kv); /* NULL is fine */

hw_kv_layer hw_kv_cache_layer(const hw_kv_cache *kv, int layer);
hw_kv_dims hw_kv_cache_dims(const hw_kv_cache *kv);
hw_kv_usage hw_kv_cache_usage(const hw_kv_cache *kv);

/* ---- a sequence's table. Errors: HW_ERR_CACHE_FULL, which names the numbers and is the same on all ranks;
 * HW_ERR_NO_MEMORY. After either, cache and table are as before. */

/* A new sequence: contiguous takes its block here, the others when tokens come. */
hw_status hw_kv_open(hw_kv_cache *kv, hw_kv_table *table, hw_error *err);

/* How many of `tokens` [n_tokens], of which the table holds `n_known`, need not be computed because their
 * keys and values are in the cache: n_known, or more where a prefix is shared, at most `limit`. Changes
 * nothing. */
int hw_kv_lookup(const hw_kv_cache *kv, const hw_kv_table *table, const int32_t *tokens, int n_known,
                 int n_tokens, int limit);

/* Makes the table cover positions 0 .. n_tokens - 1, so that from `first` on they can be written: takes the
 * shared blocks up to there (`first` is what hw_kv_lookup said, with nothing in between; 0 when all is
 * written again), copies the block of `first` if others hold it too, and takes new blocks for the rest. */
hw_status hw_kv_extend(hw_kv_cache *kv, hw_kv_table *table, const int32_t *tokens, int first, int n_tokens,
                       hw_error *err);

/* Forgets positions from n_tokens on, of which none is in a findable block: blocks that held nothing else go
 * back. Dynamic keeps its run, and contiguous its block. */
void hw_kv_shrink(hw_kv_cache *kv, hw_kv_table *table, int n_tokens);

/* Keys and values of the first `n_computed` tokens are there: makes the full blocks findable. */
void hw_kv_publish(hw_kv_cache *kv, hw_kv_table *table, const int32_t *tokens, int n_computed);

/* A second sequence with the same content. Paged shares the blocks, contiguous and dynamic copy them. `out`
 * is {0}. */
hw_status hw_kv_fork(hw_kv_cache *kv, hw_kv_table *out, const hw_kv_table *from, hw_error *err);

/* Gives all its blocks back and frees the table. */
void hw_kv_release(hw_kv_cache *kv, hw_kv_table *table);

#endif
