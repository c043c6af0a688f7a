#include "runtime/kv/regions.h"

#include <assert.h>
#include <stdlib.h>

hw_status hw_kv_regions_create(hw_kv_regions *r, int n_blocks, int slot_blocks, hw_error *err)
{
    *r = (hw_kv_regions){.n_blocks = n_blocks, .slot_blocks = slot_blocks, .n_free = n_blocks};
    r->taken = calloc((size_t)n_blocks, sizeof *r->taken);
    if (r->taken) return HW_OK;
    *r = (hw_kv_regions){0};
    return hw_fail(err, HW_ERR_NO_MEMORY, "KV cache: no memory for the map of %d blocks", n_blocks);
}

void hw_kv_regions_destroy(hw_kv_regions *r)
{
    free(r->taken);
    *r = (hw_kv_regions){0};
}

/* The first run of `wanted` free blocks inside a slot, or -1; *longest is the longest free run seen until then. */
static int search(const hw_kv_regions *r, int wanted, int *longest)
{
    int run = 0;
    *longest = 0;
    for (int i = 0; i < r->n_blocks; i++) {
        if (i % r->slot_blocks == 0) run = 0;
        run = r->taken[i] ? 0 : run + 1;
        if (run > *longest) *longest = run;
        if (run == wanted) return i + 1 - wanted;
    }
    return -1;
}

int hw_kv_regions_take(hw_kv_regions *r, int n)
{
    int longest, first = search(r, n, &longest);
    for (int i = first; first >= 0 && i < first + n; i++) r->taken[i] = true;
    if (first >= 0) r->n_free -= n;
    return first;
}

void hw_kv_regions_give(hw_kv_regions *r, int first, int n)
{
    for (int i = first; i < first + n; i++) {
        assert(r->taken[i]);
        r->taken[i] = false;
    }
    r->n_free += n;
}

int hw_kv_regions_longest(const hw_kv_regions *r)
{
    int longest;
    search(r, r->slot_blocks + 1, &longest);
    return longest;
}
