#include "runtime/kv/capacity.h"

#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/checked.h"

/* Bytes of n blocks in all layers. */
static uint64_t bytes_of(const hw_kv_request *r, int n)
{
    hw_kv_dims d = r->dims;
    d.n_blocks = n;
    return hw_kv_bytes(d);
}

int hw_kv_blocks_that_fit(const hw_kv_request *r)
{
    uint64_t others, one = bytes_of(r, 1);
    if (!hw_add_u64(r->weight_bytes, r->buffer_bytes, &others) ||
        !hw_add_u64(others, r->reserve_bytes, &others) || others > r->available_bytes)
        return 0;
    uint64_t n = one ? (r->available_bytes - others) / one : UINT64_MAX;
    if (n > (uint64_t)r->dims.n_blocks) n = (uint64_t)r->dims.n_blocks;
    return n < (uint64_t)r->min_blocks ? 0 : (int)n;
}

static hw_status refuse(const hw_kv_request *r, int rank, hw_error *err)
{
    const double mib = 1.0 / (1 << 20);
    const double weights = (double)r->weight_bytes, buffers = (double)r->buffer_bytes,
                 reserve = (double)r->reserve_bytes;
    char aside[64] = "";
    const double kv = (double)bytes_of(r, r->min_blocks);
    const char *where = r->on_device ? "device" : "host";
    if (!r->dims.n_blocks)
        return hw_fail(err, HW_ERR_INVALID,
                       "the KV cache was given %" PRIu64 " bytes, but on rank %d one block of %d tokens "
                       "takes %" PRIu64 "; raise --kv-cache-memory",
                       r->kv_bytes, rank, r->dims.block_tokens, bytes_of(r, 1));
    if (r->reserve_bytes)
        snprintf(aside, sizeof aside, ", set aside for graphs and collectives %.0f", reserve * mib);
    return hw_fail(err, HW_ERR_NO_MEMORY,
                   "not enough memory: rank %d needs %.0f MiB (weights %.0f, KV cache %.0f, buffers %.0f%s), "
                   "its share of what this %s has free is %.0f MiB; use more %ss, or lower %s",
                   rank, (weights + kv + buffers + reserve) * mib, weights * mib, kv * mib, buffers * mib,
                   aside, where, (double)r->available_bytes * mib, where,
                   r->kv_bytes ? "--kv-cache-memory" : "--max-model-len");
}

/* The minimum, as the complement of the maximum of the complements: the communicator has no minimum. */
hw_status hw_kv_capacity(int *n_blocks, hw_comm *comm, hw_status mine, const hw_kv_request *r, hw_error *err)
{
    const hw_tag tag = {.site = HW_SITE_CONTROL};
    int fit = mine ? 0 : hw_kv_blocks_that_fit(r);
    uint64_t less = UINT64_MAX - (uint64_t)fit;
    if (!mine && !fit) mine = refuse(r, hw_comm_rank(comm), err);
    hw_status st = hw_comm_all_reduce(comm, tag, &less, 1, HW_U64, HW_MAX, err);
    if (st) return st;
    *n_blocks = (int)(UINT64_MAX - less);
    return hw_comm_agree(comm, mine, err);
}
