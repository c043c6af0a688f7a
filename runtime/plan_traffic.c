/* The traffic of a step, from the shapes that forward.c and sampler.c pass to the communicator. */

#include "parallel/traffic_model.h"
#include "runtime/plan.h"
#include "runtime/sampler.h"

static hw_place place(const hw_shard *shard)
{
    return (hw_place){shard->rank, shard->n_ranks, shard->n_sharing};
}

/* One collective call of this rank, as the meter would record it. */
static hw_traffic all_reduce(const hw_shard *shard, size_t count, hw_dtype type)
{
    size_t size = hw_dtype_size(type);
    hw_traffic_model sent = hw_traffic_model_all_reduce(place(shard), count, size);
    return (hw_traffic){.calls = 1,
                        .payload_bytes = count * size,
                        .sent_bytes = sent.bytes,
                        .messages = sent.messages,
                        .ideal_bytes = hw_ideal_all_reduce((double)(count * size), shard->n_ranks)};
}

static hw_traffic all_gather(const hw_shard *shard, size_t n_bytes)
{
    uint64_t payload = (uint64_t)n_bytes * (uint64_t)shard->n_ranks;
    hw_traffic_model sent = hw_traffic_model_all_gather(place(shard), n_bytes);
    return (hw_traffic){.calls = 1,
                        .payload_bytes = payload,
                        .sent_bytes = sent.bytes,
                        .messages = sent.messages,
                        .ideal_bytes = hw_ideal_all_gather((double)payload, shard->n_ranks)};
}

static void add_times(hw_traffic *sum, hw_traffic t, uint64_t n)
{
    hw_traffic_add(sum, (hw_traffic){.calls = n * t.calls,
                                     .payload_bytes = n * t.payload_bytes,
                                     .sent_bytes = n * t.sent_bytes,
                                     .messages = n * t.messages,
                                     .ideal_bytes = (double)n * t.ideal_bytes});
}

/* `n` equal calls. As in hw_meter_record, each call is divided by rows and rounded down for decode separately. */
static void count(hw_step_traffic *t, hw_site site, hw_step_rows r, uint64_t n, hw_traffic one)
{
    const uint64_t decode = (uint64_t)r.decode_rows, rows = (uint64_t)r.prefill_rows + decode;
    hw_traffic *to = t->site[site];
    if (r.prefill_rows && r.decode_rows) {
        hw_traffic share = {.payload_bytes = one.payload_bytes * decode / rows,
                            .sent_bytes = one.sent_bytes * decode / rows,
                            .messages = one.messages * decode / rows,
                            .ideal_bytes = one.ideal_bytes * (double)decode / (double)rows};
        one.payload_bytes -= share.payload_bytes;
        one.sent_bytes -= share.sent_bytes;
        one.messages -= share.messages;
        one.ideal_bytes -= share.ideal_bytes;
        add_times(&to[HW_DECODE], share, n);
    }
    add_times(&to[r.prefill_rows ? HW_PREFILL : HW_DECODE], one, n);
}

/* What sampler.c exchanges, after the all-reduce of one key per row, for each row that is neither greedy nor drawn
 * without filters. */
static void count_filters(hw_step_traffic *t, const hw_model *m, const hw_shard *shard, hw_step_rows r,
                          const hw_sampling *s)
{
    const uint64_t n = (uint64_t)r.n_sampled;
    const size_t widest =
        hw_shard_widest((size_t)m->vocab_size, shard->n_ranks); /* no rank has more candidates */
    const bool top_p = s->top_p > 0 && s->top_p < 1;
    if (s->temperature == 0) return;
    if (s->top_k > 0) {
        size_t k = (size_t)s->top_k < widest ? (size_t)s->top_k : widest;
        count(t, HW_SITE_SAMPLE, r, n, all_gather(shard, k * sizeof(uint64_t)));
    } else if (top_p) {
        count(t, HW_SITE_SAMPLE, r, n, all_reduce(shard, 1, HW_U64)); /* the mass of all tokens */
        for (size_t k = HW_FIRST_CANDIDATES;; k *= 4) {
            if (k > widest) k = widest;
            count(t, HW_SITE_SAMPLE, r, n, all_gather(shard, k * sizeof(uint64_t)));
            if (k == widest) break;
        }
        t->sample_is_bound = true;
    } else if (s->min_p > 0) count(t, HW_SITE_SAMPLE, r, n, all_reduce(shard, 1, HW_U64)); /* the draw */
}

void hw_plan_step_traffic(hw_step_traffic *total, const hw_model *m, const hw_shard *shard, hw_dtype act,
                          hw_step_rows rows, const hw_sampling *sampling)
{
    size_t n_rows = (size_t)rows.prefill_rows + (size_t)rows.decode_rows;
    if (shard->n_ranks == 1 || !n_rows) return;
    const uint64_t n_layers = (uint64_t)hw_shard_n_layers(shard);
    const size_t width = n_rows * (size_t)m->dim;
    count(total, HW_SITE_EMBED, rows, 1, all_reduce(shard, width, act));
    count(total, HW_SITE_ATTN, rows, n_layers, all_reduce(shard, width, act));
    count(total, HW_SITE_MLP, rows, n_layers, all_reduce(shard, width, act));
    if (!rows.n_sampled) return;
    count(total, HW_SITE_SAMPLE, rows, 1, all_reduce(shard, (size_t)rows.n_sampled, HW_U64));
    if (sampling) count_filters(total, m, shard, rows, sampling);
}

/* Iterates over the steps of a generation: start with {0}. */
typedef struct step_shape {
    int done, n; /* tokens of the sequence before the step, and new ones in it */
    int n_rows;
    bool sampled;
} step_shape;

static bool next_step(step_shape *s, hw_generation_shape g)
{
    int chunk = g.chunk > 0 && g.chunk < g.n_prompt ? g.chunk : g.n_prompt;
    s->done += s->n;
    if (s->done >= g.n_prompt + g.n_steps) return false;
    int left = g.n_prompt - s->done;
    s->n = left <= 0 ? 1 : left < chunk ? left : chunk;
    s->n_rows = g.cache_off ? s->done + s->n : s->n;
    s->sampled = s->done + s->n >= g.n_prompt;
    return true;
}

void hw_plan_generation_traffic(hw_step_traffic *total, const hw_model *m, const hw_shard *shard,
                                hw_dtype act, hw_generation_shape shape, const hw_sampling *sampling)
{
    for (step_shape s = {0}; next_step(&s, shape);) {
        bool decode = s.done > 0 && s.n == 1; /* as in hw_batch_add */
        hw_step_rows rows = {.prefill_rows = decode ? 0 : s.n_rows,
                             .decode_rows = decode ? s.n_rows : 0,
                             .n_sampled = s.sampled};
        hw_plan_step_traffic(total, m, shard, act, rows, sampling);
    }
}

/* Keys to which rows at positions 0 .. n - 1 attend. */
static uint64_t causal_pairs(uint64_t n) { return n * (n + 1) / 2; }

/* Elements of the matrices of all layers, which are the multiply-adds of a row. */
static uint64_t layer_products(const hw_model *m)
{
    const hw_shard whole = hw_shard_whole(m);
    uint64_t n = 0;
    hw_param p;
    for (hw_params list = hw_params_of(m, &whole, hw_format_plain(HW_F32)); hw_params_next(&list, &p);)
        if (p.kind->per_layer && !p.kind->vector) n += hw_range_size(p.out) * hw_range_size(p.in);
    return n;
}

uint64_t hw_plan_generation_flops(const hw_model *m, hw_generation_shape shape)
{
    const uint64_t q = (uint64_t)m->n_heads * (uint64_t)m->head_dim;
    uint64_t rows = 0, pairs = 0, sampled = 0;
    for (step_shape s = {0}; next_step(&s, shape);) {
        uint64_t end = (uint64_t)(s.done + s.n);
        rows += (uint64_t)s.n_rows;
        pairs += causal_pairs(end) - causal_pairs(end - (uint64_t)s.n_rows);
        sampled += s.sampled;
    }
    /* A pair costs head_dim multiply-adds for its score and as many for its value, in every head. */
    return 2 * layer_products(m) * rows + (uint64_t)m->n_layers * 4 * q * pairs +
           2 * (uint64_t)m->dim * (uint64_t)m->vocab_size * sampled;
}

hw_traffic hw_step_traffic_site(const hw_step_traffic *t, hw_site site)
{
    hw_traffic sum = t->site[site][HW_PREFILL];
    hw_traffic_add(&sum, t->site[site][HW_DECODE]);
    return sum;
}
