#include "runtime/kv/pool.h"

#include <assert.h>
#include <stdlib.h>

hw_status hw_kv_pool_create(hw_kv_pool *p, int n_blocks, hw_error *err)
{
    size_t n = (size_t)n_blocks;
    *p = (hw_kv_pool){.n_blocks = n_blocks, .oldest = -1, .newest = -1};
    p->refs = calloc(n, sizeof *p->refs);
    p->free_blocks = calloc(n, sizeof *p->free_blocks);
    p->older = calloc(n, sizeof *p->older);
    p->newer = calloc(n, sizeof *p->newer);
    if (!p->refs || !p->free_blocks || !p->older || !p->newer) {
        hw_kv_pool_destroy(p);
        return hw_fail(err, HW_ERR_NO_MEMORY, "KV cache: no memory for the list of %d blocks", n_blocks);
    }
    while (p->n_free < n_blocks) {
        p->free_blocks[p->n_free] = n_blocks - 1 - p->n_free;
        p->n_free++;
    }
    return HW_OK;
}

void hw_kv_pool_destroy(hw_kv_pool *p)
{
    free(p->refs);
    free(p->free_blocks);
    free(p->older);
    free(p->newer);
    *p = (hw_kv_pool){0};
}

int hw_kv_pool_available(const hw_kv_pool *p) { return p->n_free + p->n_cached; }

/* Removes a block from the list of cached ones. */
static void unlink_cached(hw_kv_pool *p, int32_t block)
{
    int32_t older = p->older[block], newer = p->newer[block];
    *(older < 0 ? &p->oldest : &p->newer[older]) = newer;
    *(newer < 0 ? &p->newest : &p->older[newer]) = older;
    p->n_cached--;
}

static void link_newest(hw_kv_pool *p, int32_t block)
{
    p->older[block] = p->newest;
    p->newer[block] = -1;
    *(p->newest < 0 ? &p->oldest : &p->newer[p->newest]) = block;
    p->newest = block;
    p->n_cached++;
}

int32_t hw_kv_pool_take(hw_kv_pool *p)
{
    int32_t block = p->n_free ? p->free_blocks[--p->n_free] : p->oldest;
    if (block < 0) return -1;
    if (block == p->oldest) unlink_cached(p, block);
    assert(p->refs[block] == 0);
    p->refs[block] = 1;
    return block;
}

void hw_kv_pool_ref(hw_kv_pool *p, int32_t block)
{
    if (!p->refs[block]++) unlink_cached(p, block);
}

void hw_kv_pool_unref(hw_kv_pool *p, int32_t block, bool keep)
{
    assert(p->refs[block] > 0);
    if (--p->refs[block]) return;
    if (keep) link_newest(p, block);
    else p->free_blocks[p->n_free++] = block;
}
