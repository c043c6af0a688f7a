/* How many blocks the cache gets: as many on every rank. */
#ifndef HW_RUNTIME_KV_CAPACITY_H
#define HW_RUNTIME_KV_CAPACITY_H

#include "parallel/comm.h"
#include "runtime/kv/cache.h"

/* What one rank has and needs. Plain. */
typedef struct hw_kv_request {
    hw_kv_dims dims;   /* n_blocks: wanted */
    int min_blocks;    /* with fewer it is not worth starting */
    uint64_t kv_bytes; /* what the user gave, for messages; 0: nothing */
    uint64_t weight_bytes, buffer_bytes, reserve_bytes, available_bytes;
    bool on_device; /* the memory is the device's own, not the host's; for messages */
} hw_kv_request;

/* Local. Blocks that this rank has room for beside weights and buffers, at most those that are wanted; 0
 * when they are too few. */
int hw_kv_blocks_that_fit(const hw_kv_request *r);

/* Collective, also for a rank that has failed: `mine` is its status so far. *n_blocks becomes the least of
 * all ranks. What cannot fit is refused with the numbers of the lowest rank that lacks the room, before
 * gigabytes are read. Errors: HW_ERR_NO_MEMORY, HW_ERR_INVALID (kv_bytes holds no block), and what a rank
 * came with. */
hw_status hw_kv_capacity(int *n_blocks, hw_comm *comm, hw_status mine, const hw_kv_request *r, hw_error *err);

#endif
