#include "parallel/shard.h"

#include <stdint.h>

static size_t cut(size_t n_things, int i, int n)
{
    return (size_t)((uint64_t)n_things * (uint64_t)i / (uint64_t)n);
}

/* First query head of part i of n. */
static size_t head_cut(int n_heads, int n_kv_heads, int i, int n)
{
    if (n <= n_kv_heads) return cut((size_t)n_kv_heads, i, n) * (size_t)(n_heads / n_kv_heads);
    return cut((size_t)n_heads, i, n);
}

static size_t granule_cut(size_t n_things, int i, int n)
{
    size_t granule = n_things >= 16 * HW_SHARD_CUTS ? 16 : 1;
    return i == n ? n_things : cut(n_things / granule, i, n) * granule;
}

hw_range hw_shard_heads(int n_heads, int n_kv_heads, int rank, int n_ranks)
{
    return (hw_range){head_cut(n_heads, n_kv_heads, rank, n_ranks),
                      head_cut(n_heads, n_kv_heads, rank + 1, n_ranks)};
}

hw_range hw_shard_kv_heads(int n_heads, int n_kv_heads, int rank, int n_ranks)
{
    hw_range q = hw_shard_heads(n_heads, n_kv_heads, rank, n_ranks);
    size_t n_rep = (size_t)(n_heads / n_kv_heads);
    return (hw_range){q.begin / n_rep, (q.end + n_rep - 1) / n_rep};
}

hw_range hw_shard_granules(size_t n, int rank, int n_ranks)
{
    return (hw_range){granule_cut(n, rank, n_ranks), granule_cut(n, rank + 1, n_ranks)};
}

size_t hw_shard_widest(size_t n, int n_ranks)
{
    size_t widest = 0;
    for (int r = 0; r < n_ranks; r++) {
        size_t share = hw_range_size(hw_shard_granules(n, r, n_ranks));
        if (share > widest) widest = share;
    }
    return widest;
}

static size_t local(size_t global, hw_range mine)
{
    if (global <= mine.begin) return 0;
    return (global < mine.end ? global : mine.end) - mine.begin;
}

void hw_shard_head_cuts(size_t cuts[HW_SHARD_CUTS + 1], int n_heads, int n_kv_heads, int head_dim, int rank,
                        int n_ranks)
{
    hw_range mine = hw_shard_heads(n_heads, n_kv_heads, rank, n_ranks);
    for (int i = 0; i <= HW_SHARD_CUTS; i++)
        cuts[i] = local(head_cut(n_heads, n_kv_heads, i, HW_SHARD_CUTS), mine) * (size_t)head_dim;
}

void hw_shard_granule_cuts(size_t cuts[HW_SHARD_CUTS + 1], size_t n, int rank, int n_ranks)
{
    hw_range mine = hw_shard_granules(n, rank, n_ranks);
    for (int i = 0; i <= HW_SHARD_CUTS; i++) cuts[i] = local(granule_cut(n, i, HW_SHARD_CUTS), mine);
}
