/* Finds full blocks of the cache by content.
 *
 * The key of a block is its parent, the block before it, and its own tokens. A parent is identified by a number that
 * it got when it was added; numbers are never reused. So the parent of a block that is found is the block found
 * before it, and by induction all tokens from the start of the sequence are equal: they are compared, not only
 * hashed. The hash depends only on numbers and tokens, never on an address or a clock, and is the same on all ranks.
 * Local. */
#ifndef HW_RUNTIME_KV_PREFIX_H
#define HW_RUNTIME_KV_PREFIX_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { HW_KV_ROOT = 0 }; /* the parent of a sequence's first block */

/* Plain; leave the fields to the functions. */
typedef struct hw_kv_prefix {
    int n_blocks, block_tokens;
    uint64_t n_numbers;        /* assigned so far */
    uint32_t n_buckets;        /* a power of two */
    int32_t *buckets;          /* [n_buckets] first block of the chain; -1: none */
    int32_t *next;             /* [n_blocks] the chain */
    uint64_t *number, *parent; /* [n_blocks]; number 0: not in the index */
    int32_t *tokens;           /* [n_blocks, block_tokens] */
} hw_kv_prefix;

/* On failure *index is empty and needs no destroy. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_kv_prefix_create(hw_kv_prefix *index, int n_blocks, int block_tokens, hw_error *err);
void hw_kv_prefix_destroy(hw_kv_prefix *index); /* of zeros is fine */

/* The block with this parent and these tokens [block_tokens]; -1 when there is none. */
int32_t hw_kv_prefix_find(const hw_kv_prefix *index, uint64_t parent, const int32_t *tokens);

/* Adds a block that is not in the index, under a key that is not in it either. Returns its number. */
uint64_t hw_kv_prefix_add(hw_kv_prefix *index, int32_t block, uint64_t parent, const int32_t *tokens);

/* The number of a block, 0 when it is not in the index. A zeroed index is empty. */
uint64_t hw_kv_prefix_number(const hw_kv_prefix *index, int32_t block);

/* Removes the block; no-op if it is not in the index. */
void hw_kv_prefix_forget(hw_kv_prefix *index, int32_t block);

#endif
