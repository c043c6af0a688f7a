/* The number of blocks of the cache, the same on every rank. */
#ifndef HW_RUNTIME_KV_CAPACITY_H
#define HW_RUNTIME_KV_CAPACITY_H

#include "parallel/comm.h"
#include "runtime/kv/cache.h"

/* The memory that one rank has and needs. Plain. */
typedef struct hw_kv_request {
    hw_kv_dims dims;   /* n_blocks: wanted */
    int min_blocks;    /* fewer are an error */
    uint64_t kv_bytes; /* the user's setting, for messages; 0: not set */
    uint64_t weight_bytes, buffer_bytes, reserve_bytes, available_bytes;
    bool on_device; /* the memory is the device's own, not the host's; for messages */
} hw_kv_request;

/* Local. Blocks for which this rank has room beside weights and buffers, at most those wanted; 0 if they are too
 * few. */
int hw_kv_blocks_that_fit(const hw_kv_request *r);

/* Collective, also for a rank that has failed: `mine` is its status so far. *n_blocks becomes the minimum over all
 * ranks. If it does not fit, the error has the numbers of the lowest rank that lacks memory; this is checked before
 * gigabytes are read. Errors: HW_ERR_NO_MEMORY, HW_ERR_INVALID (kv_bytes holds no block), and the `mine` of any
 * rank. */
hw_status hw_kv_capacity(int *n_blocks, hw_comm *comm, hw_status mine, const hw_kv_request *r, hw_error *err);

#endif
