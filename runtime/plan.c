#include "runtime/plan.h"

#include <limits.h>
#include <math.h>

#include "runtime/base/checked.h"
#include "runtime/weights/scatter.h"

static void widen(hw_rank_memory *least, hw_rank_memory *most, hw_rank_memory r, bool first)
{
    uint64_t *lo[] = {&least->weights, &least->kv, &least->buffers, &least->reserve, &least->total};
    uint64_t *hi[] = {&most->weights, &most->kv, &most->buffers, &most->reserve, &most->total};
    const uint64_t n[] = {r.weights, r.kv, r.buffers, r.reserve, r.total};
    for (size_t i = 0; i < sizeof n / sizeof *n; i++) {
        if (first || n[i] < *lo[i]) *lo[i] = n[i];
        if (first || n[i] > *hi[i]) *hi[i] = n[i];
    }
}

static uint64_t sent(const hw_step_traffic *t)
{
    uint64_t n = 0;
    for (int site = 0; site < HW_N_SITES; site++) n += hw_step_traffic_site(t, (hw_site)site).sent_bytes;
    return n;
}

static void keep_busiest(hw_step_traffic *busiest, uint64_t *all, hw_step_traffic t)
{
    uint64_t n = sent(&t);
    *all += n;
    if (n > sent(busiest)) *busiest = t;
}

/* One rank's part of the plan. */
static void add_rank(hw_plan *plan, const hw_model *m, const hw_engine_options *o, const hw_device *d,
                     const hw_shard *shard)
{
    const bool first = shard->rank == 0;
    const hw_heads h = shard->heads;
    hw_step_traffic prefill = {.sample_is_bound = false}, decode = prefill;
    widen(&plan->least, &plan->most, hw_plan_rank_memory(plan, o, m, shard, d), first);
    if (first || h.n_heads < plan->min_heads) plan->min_heads = h.n_heads;
    if (first || h.n_heads > plan->max_heads) plan->max_heads = h.n_heads;
    if (first || h.n_kv_heads < plan->min_kv_heads) plan->min_kv_heads = h.n_kv_heads;
    if (first || h.n_kv_heads > plan->max_kv_heads) plan->max_kv_heads = h.n_kv_heads;
    plan->replicated_kv_heads += h.n_kv_heads;
    hw_plan_step_traffic(&prefill, m, shard, d->act,
                         (hw_step_rows){.prefill_rows = plan->prefill_rows, .n_sampled = 1}, NULL);
    hw_plan_step_traffic(&decode, m, shard, d->act,
                         (hw_step_rows){.decode_rows = o->max_seqs, .n_sampled = o->max_seqs}, NULL);
    keep_busiest(&plan->prefill, &plan->prefill_sent_by_all, prefill);
    keep_busiest(&plan->decode, &plan->decode_sent_by_all, decode);
}

/* Memory left beside weights, buffers and reserve, in whole blocks of this rank's heads. */
static uint64_t tokens_that_fit(const hw_engine_options *o, const hw_model *m, const hw_shard *shard,
                                hw_rank_memory r, uint64_t memory)
{
    hw_kv_dims one = hw_options_kv_dims(o, m, shard);
    one.n_blocks = 1;
    const uint64_t block = hw_kv_bytes(one);
    uint64_t taken;
    if (!hw_add_u64(r.weights, r.buffers, &taken) || !hw_add_u64(taken, r.reserve, &taken) ||
        taken > memory || !block)
        return 0;
    return (memory - taken) / block * (uint64_t)one.block_tokens;
}

hw_rank_memory hw_plan_rank_memory(const hw_plan *plan, const hw_engine_options *o, const hw_model *m,
                                   const hw_shard *shard, const hw_device *d)
{
    hw_rank_memory r = hw_rank_memory_of(o, m, shard, d);
    hw_kv_dims dims = hw_options_kv_dims(o, m, shard);
    if (r.total == UINT64_MAX) return r;
    dims.n_blocks = plan->n_blocks;
    r.total -= r.kv;
    r.kv = hw_kv_bytes(dims);
    r.total += r.kv;
    return r;
}

/* The number of blocks for which every rank has room in the given bytes: blocks are larger on ranks with more KV
 * heads. */
static hw_status agree_on_blocks(hw_plan *plan, const hw_model *m, const hw_engine_options *o, hw_error *err)
{
    plan->n_blocks = INT_MAX;
    for (int rank = 0; rank < plan->n_ranks; rank++) {
        hw_shard shard;
        hw_status st = hw_shard_create(&shard, m, rank, plan->n_ranks, err);
        if (st) return st;
        const hw_kv_dims dims = hw_options_kv_dims(o, m, &shard);
        if (dims.n_blocks < plan->n_blocks) plan->n_blocks = dims.n_blocks;
    }
    if (plan->n_blocks) return HW_OK;
    return hw_fail(err, HW_ERR_INVALID,
                   "the KV cache was given %llu bytes, which hold no block on some of %d ranks; raise "
                   "--kv-cache-memory",
                   (unsigned long long)o->kv_bytes, plan->n_ranks);
}

uint64_t hw_plan_layer_bytes(const hw_model *m, hw_format format)
{
    hw_shard shard = hw_shard_whole(m);
    uint64_t n = 0;
    hw_param p;
    shard.end_layer = 1;
    for (hw_params list = hw_params_of(m, &shard, format); hw_params_next(&list, &p);)
        if (p.kind->per_layer && !p.kind->vector) n += hw_param_size(&p, p.format);
    return n;
}

hw_status hw_plan_create(hw_plan *out, const hw_model *m, const hw_engine_options *o, const hw_device *d,
                         int n_ranks, hw_plan_limits limits, hw_error *err)
{
    hw_plan plan = {.n_ranks = n_ranks,
                    .n_sharing = limits.n_sharing,
                    .cache_tokens = UINT64_MAX,
                    .memory = limits.memory};
    double all_weights = 0;
    hw_status st = agree_on_blocks(&plan, m, o, err);
    if (st) return st;
    plan.prefill_rows = o->max_batch_rows < o->max_seq_len ? o->max_batch_rows : o->max_seq_len;
    for (int rank = 0; rank < n_ranks; rank++) {
        hw_shard shard;
        if ((st = hw_shard_create(&shard, m, rank, n_ranks, err))) return st;
        shard.n_sharing = limits.n_sharing;
        const hw_rank_memory r = hw_rank_memory_of(o, m, &shard, d);
        const uint64_t tokens = tokens_that_fit(o, m, &shard, r, limits.memory);
        add_rank(&plan, m, o, d, &shard);
        all_weights += (double)r.weights;
        if (tokens < plan.cache_tokens) plan.cache_tokens = tokens;
    }
    plan.replicated_kv_heads -= m->n_kv_heads;
    plan.imbalance = (double)plan.most.weights * n_ranks / all_weights;
    plan.fits = plan.most.total != UINT64_MAX && plan.most.total <= limits.memory;
    plan.layer_bytes = hw_plan_layer_bytes(m, hw_format_plain(o->weight_dtype));
    plan.break_even_bytes =
        n_ranks > 1 ? 2 * limits.latency * limits.bandwidth / (1 - 1.0 / n_ranks) : INFINITY;
    plan.can_pay = (double)plan.layer_bytes > plan.break_even_bytes;
    if (o->weights == HW_WEIGHTS_SCATTER)
        st = hw_scatter_bytes(&plan.scatter_bytes, m, hw_weights_dtype(m, NULL, HW_DTYPE_NONE), n_ranks, err);
    *out = plan;
    return st;
}
