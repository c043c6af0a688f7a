#include "runtime/kv/cache.h"

#include <limits.h>
#include <stdlib.h>

#include "runtime/base/checked.h"
#include "runtime/kv/cache_state.h"

const char *hw_kv_policy_name(hw_kv_policy policy)
{
    static const char *const names[] = {[HW_KV_PAGED] = "paged",
                                        [HW_KV_OFF] = "off",
                                        [HW_KV_CONTIGUOUS] = "contiguous",
                                        [HW_KV_DYNAMIC] = "dynamic"};
    return names[policy];
}

hw_kv_shape hw_kv_shape_of(hw_kv_policy policy, int block_tokens, int max_seq_len, int max_seqs)
{
    hw_kv_shape s = {.block_tokens = policy == HW_KV_CONTIGUOUS ? max_seq_len : block_tokens};
    s.seq_blocks = max_seq_len / s.block_tokens + (max_seq_len % s.block_tokens != 0);
    int64_t n = (int64_t)s.seq_blocks * (max_seqs + (policy == HW_KV_DYNAMIC));
    s.n_blocks = n < INT_MAX ? (int)n : INT_MAX;
    return s;
}

static size_t block_bytes(hw_kv_dims d)
{
    return HW_SIZE(2, (size_t)d.n_kv_heads, (size_t)d.block_tokens, (size_t)d.head_dim,
                   hw_dtype_size(d.dtype));
}

size_t hw_kv_bytes(hw_kv_dims d)
{
    size_t one = block_bytes(d);
    return one == SIZE_MAX ? SIZE_MAX : HW_SIZE((size_t)d.n_layers, (size_t)d.n_blocks, one);
}

/* ---- the cache */

static hw_status make_lists(hw_kv_cache *kv, hw_error *err)
{
    const hw_kv_dims d = kv->dims;
    kv->filled = calloc((size_t)d.n_blocks, sizeof *kv->filled);
    if (!kv->filled)
        return hw_fail(err, HW_ERR_NO_MEMORY, "KV cache: no memory for the list of %d blocks", d.n_blocks);
    if (kv->policy == HW_KV_DYNAMIC)
        return hw_kv_regions_create(&kv->regions, d.n_blocks, kv->seq_blocks, err);
    hw_status st = hw_kv_pool_create(&kv->pool, d.n_blocks, err);
    return st || !kv->sharing ? st : hw_kv_prefix_create(&kv->index, d.n_blocks, d.block_tokens, err);
}

static hw_status make_data(hw_kv_cache *kv, hw_error *err)
{
    hw_error of_device = {.message = "more bytes than can be counted", .rank = -1};
    size_t n_bytes = hw_kv_bytes(kv->dims);
    hw_status st = n_bytes == SIZE_MAX ? HW_ERR_NO_MEMORY
                                       : kv->device->k->alloc(kv->device, &kv->data, n_bytes, &of_device);
    if (!st) return HW_OK;
    return hw_fail(err, st,
                   "KV cache: no memory for %d blocks of %d tokens (%zu bytes): %s; lower --max-model-len",
                   kv->dims.n_blocks, kv->dims.block_tokens, n_bytes, of_device.message);
}

hw_status hw_kv_cache_create(hw_kv_cache **out, hw_device *device, hw_kv_policy policy, hw_kv_dims dims,
                             int seq_blocks, bool prefix_sharing, hw_error *err)
{
    *out = NULL;
    hw_kv_cache *kv = calloc(1, sizeof *kv);
    if (!kv) return hw_fail(err, HW_ERR_NO_MEMORY, "KV cache: no memory");
    kv->device = device;
    kv->policy = policy;
    kv->dims = dims;
    kv->seq_blocks = seq_blocks;
    kv->sharing = prefix_sharing && policy == HW_KV_PAGED;
    kv->block_bytes = block_bytes(dims);
    hw_status st = make_data(kv, err);
    if (!st) st = make_lists(kv, err);
    if (st) {
        hw_kv_cache_destroy(kv);
        return st;
    }
    kv->layer_bytes = kv->block_bytes * (size_t)dims.n_blocks;
    *out = kv;
    return HW_OK;
}

void hw_kv_cache_destroy(hw_kv_cache *kv)
{
    if (!kv) return;
    kv->device->k->free(kv->device, kv->data);
    hw_kv_pool_destroy(&kv->pool);
    hw_kv_prefix_destroy(&kv->index);
    hw_kv_regions_destroy(&kv->regions);
    free(kv->filled);
    free(kv);
}

hw_kv_layer hw_kv_cache_layer(const hw_kv_cache *kv, int layer)
{
    return (hw_kv_layer){.data = (char *)kv->data + (size_t)layer * kv->layer_bytes,
                         .dtype = kv->dims.dtype,
                         .block_tokens = kv->dims.block_tokens};
}

hw_kv_dims hw_kv_cache_dims(const hw_kv_cache *kv) { return kv->dims; }

int hw_kv_blocks_in_use(const hw_kv_cache *kv)
{
    return kv->policy == HW_KV_DYNAMIC ? kv->dims.n_blocks - kv->regions.n_free
                                       : kv->dims.n_blocks - hw_kv_pool_available(&kv->pool);
}

void hw_kv_note_peak(hw_kv_cache *kv)
{
    int n = hw_kv_blocks_in_use(kv);
    if (n > kv->peak_blocks) kv->peak_blocks = n;
}

hw_kv_usage hw_kv_cache_usage(const hw_kv_cache *kv)
{
    const bool dynamic = kv->policy == HW_KV_DYNAMIC;
    const uint64_t block = (uint64_t)kv->block_bytes * (uint64_t)kv->dims.n_layers;
    const uint64_t token = block / (uint64_t)kv->dims.block_tokens;
    hw_kv_usage u = {.policy = kv->policy,
                     .bytes_per_token = token,
                     .capacity_bytes = block * (uint64_t)kv->dims.n_blocks,
                     .peak_bytes = block * (uint64_t)kv->peak_blocks,
                     .copied_bytes = kv->copied_bytes,
                     .block_tokens = kv->dims.block_tokens,
                     .n_blocks = kv->dims.n_blocks,
                     .n_free = dynamic ? kv->regions.n_free : kv->pool.n_free,
                     .n_cached = dynamic ? 0 : kv->pool.n_cached};
    u.reserved_bytes = block * (uint64_t)(u.n_blocks - u.n_free - u.n_cached);
    for (int i = 0; i < u.n_blocks; i++) {
        int32_t refs = dynamic ? kv->regions.taken[i] : kv->pool.refs[i];
        if (!refs) continue;
        u.used_bytes += token * (uint64_t)kv->filled[i];
        u.shared_bytes += block * (uint64_t)(refs - 1);
    }
    u.wasted_bytes = u.reserved_bytes - u.used_bytes;
    return u;
}

/* ---- shared by the policies */

hw_status hw_kv_copy_blocks(hw_kv_cache *kv, int32_t to, int32_t from, int n, hw_error *err)
{
    const size_t n_bytes = (size_t)n * kv->block_bytes;
    for (int layer = 0; layer < kv->dims.n_layers; layer++) {
        char *data = hw_kv_cache_layer(kv, layer).data;
        hw_status st = kv->device->k->copy(kv->device, data + (size_t)to * kv->block_bytes,
                                           data + (size_t)from * kv->block_bytes, n_bytes);
        if (!st) continue;
        hw_fail(err, st, "the device refused");
        const hw_status told = kv->device->k->synchronize(kv->device, err); /* it has the message */
        return hw_context(err, told ? told : st, "KV cache: copying %zu bytes of layer %d", n_bytes, layer);
    }
    for (int i = 0; i < n; i++) kv->filled[to + i] = kv->filled[from + i];
    kv->copied_bytes += (uint64_t)n_bytes * (uint64_t)kv->dims.n_layers;
    return HW_OK;
}

hw_status hw_kv_table_grow(const hw_kv_cache *kv, hw_kv_table *table, int n, hw_error *err)
{
    if (n <= table->capacity) return HW_OK;
    /* Allocate for the longest sequence, so that no later step allocates. */
    int capacity = n > kv->seq_blocks ? n : kv->seq_blocks;
    int32_t *blocks = realloc(table->blocks, (size_t)capacity * sizeof *blocks);
    if (!blocks)
        return hw_fail(err, HW_ERR_NO_MEMORY, "KV cache: no memory for a table of %d blocks", capacity);
    table->blocks = blocks;
    table->capacity = capacity;
    return HW_OK;
}

void hw_kv_note_tokens(hw_kv_cache *kv, const hw_kv_table *table, int first, int n_tokens)
{
    const int size = kv->dims.block_tokens;
    for (int i = first / size; i < hw_kv_blocks_for(kv, n_tokens); i++) {
        int left = n_tokens - i * size;
        kv->filled[table->blocks[i]] = left < size ? left : size;
    }
}

/* ---- policies */

hw_status hw_kv_open(hw_kv_cache *kv, hw_kv_table *table, hw_error *err)
{
    hw_status st = kv->policy == HW_KV_CONTIGUOUS ? hw_kv_blocks_extend(kv, table, NULL, 0, 1, err) : HW_OK;
    if (st) hw_kv_release(kv, table);
    return st;
}

hw_status hw_kv_extend(hw_kv_cache *kv, hw_kv_table *table, const int32_t *tokens, int first, int n_tokens,
                       hw_error *err)
{
    hw_status st = kv->policy == HW_KV_DYNAMIC ? hw_kv_dynamic_extend(kv, table, n_tokens, err)
                                               : hw_kv_blocks_extend(kv, table, tokens, first, n_tokens, err);
    if (!st) hw_kv_note_tokens(kv, table, first, n_tokens);
    return st;
}

void hw_kv_shrink(hw_kv_cache *kv, hw_kv_table *table, int n_tokens)
{
    if (kv->policy != HW_KV_DYNAMIC) hw_kv_blocks_shrink(kv, table, n_tokens);
    for (int i = hw_kv_blocks_for(kv, n_tokens); i < table->n_blocks; i++) kv->filled[table->blocks[i]] = 0;
    if (n_tokens) hw_kv_note_tokens(kv, table, n_tokens - 1, n_tokens);
}

hw_status hw_kv_fork(hw_kv_cache *kv, hw_kv_table *out, const hw_kv_table *from, hw_error *err)
{
    *out = (hw_kv_table){0};
    hw_status st = kv->policy == HW_KV_DYNAMIC ? hw_kv_dynamic_fork(kv, out, from, err)
                                               : hw_kv_blocks_fork(kv, out, from, err);
    if (st) hw_kv_release(kv, out);
    return st;
}

void hw_kv_release(hw_kv_cache *kv, hw_kv_table *table)
{
    if (kv->policy == HW_KV_DYNAMIC) hw_kv_dynamic_release(kv, table);
    else hw_kv_blocks_release(kv, table);
    free(table->blocks);
    *table = (hw_kv_table){0};
}
