#include "runtime/kv/prefix.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/checked.h"

static void *array(size_t n, size_t m, size_t size)
{
    size_t n_bytes = HW_SIZE(n, m, size);
    return n_bytes == SIZE_MAX ? NULL : calloc(n_bytes, 1);
}

hw_status hw_kv_prefix_create(hw_kv_prefix *x, int n_blocks, int block_tokens, hw_error *err)
{
    size_t n = (size_t)n_blocks;
    *x = (hw_kv_prefix){.n_blocks = n_blocks, .block_tokens = block_tokens, .n_buckets = 1};
    while (x->n_buckets < (uint32_t)n_blocks) x->n_buckets *= 2;
    x->buckets = array(x->n_buckets, 1, sizeof *x->buckets);
    x->next = array(n, 1, sizeof *x->next);
    x->number = array(n, 1, sizeof *x->number);
    x->parent = array(n, 1, sizeof *x->parent);
    x->tokens = array(n, (size_t)block_tokens, sizeof *x->tokens);
    if (!x->buckets || !x->next || !x->number || !x->parent || !x->tokens) {
        hw_kv_prefix_destroy(x);
        return hw_fail(err, HW_ERR_NO_MEMORY, "KV cache: no memory for an index of %d blocks of %d tokens",
                       n_blocks, block_tokens);
    }
    for (uint32_t i = 0; i < x->n_buckets; i++) x->buckets[i] = -1;
    return HW_OK;
}

void hw_kv_prefix_destroy(hw_kv_prefix *x)
{
    free(x->buckets);
    free(x->next);
    free(x->number);
    free(x->parent);
    free(x->tokens);
    *x = (hw_kv_prefix){0};
}

static const int32_t *tokens_of(const hw_kv_prefix *x, int32_t block)
{
    return x->tokens + (size_t)block * (size_t)x->block_tokens;
}

/* FNV-1a over 64-bit words, with the high half folded in, because its low bits depend only on the low bits of the
 * words. */
static uint32_t bucket_of(const hw_kv_prefix *x, uint64_t parent, const int32_t *tokens)
{
    uint64_t h = (UINT64_C(14695981039346656037) ^ parent) * UINT64_C(1099511628211);
    for (int i = 0; i < x->block_tokens; i++) h = (h ^ (uint32_t)tokens[i]) * UINT64_C(1099511628211);
    return (uint32_t)(h ^ h >> 32) & (x->n_buckets - 1);
}

int32_t hw_kv_prefix_find(const hw_kv_prefix *x, uint64_t parent, const int32_t *tokens)
{
    int32_t block = x->buckets[bucket_of(x, parent, tokens)];
    while (block >= 0 && (x->parent[block] != parent ||
                          memcmp(tokens_of(x, block), tokens, (size_t)x->block_tokens * sizeof *tokens) != 0))
        block = x->next[block];
    return block;
}

uint64_t hw_kv_prefix_add(hw_kv_prefix *x, int32_t block, uint64_t parent, const int32_t *tokens)
{
    int32_t *bucket = &x->buckets[bucket_of(x, parent, tokens)];
    assert(!x->number[block]);
    memcpy(x->tokens + (size_t)block * (size_t)x->block_tokens, tokens,
           (size_t)x->block_tokens * sizeof *tokens);
    x->parent[block] = parent;
    x->number[block] = ++x->n_numbers;
    x->next[block] = *bucket;
    *bucket = block;
    return x->number[block];
}

uint64_t hw_kv_prefix_number(const hw_kv_prefix *x, int32_t block)
{
    return x->number ? x->number[block] : 0;
}

void hw_kv_prefix_forget(hw_kv_prefix *x, int32_t block)
{
    if (!hw_kv_prefix_number(x, block)) return;
    int32_t *link = &x->buckets[bucket_of(x, x->parent[block], tokens_of(x, block))];
    while (*link != block) link = &x->next[*link];
    *link = x->next[block];
    x->number[block] = 0;
}
