/* One run of adjacent blocks per sequence, doubled when it is full. Because blocks are adjacent, a copy is one piece per
 * layer. */
#include <stdlib.h>

#include "runtime/kv/cache_state.h"

/* Takes a run of n blocks into `run`, which must be {0}. */
static hw_status take(hw_kv_cache *kv, hw_kv_table *run, int n, int n_tokens, hw_error *err)
{
    hw_kv_regions *r = &kv->regions;
    hw_status st = hw_kv_table_grow(kv, run, n, err);
    if (st) return st;
    int first = hw_kv_regions_take(r, n);
    if (first < 0) {
        st = hw_fail(err, HW_ERR_CACHE_FULL,
                     "KV cache: %d neighbouring blocks of %d tokens are needed for a sequence of %d tokens, "
                     "%d of %d are free and the longest run of them is %d; run fewer sequences, raise "
                     "--kv-cache-memory, or use --kv-cache paged",
                     n, kv->dims.block_tokens, n_tokens, r->n_free, r->n_blocks, hw_kv_regions_longest(r));
        free(run->blocks);
        *run = (hw_kv_table){0};
        return st;
    }
    for (int i = 0; i < n; i++) {
        run->blocks[i] = first + i;
        kv->filled[first + i] = 0;
    }
    run->n_blocks = n;
    hw_kv_note_peak(kv);
    return HW_OK;
}

hw_status hw_kv_dynamic_extend(hw_kv_cache *kv, hw_kv_table *table, int n_tokens, hw_error *err)
{
    int wanted = hw_kv_blocks_for(kv, n_tokens), n = table->n_blocks ? table->n_blocks : 1;
    hw_kv_table longer = {0};
    if (wanted <= table->n_blocks) return HW_OK;
    while (n < wanted && n <= kv->seq_blocks / 2) n *= 2;
    if (n < wanted) n = kv->seq_blocks; /* twice as many are more than a sequence can need */
    hw_status st = take(kv, &longer, n, n_tokens, err);
    if (st) return st;
    if (table->n_blocks) st = hw_kv_copy_blocks(kv, longer.blocks[0], table->blocks[0], table->n_blocks, err);
    hw_kv_release(kv, table);
    *table = longer;
    return st;
}

hw_status hw_kv_dynamic_fork(hw_kv_cache *kv, hw_kv_table *out, const hw_kv_table *from, hw_error *err)
{
    if (!from->n_blocks) return HW_OK;
    hw_status st = take(kv, out, from->n_blocks, from->n_blocks * kv->dims.block_tokens, err);
    return st ? st : hw_kv_copy_blocks(kv, out->blocks[0], from->blocks[0], from->n_blocks, err);
}

void hw_kv_dynamic_release(hw_kv_cache *kv, hw_kv_table *table)
{
    if (table->n_blocks) hw_kv_regions_give(&kv->regions, table->blocks[0], table->n_blocks);
    table->n_blocks = 0;
}
