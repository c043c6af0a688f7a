/* What the meter counts on real ranks against the closed forms: collectives of many sizes, then generations
 * of the model folders named as arguments. Exit code 1 and a line on standard error for the first
 * difference. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "parallel/traffic_model.h"
#include "runtime/generate.h"
#include "runtime/plan.h"
#include "tests/support/rank.h"

static void expect_equal(const char *what, const char *where, uint64_t found, uint64_t wanted)
{
    if (found == wanted || n_wrong++ >= 10) return;
    fprintf(stderr, "rank %d of %d, %s: %s is %llu, predicted %llu\n", rank, n_ranks, where, what,
            (unsigned long long)found, (unsigned long long)wanted);
}

/* Sizes around the change from whole vectors to halves, odd ones among them. */
static void check_collectives(void)
{
    static const size_t counts[] = {1, 2, 7, 768, 4095, 4096, 8191, 8192, 8193, 8197, 10007, 100003};
    const hw_tag tag = {.site = HW_SITE_EMBED, .decode_rows = 1};
    const hw_place at = {rank, n_ranks, hw_comm_n_sharing(comm)};
    float *buffer = calloc(100003, sizeof *buffer), *all = calloc(100003 * (size_t)n_ranks, sizeof *all);
    hw_error err;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        char where[64];
        hw_meter_reset(hw_comm_meter(comm));
        must(hw_comm_all_reduce(comm, tag, buffer, counts[i], HW_F32, HW_SUM, &err), &err);
        hw_traffic t = hw_meter_site(hw_comm_meter(comm), HW_SITE_EMBED, HW_DECODE);
        snprintf(where, sizeof where, "all-reduce of %zu float32", counts[i]);
        hw_traffic_model v = hw_traffic_model_all_reduce(at, counts[i], 4);
        expect_equal("sent", where, t.sent_bytes, v.bytes);
        expect_equal("messages", where, t.messages, v.messages);
        hw_meter_reset(hw_comm_meter(comm));
        must(hw_comm_all_gather(comm, tag, buffer, counts[i] * 4, all, &err), &err);
        t = hw_meter_site(hw_comm_meter(comm), HW_SITE_EMBED, HW_DECODE);
        snprintf(where, sizeof where, "all-gather of %zu float32", counts[i]);
        expect_equal("sent", where, t.sent_bytes,
                     n_ranks > 1 ? hw_traffic_model_all_gather(at, counts[i] * 4).bytes : 0);
    }
    free(buffer);
    free(all);
}

typedef struct variant {
    const char *name;
    hw_kv_policy policy;
    int n_prompt, chunk, n_new;
    hw_sampling sampling;
} variant;

static const variant variants[] = {
    {.name = "greedy", .n_prompt = 23, .n_new = 9},
    {.name = "chunks", .n_prompt = 23, .chunk = 7, .n_new = 3},
    {.name = "off", .policy = HW_KV_OFF, .n_prompt = 5, .n_new = 9},
    {.name = "off-chunks", .policy = HW_KV_OFF, .n_prompt = 23, .chunk = 11, .n_new = 3},
    {.name = "temperature", .n_prompt = 1, .n_new = 5, .sampling = {.temperature = 0.9f}},
    {.name = "min-p", .n_prompt = 4, .n_new = 5, .sampling = {.temperature = 0.9f, .min_p = 0.02f}},
    {.name = "top-k", .n_prompt = 4, .n_new = 5, .sampling = {.temperature = 0.9f, .top_k = 11}},
    {.name = "top-k-p",
     .n_prompt = 4,
     .n_new = 5,
     .sampling = {.temperature = 0.9f, .top_k = 1 << 20, .top_p = 0.5f}},
    {.name = "top-p", .n_prompt = 4, .n_new = 5, .sampling = {.temperature = 0.9f, .top_p = 0.9f}},
};

static void compare_phase(const char *where, hw_traffic found, hw_traffic wanted, bool is_bound)
{
    if (is_bound) {
        bool within = found.calls <= wanted.calls && found.payload_bytes <= wanted.payload_bytes &&
                      found.sent_bytes <= wanted.sent_bytes && found.messages <= wanted.messages;
        expect_equal("within the bound", where, within, true);
        return;
    }
    expect_equal("calls", where, found.calls, wanted.calls);
    expect_equal("payload", where, found.payload_bytes, wanted.payload_bytes);
    expect_equal("sent", where, found.sent_bytes, wanted.sent_bytes);
    expect_equal("messages", where, found.messages, wanted.messages);
    /* Sums of at most a few hundred fractions in double. */
    expect_equal("ideal is close", where,
                 fabs(found.ideal_bytes - wanted.ideal_bytes) <= 1e-12 * wanted.ideal_bytes, true);
}

static void compare(const char *folder, const char *name, const hw_step_traffic *wanted)
{
    for (int site = 0; site < HW_N_SITES; site++)
        for (int phase = 0; phase < HW_N_PHASES && hw_site_is_predicted((hw_site)site); phase++) {
            char where[4200];
            snprintf(where, sizeof where, "%s, %s, %s in %s", folder, name, hw_site_name((hw_site)site),
                     hw_phase_name((hw_phase)phase));
            compare_phase(where, hw_meter_site(hw_comm_meter(comm), (hw_site)site, (hw_phase)phase),
                          wanted->site[site][phase], site == HW_SITE_SAMPLE && wanted->sample_is_bound);
        }
}

/* Over all ranks the work is that of one rank, by formula, plus K and V of heads that more than one rank
 * needs. */
static void compare_work(const char *folder, const char *name, const hw_engine *e, hw_generation_shape shape)
{
    const hw_model *m = hw_engine_model(e);
    hw_work sum = hw_work_phase(hw_engine_work(e), HW_PREFILL);
    hw_error err;
    hw_work_add(&sum, hw_work_phase(hw_engine_work(e), HW_DECODE));
    uint64_t total[2] = {sum.flops - sum.replicated_flops, (uint64_t)hw_engine_info_get(e).n_local_kv_heads};
    must(hw_comm_all_reduce(comm, (hw_tag){.site = HW_SITE_CONTROL}, total, 2, HW_U64, HW_SUM, &err), &err);
    char where[4200];
    snprintf(where, sizeof where, "%s, %s", folder, name);
    expect_equal("FLOPs of all ranks", where, total[0], hw_plan_generation_flops(m, shape));
    bool shares = hw_engine_shard(e)->heads.first_head % (m->n_heads / m->n_kv_heads) != 0;
    expect_equal("work is replicated", where, sum.replicated_flops > 0, shares);
    expect_equal("KV heads are replicated", where, total[1] > (uint64_t)m->n_kv_heads,
                 n_ranks > m->n_kv_heads && m->n_kv_heads < m->n_heads);
}

/* What the engine took is what the plan says, but for the padding of weights, which these odd sizes need. */
static void compare_memory(const char *folder, const char *name, const hw_engine *e, hw_engine_options o)
{
    const hw_engine_info info = hw_engine_info_get(e);
    const hw_plan_limits limits = {.memory = UINT64_MAX, .bandwidth = 1e9, .latency = 1e-6, .n_sharing = 1};
    const hw_model *m = hw_engine_model(e);
    hw_device *d;
    hw_plan plan;
    hw_error err;
    char where[4200];
    must(hw_options_settle(&o, m, &err), &err);
    o.weight_dtype = info.weight_dtype;
    o.kv_dtype = info.kv_dtype;
    must(hw_cpu_device_create(&d, o.n_threads, NULL, &err), &err);
    must(hw_plan_create(&plan, m, &o, d, info.n_ranks, limits, &err), &err);
    const hw_rank_memory mine = hw_rank_memory_of(&o, m, hw_engine_shard(e), d);
    snprintf(where, sizeof where, "%s, %s", folder, name);
    expect_equal("KV cache", where, info.kv_bytes, mine.kv);
    expect_equal("buffers", where, info.buffer_bytes, mine.buffers);
    expect_equal("weights cover the plan's", where, info.weight_bytes >= mine.weights, true);
    expect_equal("least to most", where,
                 plan.least.total <= mine.total && mine.total <= plan.most.total &&
                     plan.least.kv <= mine.kv && mine.kv <= plan.most.kv,
                 true);
    expect_equal("own heads", where,
                 info.n_local_heads >= plan.min_heads && info.n_local_kv_heads <= plan.max_kv_heads, true);
    hw_device_destroy(d);
}

static void check_generation(const char *folder, const variant *v)
{
    hw_engine_options o = hw_engine_defaults();
    hw_generate_options g = {.max_new_tokens = v->n_new, .sampling = v->sampling, .prefill_chunk = v->chunk};
    hw_generate_result r = {.n_prompt = 0};
    hw_step_traffic wanted = {.sample_is_bound = false};
    hw_engine *e;
    hw_error err;
    int32_t prompt[64];
    o.kv_policy = v->policy;
    o.max_seq_len = 48;
    for (int i = 0; i < v->n_prompt; i++) prompt[i] = 3 * i % 17;
    must(hw_engine_create(&e, comm, folder, &o, &err), &err);
    hw_meter_reset(hw_comm_meter(comm));
    must(hw_generate(e, NULL, prompt, v->n_prompt, &g, &r, &err), &err);
    hw_generation_shape shape = {.n_prompt = v->n_prompt,
                                 .chunk = v->chunk,
                                 .n_steps = r.n_steps,
                                 .cache_off = v->policy == HW_KV_OFF};
    hw_plan_generation_traffic(&wanted, hw_engine_model(e), hw_engine_shard(e), HW_F32, shape, &v->sampling);
    compare(folder, v->name, &wanted);
    compare_work(folder, v->name, e, shape);
    compare_memory(folder, v->name, e, o);
    hw_tokens_free(&r.tokens);
    hw_engine_destroy(e);
}

/* A step of one prompt and one token that goes on: bytes are divided by rows, the call counts as prefill. */
static void check_mixed_step(const char *folder)
{
    static const int32_t tokens[] = {1, 5, 2, 9, 4, 7, 3};
    const hw_sampling sampling[2] = {{0}};
    hw_engine_options o = hw_engine_defaults();
    hw_step_traffic wanted = {.sample_is_bound = false};
    hw_engine *e;
    hw_sequence *old, *new;
    hw_batch *b;
    hw_error err;
    int32_t out[2];
    o.max_seqs = 2;
    o.max_seq_len = 32;
    must(hw_engine_create(&e, comm, folder, &o, &err), &err);
    must(hw_sequence_create(&old, e, 0, &err), &err);
    must(hw_sequence_create(&new, e, 0, &err), &err);
    must(hw_batch_create(&b, e, &err), &err);
    must(hw_batch_add(b, old, tokens, 3, HW_LOGITS_LAST, &err), &err);
    must(hw_engine_step(e, b, &err), &err);
    hw_meter_reset(hw_comm_meter(comm));
    hw_batch_clear(b);
    must(hw_batch_add(b, old, tokens, 1, HW_LOGITS_LAST, &err), &err);
    must(hw_batch_add(b, new, tokens, 7, HW_LOGITS_LAST, &err), &err);
    must(hw_engine_step(e, b, &err), &err);
    must(hw_engine_sample(e, b, sampling, 0, out, &err), &err);
    hw_plan_step_traffic(&wanted, hw_engine_model(e), hw_engine_shard(e), HW_F32,
                         (hw_step_rows){.prefill_rows = 7, .decode_rows = 1, .n_sampled = 2}, sampling);
    compare(folder, "mixed step", &wanted);
    hw_batch_destroy(b);
    hw_sequence_destroy(old);
    hw_sequence_destroy(new);
    hw_engine_destroy(e);
}

int main(int argc, char **argv)
{
    if (argc < 2) return fprintf(stderr, "usage: plan_worker BACKEND FOLDER...\n"), 2;
    start(argv[1]);
    check_collectives();
    for (int i = 2; i < argc; i++) {
        for (size_t v = 0; v < sizeof variants / sizeof *variants; v++)
            check_generation(argv[i], &variants[v]);
        check_mixed_step(argv[i]);
    }
    return finish();
}
