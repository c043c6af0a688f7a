/* The KV cache as a user sees it: its policies, and what it holds. Local. */
#ifndef HW_RUNTIME_KV_USAGE_H
#define HW_RUNTIME_KV_USAGE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum hw_kv_policy {
    HW_KV_PAGED,      /* blocks from a pool, a table per sequence; equal prefixes share full blocks */
    HW_KV_OFF,        /* no cache: every step runs the sequence's whole prefix again */
    HW_KV_CONTIGUOUS, /* one block of max_seq_len tokens per sequence, allocated when it is created */
    HW_KV_DYNAMIC,    /* one run of blocks per sequence, doubled and copied when full */
} hw_kv_policy;

const char *hw_kv_policy_name(hw_kv_policy policy); /* "paged", "off", "contiguous", "dynamic" */

/* Bytes of this rank's cache. A block takes 2 * n_layers * n_local_kv_heads * head_dim * block_tokens *
 * (bytes of a number). Plain. */
typedef struct hw_kv_usage {
    hw_kv_policy policy;
    uint64_t bytes_per_token;
    uint64_t capacity_bytes; /* all blocks, allocated on the device when the engine was created */
    uint64_t reserved_bytes; /* blocks that sequences hold, each counted once */
    uint64_t used_bytes;     /* tokens in them, each counted once; with the cache off they are scratch */
    uint64_t wasted_bytes;   /* reserved - used */
    uint64_t shared_bytes;   /* additional bytes if every sequence had its own copy */
    uint64_t peak_bytes;     /* maximum of reserved_bytes; counts both sides of a copy */
    uint64_t copied_bytes;   /* copied so far: dynamic, forks, and copy-on-write */
    int block_tokens, n_blocks;
    int n_free, n_cached; /* blocks: empty; unused but findable by content, evicted when no block is free */
} hw_kv_usage;

#ifdef __cplusplus
}
#endif
#endif
