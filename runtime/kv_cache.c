#include "runtime/kv_cache.h"

#include <stdlib.h>

#include "runtime/base/checked.h"

struct hw_kv_cache {
    hw_device *device;
    hw_kv_dims dims;
    size_t layer_bytes;
    void *data;           /* on the device */
    int32_t *free_blocks; /* [n_blocks], a stack: the next one is at the end */
    int n_free;
};

static size_t layer_bytes(hw_kv_dims d)
{
    return HW_SIZE(2, (size_t)d.n_blocks, (size_t)d.n_kv_heads, (size_t)d.block_tokens, (size_t)d.head_dim,
                   hw_dtype_size(d.dtype));
}

size_t hw_kv_bytes(hw_kv_dims d)
{
    size_t one = layer_bytes(d);
    return one == SIZE_MAX ? SIZE_MAX : HW_SIZE((size_t)d.n_layers, one);
}

hw_status hw_kv_cache_create(hw_kv_cache **out, hw_device *device, hw_kv_dims dims, hw_error *err)
{
    *out = NULL;
    hw_kv_cache *kv = calloc(1, sizeof *kv);
    if (!kv) return hw_fail(err, HW_ERR_NO_MEMORY, "KV cache: no memory");
    kv->device = device;
    kv->dims = dims;
    kv->layer_bytes = layer_bytes(dims);
    kv->free_blocks = calloc((size_t)dims.n_blocks, sizeof *kv->free_blocks);
    size_t n_bytes = hw_kv_bytes(dims);
    hw_status st = kv->free_blocks && n_bytes != SIZE_MAX ? device->k->alloc(device, &kv->data, n_bytes, NULL)
                                                          : HW_ERR_NO_MEMORY;
    if (st) {
        hw_fail(err, st, "KV cache: no memory for %d blocks of %d tokens (%zu bytes); lower --max-model-len",
                dims.n_blocks, dims.block_tokens, n_bytes);
        hw_kv_cache_destroy(kv);
        return st;
    }
    kv->n_free = dims.n_blocks;
    for (int i = 0; i < dims.n_blocks; i++) kv->free_blocks[i] = dims.n_blocks - 1 - i;
    *out = kv;
    return HW_OK;
}

void hw_kv_cache_destroy(hw_kv_cache *kv)
{
    if (!kv) return;
    kv->device->k->free(kv->device, kv->data);
    free(kv->free_blocks);
    free(kv);
}

hw_kv_layer hw_kv_cache_layer(const hw_kv_cache *kv, int layer)
{
    return (hw_kv_layer){.data = (char *)kv->data + (size_t)layer * kv->layer_bytes,
                         .dtype = kv->dims.dtype,
                         .block_tokens = kv->dims.block_tokens};
}

hw_kv_dims hw_kv_cache_dims(const hw_kv_cache *kv) { return kv->dims; }
int hw_kv_cache_n_free(const hw_kv_cache *kv) { return kv->n_free; }

hw_status hw_kv_reserve(hw_kv_cache *kv, hw_kv_table *table, int n_tokens, hw_error *err)
{
    int wanted = n_tokens / kv->dims.block_tokens + (n_tokens % kv->dims.block_tokens != 0);
    int more = wanted - table->n_blocks;
    if (more <= 0) return HW_OK;
    if (more > kv->n_free)
        return hw_fail(
            err, HW_ERR_NO_MEMORY,
            "KV cache: %d more blocks of %d tokens are needed for a sequence of %d tokens, %d of %d are free",
            more, kv->dims.block_tokens, n_tokens, kv->n_free, kv->dims.n_blocks);
    if (wanted > table->capacity) {
        int capacity = wanted > 2 * table->capacity ? wanted : 2 * table->capacity;
        int32_t *blocks = realloc(table->blocks, (size_t)capacity * sizeof *blocks);
        if (!blocks)
            return hw_fail(err, HW_ERR_NO_MEMORY, "KV cache: no memory for a table of %d blocks", capacity);
        table->blocks = blocks;
        table->capacity = capacity;
    }
    while (table->n_blocks < wanted) table->blocks[table->n_blocks++] = kv->free_blocks[--kv->n_free];
    return HW_OK;
}

void hw_kv_release(hw_kv_cache *kv, hw_kv_table *table)
{
    while (table->n_blocks) kv->free_blocks[kv->n_free++] = table->blocks[--table->n_blocks];
    free(table->blocks);
    *table = (hw_kv_table){0};
}
