/* Reference counts of the blocks of a cache. Block numbers only; the pool does not touch their content.
 *
 *   free     no content; the block released last is taken first
 *   cached   in no table, but still findable by content; evicted, oldest first, when no block is free
 *   in use   in `refs` tables
 *
 * The next block taken depends only on the calls so far, so ranks that make the same calls take the same blocks.
 * Local. */
#ifndef HW_RUNTIME_KV_POOL_H
#define HW_RUNTIME_KV_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

/* Plain; read the counts, leave the arrays to the functions. */
typedef struct hw_kv_pool {
    int n_blocks, n_free, n_cached;
    int32_t *refs;          /* [n_blocks] */
    int32_t *free_blocks;   /* [n_blocks], a stack: the next one is at the end */
    int32_t *older, *newer; /* [n_blocks] neighbours of a cached block; -1: none */
    int32_t oldest, newest; /* cached blocks; -1: none */
} hw_kv_pool;

/* On failure *pool is empty and needs no destroy. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_kv_pool_create(hw_kv_pool *pool, int n_blocks, hw_error *err);
void hw_kv_pool_destroy(hw_kv_pool *pool); /* of zeros is fine */

/* Blocks that hw_kv_pool_take can still give. */
int hw_kv_pool_available(const hw_kv_pool *pool);

/* Returns a block with one reference: a free one, else the oldest cached one, which is evicted. -1 when none is
 * available. */
int32_t hw_kv_pool_take(hw_kv_pool *pool);

/* Adds a reference to a block that is in use or cached. */
void hw_kv_pool_ref(hw_kv_pool *pool, int32_t block);

/* Removes a reference. After the last one the block is cached if `keep`, else free. */
void hw_kv_pool_unref(hw_kv_pool *pool, int32_t block, bool keep);

#endif
