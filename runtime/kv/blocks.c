/* Policies whose sequences hold single blocks at any place: paged, contiguous (one block each) and off. */
#include "runtime/kv/cache_state.h"

/* Finds the block with these tokens, for block i of a sequence whose block i - 1 has the number `parent`. */
static int32_t find(const hw_kv_cache *kv, uint64_t parent, const int32_t *tokens, int i)
{
    return hw_kv_prefix_find(&kv->index, parent, tokens + (size_t)i * (size_t)kv->dims.block_tokens);
}

/* Takes a block for one table. The caller has checked that one is available. */
static int32_t take(hw_kv_cache *kv)
{
    int32_t block = hw_kv_pool_take(&kv->pool);
    hw_kv_prefix_forget(&kv->index, block);
    kv->filled[block] = 0;
    return block;
}

/* Releases a block: if it can still be found by content, it stays cached after its last reference is gone. */
static void give(hw_kv_cache *kv, int32_t block)
{
    hw_kv_pool_unref(&kv->pool, block, hw_kv_prefix_number(&kv->index, block) != 0);
}

int hw_kv_lookup(const hw_kv_cache *kv, const hw_kv_table *table, const int32_t *tokens, int n_known,
                 int n_tokens, int limit)
{
    const int size = kv->dims.block_tokens;
    int i = table->n_published, n_revived = 0;
    uint64_t parent = table->parent;
    /* The next block can only be looked up at the end of a full block. */
    if (!kv->sharing || limit <= n_known || n_known != i * size) return n_known;
    while (i * size < limit && (i + 1) * size <= n_tokens) {
        int32_t block = find(kv, parent, tokens, i);
        if (block < 0) break;
        parent = hw_kv_prefix_number(&kv->index, block);
        n_revived += !kv->pool.refs[block];
        i++;
    }
    if (i * size <= limit) return i * size;
    /* The last block found will be written to, and is therefore copied. If there is no room for the copy, recompute
     * its tokens: a sequence that fits without sharing must not fail because of sharing. */
    int n_taken = hw_kv_blocks_for(kv, n_tokens) - i + 1;
    if (n_revived + n_taken <= hw_kv_pool_available(&kv->pool)) return limit;
    return (i - 1) * size;
}

/* Writes the blocks that hw_kv_lookup found after the table's own, without counting them in n_blocks. Returns how many
 * of them were cached, since these reduce the available blocks too. */
static int list_found(const hw_kv_cache *kv, hw_kv_table *table, const int32_t *tokens, int n_covered)
{
    int n_revived = 0;
    uint64_t parent = table->parent;
    for (int i = table->n_blocks; i < n_covered; i++) {
        int32_t block = find(kv, parent, tokens, i);
        parent = hw_kv_prefix_number(&kv->index, block);
        table->blocks[i] = block;
        n_revived += !kv->pool.refs[block];
    }
    return n_revived;
}

/* Whether others would see a write to the block: another table, or a later sequence that finds it. */
static bool is_shared(const hw_kv_cache *kv, int32_t block, bool found)
{
    return found || kv->pool.refs[block] > 1 || hw_kv_prefix_number(&kv->index, block);
}

static hw_status copy_on_write(hw_kv_cache *kv, hw_kv_table *table, int i, hw_error *err)
{
    int32_t old = table->blocks[i];
    table->blocks[i] = take(kv);
    hw_status st = hw_kv_copy_blocks(kv, table->blocks[i], old, 1, err);
    give(kv, old);
    return st;
}

hw_status hw_kv_blocks_extend(hw_kv_cache *kv, hw_kv_table *table, const int32_t *tokens, int first,
                              int n_tokens, hw_error *err)
{
    const int wanted = hw_kv_blocks_for(kv, n_tokens), n_covered = hw_kv_blocks_for(kv, first);
    const int n_own = table->n_blocks, n_old = n_covered > n_own ? n_covered : n_own;
    hw_status st = hw_kv_table_grow(kv, table, wanted, err);
    if (st) return st;
    int n_taken = wanted > n_old ? wanted - n_old : 0;
    int n_revived = list_found(kv, table, tokens, n_covered);
    /* `first` is inside an existing block, which will be written to. */
    bool copy =
        first % kv->dims.block_tokens != 0 && is_shared(kv, table->blocks[n_covered - 1], n_covered > n_own);
    int needed = n_taken + n_revived + copy, available = hw_kv_pool_available(&kv->pool);
    if (needed > available)
        return hw_fail(err, HW_ERR_CACHE_FULL,
                       "KV cache: %d more blocks of %d tokens are needed for a sequence of %d tokens, "
                       "%d of %d are free; run fewer sequences, or raise --kv-cache-memory",
                       needed, kv->dims.block_tokens, n_tokens, available, kv->dims.n_blocks);
    for (int i = n_own; i < n_covered; i++) hw_kv_pool_ref(&kv->pool, table->blocks[i]);
    table->n_blocks = n_old;
    while (table->n_blocks < wanted) table->blocks[table->n_blocks++] = take(kv);
    if (copy) st = copy_on_write(kv, table, n_covered - 1, err);
    hw_kv_note_peak(kv);
    return st;
}

/* The parent of the next block is the indexed block, which need not be this sequence's own: two sequences may have
 * computed the same tokens concurrently. */
void hw_kv_publish(hw_kv_cache *kv, hw_kv_table *table, const int32_t *tokens, int n_computed)
{
    const int size = kv->dims.block_tokens;
    if (!kv->sharing) return;
    for (; (table->n_published + 1) * size <= n_computed; table->n_published++) {
        int i = table->n_published;
        int32_t block = find(kv, table->parent, tokens, i);
        table->parent = block >= 0 ? hw_kv_prefix_number(&kv->index, block)
                                   : hw_kv_prefix_add(&kv->index, table->blocks[i], table->parent,
                                                      tokens + (size_t)i * (size_t)size);
    }
}

hw_status hw_kv_blocks_fork(hw_kv_cache *kv, hw_kv_table *out, const hw_kv_table *from, hw_error *err)
{
    if (kv->policy == HW_KV_OFF) return HW_OK; /* scratch: the next step rewrites it */
    if (kv->policy == HW_KV_CONTIGUOUS) {
        hw_status st = hw_kv_blocks_extend(kv, out, NULL, 0, 1, err);
        return st ? st : hw_kv_copy_blocks(kv, out->blocks[0], from->blocks[0], 1, err);
    }
    hw_status st = hw_kv_table_grow(kv, out, from->n_blocks, err);
    if (st) return st;
    for (int i = 0; i < from->n_blocks; i++) {
        out->blocks[i] = from->blocks[i];
        hw_kv_pool_ref(&kv->pool, from->blocks[i]);
    }
    out->n_blocks = from->n_blocks;
    out->n_published = from->n_published;
    out->parent = from->parent;
    return HW_OK;
}

void hw_kv_blocks_shrink(hw_kv_cache *kv, hw_kv_table *table, int n_tokens)
{
    const int wanted = kv->policy == HW_KV_CONTIGUOUS ? 1 : hw_kv_blocks_for(kv, n_tokens);
    while (table->n_blocks > wanted) give(kv, table->blocks[--table->n_blocks]);
}

/* From the end, so that cached blocks that depend on others to be found are evicted first. */
void hw_kv_blocks_release(hw_kv_cache *kv, hw_kv_table *table)
{
    while (table->n_blocks) give(kv, table->blocks[--table->n_blocks]);
}
