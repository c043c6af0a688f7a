/* Runs of adjacent blocks in one arena, for sequences that keep all their keys and values in one run.
 *
 * The arena is divided into slots as long as the longest possible run, and no run crosses a slot boundary. So n
 * sequences with one run each occupy at most n slots, and an arena of n + 1 slots always has room for any of them
 * to move to a longer run. A smaller arena may have enough free blocks but no run: fragmentation, which paging
 * avoids. Allocation is first fit, and the same on all ranks. Local. */
#ifndef HW_RUNTIME_KV_REGIONS_H
#define HW_RUNTIME_KV_REGIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

/* Plain; read the counts. */
typedef struct hw_kv_regions {
    int n_blocks, slot_blocks, n_free;
    bool *taken; /* [n_blocks] */
} hw_kv_regions;

/* On failure *r is empty and needs no destroy. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_kv_regions_create(hw_kv_regions *r, int n_blocks, int slot_blocks, hw_error *err);
void hw_kv_regions_destroy(hw_kv_regions *r); /* of zeros is fine */

/* Takes a run of n blocks (1 to slot_blocks), and returns its first block; -1 when there is none. */
int hw_kv_regions_take(hw_kv_regions *r, int n);
void hw_kv_regions_give(hw_kv_regions *r, int first, int n);

int hw_kv_regions_longest(const hw_kv_regions *r); /* the longest run that can be taken; 0: none */

#endif
