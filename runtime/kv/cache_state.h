/* The internals of the cache, for cache.c, blocks.c (policies of single blocks: paged, contiguous, off) and
 * dynamic.c. All functions are Local and behave like their namesakes in cache.h. */
#ifndef HW_RUNTIME_KV_CACHE_STATE_H
#define HW_RUNTIME_KV_CACHE_STATE_H

#include "runtime/kv/cache.h"
#include "runtime/kv/pool.h"
#include "runtime/kv/prefix.h"
#include "runtime/kv/regions.h"

struct hw_kv_cache {
    hw_device *device;
    hw_kv_policy policy;
    hw_kv_dims dims;
    int seq_blocks;
    bool sharing;
    size_t block_bytes, layer_bytes; /* of one layer: a block, all blocks */
    void *data;                      /* on the device */
    int32_t *filled;                 /* [n_blocks] tokens in a block that is in use */
    hw_kv_pool pool;                 /* all policies but dynamic */
    hw_kv_prefix index;              /* when sharing */
    hw_kv_regions regions;           /* dynamic */
    int peak_blocks;
    uint64_t copied_bytes;
};

static inline int hw_kv_blocks_for(const hw_kv_cache *kv, int n_tokens)
{
    return n_tokens / kv->dims.block_tokens + (n_tokens % kv->dims.block_tokens != 0);
}

/* Copies n adjacent blocks of all layers on the device. */
hw_status hw_kv_copy_blocks(hw_kv_cache *kv, int32_t to, int32_t from, int n, hw_error *err);

/* Grows the table's array to at least n entries. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_kv_table_grow(const hw_kv_cache *kv, hw_kv_table *table, int n, hw_error *err);

/* Records how full the table's blocks are when positions `first` .. n_tokens - 1 are written. */
void hw_kv_note_tokens(hw_kv_cache *kv, const hw_kv_table *table, int first, int n_tokens);

int hw_kv_blocks_in_use(const hw_kv_cache *kv);
void hw_kv_note_peak(hw_kv_cache *kv); /* after blocks were taken */

hw_status hw_kv_blocks_extend(hw_kv_cache *kv, hw_kv_table *table, const int32_t *tokens, int first,
                              int n_tokens, hw_error *err);
hw_status hw_kv_blocks_fork(hw_kv_cache *kv, hw_kv_table *out, const hw_kv_table *from, hw_error *err);
void hw_kv_blocks_shrink(hw_kv_cache *kv, hw_kv_table *table, int n_tokens);
void hw_kv_blocks_release(hw_kv_cache *kv, hw_kv_table *table);

hw_status hw_kv_dynamic_extend(hw_kv_cache *kv, hw_kv_table *table, int n_tokens, hw_error *err);
hw_status hw_kv_dynamic_fork(hw_kv_cache *kv, hw_kv_table *out, const hw_kv_table *from, hw_error *err);
void hw_kv_dynamic_release(hw_kv_cache *kv, hw_kv_table *table);

#endif
