#include "runtime/model_shard.h"

#include <assert.h>

static_assert((int)HW_N_CUTS == (int)HW_SHARD_CUTS, "kernels and shards cut split inputs alike");

static hw_shard share_of(const hw_model *m, int rank, int n_ranks)
{
    const hw_range q = hw_shard_heads(m->n_heads, m->n_kv_heads, rank, n_ranks);
    const hw_range kv = hw_shard_kv_heads(m->n_heads, m->n_kv_heads, rank, n_ranks);
    hw_shard s = {
        .rank = rank,
        .n_ranks = n_ranks,
        .end_layer = m->n_layers,
        .n_sharing = 1,
        .heads = {.n_heads = (int)hw_range_size(q),
                  .n_kv_heads = (int)hw_range_size(kv),
                  .first_head = (int)q.begin,
                  .first_kv_head = (int)kv.begin,
                  .n_rep = m->n_heads / m->n_kv_heads,
                  .head_dim = m->head_dim},
        .ffn = hw_shard_granules((size_t)m->ffn_dim, rank, n_ranks),
        .vocab = hw_shard_granules((size_t)m->vocab_size, rank, n_ranks),
    };
    hw_shard_head_cuts(s.head_cuts, m->n_heads, m->n_kv_heads, m->head_dim, rank, n_ranks);
    hw_shard_granule_cuts(s.ffn_cuts, (size_t)m->ffn_dim, rank, n_ranks);
    return s;
}

hw_status hw_shard_create(hw_shard *out, const hw_model *m, int rank, int n_ranks, hw_error *err)
{
    if (n_ranks > m->n_heads)
        return hw_fail(err, HW_ERR_INVALID,
                       "%d ranks, but the model has %d attention heads to give out; start 1 to %d ranks",
                       n_ranks, m->n_heads, m->n_heads);
    *out = share_of(m, rank, n_ranks);
    return HW_OK;
}

hw_shard hw_shard_whole(const hw_model *m) { return share_of(m, 0, 1); }
