/* Runs of neighbouring blocks in one arena, for sequences that keep all their keys and values in one piece.
 *
 * The arena is divided into slots of the longest run there can be, and no run crosses from one slot into the
 * next. So n sequences, one run each, touch at most n slots, and an arena of n + 1 slots has room for any of
 * them to move to a longer run, however the others lie. In a smaller arena there may be enough free blocks
 * and yet no run: fragmentation, which is what pages do away with. A run is the first that fits: the same on
 * all ranks. Local. */
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

/* First block of a run of n (1 to slot_blocks) that is now taken; -1 when there is none. */
int hw_kv_regions_take(hw_kv_regions *r, int n);
void hw_kv_regions_give(hw_kv_regions *r, int first, int n);

int hw_kv_regions_longest(const hw_kv_regions *r); /* the longest run that can be taken; 0: none */

#endif
