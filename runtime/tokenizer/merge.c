/* The merge loop. Short pieces, which nearly all are, are scanned for the best pair; in long ones, where
 * that would take quadratic time, the symbols are linked and a heap holds the candidates. Both merge in
 * the same order. */
#include "runtime/tokenizer/bpe.h"

enum { SCAN_LIMIT = 48, NONE = -1 };

static void merge_by_scanning(const hw_bpe *bpe, hw_bpe_scratch *s)
{
    int32_t *ids = s->ids;
    uint32_t *ranks = s->ranks;
    size_t n = s->n;
    for (size_t i = 0; i + 1 < n; i++) ranks[i] = hw_bpe_rank(bpe, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (ranks[best] == HW_NO_RANK) break;
        ids[best] = bpe->merged[ranks[best]];
        n--;
        memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof *ids);
        memmove(ranks + best, ranks + best + 1, (n - best - 1) * sizeof *ranks);
        if (best + 1 < n) ranks[best] = hw_bpe_rank(bpe, ids[best], ids[best + 1]);
        if (best > 0) ranks[best - 1] = hw_bpe_rank(bpe, ids[best - 1], ids[best]);
    }
    s->n = n;
}

/* ---- a heap of four children per node, smallest key on top */

static void sift_down(uint64_t *heap, size_t n, size_t at)
{
    uint64_t key = heap[at];
    for (;;) {
        size_t child = 4 * at + 1;
        if (child >= n) break;
        size_t end = child + 4 < n ? child + 4 : n, least = child;
        for (size_t i = child + 1; i < end; i++)
            if (heap[i] < heap[least]) least = i;
        if (heap[least] >= key) break;
        heap[at] = heap[least];
        at = least;
    }
    heap[at] = key;
}

static hw_status heap_reserve(hw_bpe_scratch *s, size_t n, hw_error *err)
{
    if (n <= s->heap_capacity) return HW_OK;
    size_t capacity = n + n / 2;
    uint64_t *heap = realloc(s->heap, capacity * sizeof *heap);
    if (!heap) return hw_fail(err, HW_ERR_NO_MEMORY, "tokenizer: no memory for %zu merges", capacity);
    s->heap = heap;
    s->heap_capacity = capacity;
    return HW_OK;
}

static hw_status heap_push(hw_bpe_scratch *s, uint64_t key, hw_error *err)
{
    hw_status st = heap_reserve(s, s->n_heap + 1, err);
    if (st) return st;
    size_t at = s->n_heap++;
    while (at > 0 && s->heap[(at - 1) / 4] > key) {
        s->heap[at] = s->heap[(at - 1) / 4];
        at = (at - 1) / 4;
    }
    s->heap[at] = key;
    return HW_OK;
}

static uint64_t heap_pop(hw_bpe_scratch *s)
{
    uint64_t top = s->heap[0];
    s->heap[0] = s->heap[--s->n_heap];
    if (s->n_heap) sift_down(s->heap, s->n_heap, 0);
    return top;
}

/* ---- linked symbols; position n is the end, and a symbol that was merged away has id NONE */

static hw_status link_symbols(const hw_bpe *bpe, hw_bpe_scratch *s, hw_error *err)
{
    hw_status st = heap_reserve(s, s->n, err);
    if (st) return st;
    s->n_heap = 0;
    for (size_t i = 0; i < s->n; i++) {
        s->previous[i] = (uint32_t)i - 1; /* UINT32_MAX in front of the first */
        s->next[i] = (uint32_t)i + 1;
        s->ranks[i] = i + 1 < s->n ? hw_bpe_rank(bpe, s->ids[i], s->ids[i + 1]) : HW_NO_RANK;
        if (s->ranks[i] != HW_NO_RANK) s->heap[s->n_heap++] = (uint64_t)s->ranks[i] << 32 | i;
    }
    for (size_t i = s->n_heap; i-- > 0;) sift_down(s->heap, s->n_heap, i);
    return HW_OK;
}

static hw_status rank_again(const hw_bpe *bpe, hw_bpe_scratch *s, uint32_t at, hw_error *err)
{
    uint32_t next = s->next[at];
    s->ranks[at] = next < s->n ? hw_bpe_rank(bpe, s->ids[at], s->ids[next]) : HW_NO_RANK;
    if (s->ranks[at] == HW_NO_RANK) return HW_OK;
    return heap_push(s, (uint64_t)s->ranks[at] << 32 | at, err);
}

static hw_status merge_by_heap(const hw_bpe *bpe, hw_bpe_scratch *s, hw_error *err)
{
    hw_status st = link_symbols(bpe, s, err);
    while (!st && s->n_heap) {
        uint64_t top = heap_pop(s);
        uint32_t at = (uint32_t)top, rank = (uint32_t)(top >> 32);
        if (s->ids[at] == NONE || s->ranks[at] != rank) continue; /* a neighbour has changed since */
        uint32_t gone = s->next[at];
        s->ids[at] = bpe->merged[rank];
        s->ids[gone] = NONE;
        s->next[at] = s->next[gone];
        if (s->next[at] < s->n) s->previous[s->next[at]] = at;
        st = rank_again(bpe, s, at, err);
        if (!st && s->previous[at] != UINT32_MAX) st = rank_again(bpe, s, s->previous[at], err);
    }
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->ids[i] != NONE) s->ids[n++] = s->ids[i];
    s->n = n;
    return st;
}

hw_status hw_bpe_merge(const hw_bpe *bpe, hw_bpe_scratch *s, hw_error *err)
{
    if (s->n > SCAN_LIMIT) return merge_by_heap(bpe, s, err);
    merge_by_scanning(bpe, s);
    return HW_OK;
}
