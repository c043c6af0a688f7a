/* Keys and values of this rank's KV heads, on its device: fixed blocks of positions from one pool, a table of blocks per sequence.
 *
 * Layout [n_layers, n_blocks, 2 (K, V), n_local_kv_heads, block_tokens, head_dim]. Never communicates: what is cached here never
 * leaves this rank. Which block a sequence gets is decided by the order of requests alone, so all ranks hold equal tables.
 * All functions are Local. One cache, one thread. */
#ifndef HW_RUNTIME_KV_CACHE_H
#define HW_RUNTIME_KV_CACHE_H

#include <stdint.h>

#include "kernels/kernels.h"

typedef struct hw_kv_dims {
    int n_layers, n_kv_heads, head_dim; /* this rank's heads */
    int block_tokens, n_blocks;
    hw_dtype dtype;
} hw_kv_dims;

typedef struct hw_kv_cache hw_kv_cache;

/* The blocks of one sequence: position p lies in block blocks[p / block_tokens]. Plain; start with {0}. */
typedef struct hw_kv_table {
    int32_t *blocks;
    int n_blocks, capacity;
} hw_kv_table;

/* Bytes of a cache of these dims: 2 * n_layers * n_blocks * n_kv_heads * block_tokens * head_dim * element; SIZE_MAX when that
 * does not fit. */
size_t hw_kv_bytes(hw_kv_dims dims);

/* On HW_OK the caller owns *out (hw_kv_cache_destroy). `device` is borrowed. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_kv_cache_create(hw_kv_cache **out, hw_device *device, hw_kv_dims dims, hw_error *err);
void hw_kv_cache_destroy(hw_kv_cache *kv); /* NULL is fine */

hw_kv_layer hw_kv_cache_layer(const hw_kv_cache *kv, int layer);
hw_kv_dims hw_kv_cache_dims(const hw_kv_cache *kv);
int hw_kv_cache_n_free(const hw_kv_cache *kv); /* blocks */

/* Gives the table blocks until it covers positions 0 .. n_tokens - 1. Nothing is taken when there are not enough:
 * HW_ERR_NO_MEMORY with the numbers. */
hw_status hw_kv_reserve(hw_kv_cache *kv, hw_kv_table *table, int n_tokens, hw_error *err);

/* Gives all its blocks back and frees the table. */
void hw_kv_release(hw_kv_cache *kv, hw_kv_table *table);

#endif
