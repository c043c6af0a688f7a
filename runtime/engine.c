#include "runtime/engine.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/checked.h"
#include "runtime/base/clock.h"
#include "runtime/engine_state.h"
#include "runtime/memory.h"

enum { DEFAULT_CONTEXT = 4096, MAX_ROWS = 1 << 20 };

hw_engine_options hw_engine_defaults(void)
{
    return (hw_engine_options){.device = "auto",
                               .n_threads = 1,
                               .kv_policy = HW_KV_PAGED,
                               .block_tokens = 16,
                               .max_seqs = 1,
                               .max_batch_rows = 512,
                               .max_logit_rows = 1};
}

static hw_status check_range(const char *name, int value, int min, int max, hw_error *err)
{
    if (value >= min && value <= max) return HW_OK;
    return hw_fail(err, HW_ERR_INVALID, "%s is %d, wanted %d to %d", name, value, min, max);
}

/* Completes options with what follows from the model and from each other. */
static hw_status settle(hw_engine *e, hw_error *err)
{
    hw_engine_options *o = &e->options;
    const hw_model *m = &e->model;
    hw_status st;
    if (!o->max_seq_len) o->max_seq_len = m->max_seq_len < DEFAULT_CONTEXT ? m->max_seq_len : DEFAULT_CONTEXT;
    if (o->max_seq_len > m->max_seq_len)
        return hw_fail(err, HW_ERR_INVALID, "max_model_len is %d, but config.json allows %d positions",
                       o->max_seq_len, m->max_seq_len);
    if ((st = check_range("max_model_len", o->max_seq_len, 1, m->max_seq_len, err)) ||
        (st = check_range("threads", o->n_threads, 1, 1024, err)) ||
        (st = check_range("block_tokens", o->block_tokens, 1, 1024, err)) ||
        (st = check_range("max_seqs", o->max_seqs, 1, 65536, err)) ||
        (st = check_range("max_batch_rows", o->max_batch_rows, 1, MAX_ROWS, err)) ||
        (st = check_range("max_logit_rows", o->max_logit_rows, 1, MAX_ROWS, err)))
        return st;
    if (o->max_logit_rows < o->max_seqs) o->max_logit_rows = o->max_seqs;
    if (o->kv_policy == HW_KV_OFF && o->max_batch_rows < o->max_seq_len) o->max_batch_rows = o->max_seq_len;
    if ((int64_t)o->max_batch_rows > (int64_t)o->max_seqs * o->max_seq_len)
        o->max_batch_rows = o->max_seqs * o->max_seq_len;
    e->max_blocks = (o->max_seq_len + o->block_tokens - 1) / o->block_tokens;
    return HW_OK;
}

static hw_kv_dims kv_dims(const hw_engine *e)
{
    return (hw_kv_dims){.n_layers = e->model.n_layers,
                        .n_kv_heads = e->part.heads.n_kv_heads,
                        .head_dim = e->model.head_dim,
                        .block_tokens = e->options.block_tokens,
                        .n_blocks = e->max_blocks * e->options.max_seqs,
                        .dtype = e->options.kv_dtype};
}

/* ---- buffers */

typedef struct buffer {
    void **where;
    size_t n_bytes;
} buffer;

enum { N_BUFFERS = 15 };

/* Every buffer of a step with its size; SIZE_MAX when the sizes overflow. */
static size_t list_buffers(hw_engine *e, buffer list[N_BUFFERS])
{
    const hw_model *m = &e->model;
    const hw_heads h = e->part.heads;
    hw_buffers *b = &e->buffers;
    size_t act = hw_dtype_size(e->device->act), rows = (size_t)e->options.max_batch_rows,
           dim = (size_t)m->dim;
    size_t logits = (size_t)e->options.max_logit_rows, d = (size_t)m->head_dim,
           ffn = hw_range_size(e->part.ffn);
    size_t q = (size_t)h.n_heads * d, qkv = q + 2 * (size_t)h.n_kv_heads * d,
           vocab = hw_range_size(e->part.vocab);
    size_t dim_rows = rows > logits ? rows : logits; /* normed and y also carry the rows of logits */
    const buffer all[N_BUFFERS] = {
        {&b->x, HW_SIZE(rows, dim, act)},
        {&b->normed, HW_SIZE(dim_rows, dim, act)},
        {&b->qkv, HW_SIZE(rows, qkv, act)},
        {&b->attn, HW_SIZE(rows, q, act)},
        {&b->y, HW_SIZE(dim_rows, dim, act)},
        {&b->up, HW_SIZE(rows, ffn, m->gated_mlp ? 2 : 1, act)},
        {&b->act, HW_SIZE(rows, ffn, act)},
        {(void **)&b->angles, HW_SIZE(rows, (size_t)m->rope.rotary_dim, sizeof(float))},
        {(void **)&b->logits, HW_SIZE(logits, vocab, sizeof(float))},
        {&b->scratch,
         e->device->k->attention_scratch(e->device, h, e->options.max_batch_rows, e->options.max_seq_len)},
        {(void **)&b->tokens, HW_SIZE(rows, sizeof(int32_t))},
        {(void **)&b->positions, HW_SIZE(rows, sizeof(int32_t))},
        {(void **)&b->seqs, HW_SIZE(rows, sizeof(int32_t))},
        {(void **)&b->logit_rows, HW_SIZE(logits, sizeof(int32_t))},
        {(void **)&b->block_tables,
         HW_SIZE((size_t)e->options.max_seqs, (size_t)e->max_blocks, sizeof(int32_t))},
    };
    size_t total = 0;
    for (int i = 0; i < N_BUFFERS; i++) {
        list[i] = all[i];
        if (list[i].n_bytes == SIZE_MAX || __builtin_add_overflow(total, list[i].n_bytes, &total))
            return SIZE_MAX;
    }
    return total;
}

static hw_status make_buffers(hw_engine *e, hw_error *err)
{
    buffer list[N_BUFFERS];
    e->buffers.n_bytes = list_buffers(e, list);
    for (int i = 0; i < N_BUFFERS; i++) {
        hw_status st =
            e->device->k->alloc(e->device, list[i].where, list[i].n_bytes ? list[i].n_bytes : 1, err);
        if (st) return hw_context(err, st, "buffers of a step");
    }
    return HW_OK;
}

static void free_buffers(hw_engine *e)
{
    buffer list[N_BUFFERS];
    list_buffers(e, list);
    for (int i = 0; i < N_BUFFERS; i++) e->device->k->free(e->device, *list[i].where);
}

/* ---- creation, in stages; all ranks agree after each that can fail on one rank alone */

static hw_status make_device(hw_engine *e, hw_error *err)
{
    const char *name = e->options.device;
    if (!strcmp(name, "reference")) return hw_reference_device_create(&e->device, err);
    if (!strcmp(name, "auto") || !strcmp(name, "cpu"))
        return hw_cpu_device_create(&e->device, e->options.n_threads, NULL, err);
    return hw_fail(err, HW_ERR_UNSUPPORTED,
                   "device \"%s\" is not in this build; it has auto, cpu and reference", name);
}

static hw_status read_config(hw_engine *e, const char *folder, hw_error *err)
{
    hw_status st = hw_model_open(&e->model, folder, err);
    if (!st) st = settle(e, err);
    if (!st) st = hw_part_create(&e->part, &e->model, hw_comm_rank(e->comm), hw_comm_n_ranks(e->comm), err);
    if (!st) st = make_device(e, err);
    return st;
}

/* What cannot fit is refused before gigabytes are read. */
static hw_status check_memory(hw_engine *e, hw_error *err)
{
    buffer list[N_BUFFERS];
    const uint64_t weights = hw_weights_estimate(&e->model, &e->part, e->options.dtype);
    const size_t kv = hw_kv_bytes(kv_dims(e)), buffers = list_buffers(e, list);
    const uint64_t available = hw_memory_available() / (uint64_t)hw_comm_n_local_ranks(e->comm);
    uint64_t needed;
    const double mib = 1.0 / (1 << 20);
    if (kv != SIZE_MAX && buffers != SIZE_MAX && hw_add_u64(weights, kv, &needed) &&
        hw_add_u64(needed, buffers, &needed) && needed <= available)
        return HW_OK;
    return hw_fail(err, HW_ERR_NO_MEMORY,
                   "not enough memory: rank %d needs %.0f MiB (weights %.0f, KV cache %.0f, buffers %.0f), "
                   "its share of what this "
                   "host has free is %.0f MiB; use more hosts, or lower --max-model-len",
                   e->part.rank, ((double)weights + (double)kv + (double)buffers) * mib,
                   (double)weights * mib, (double)kv * mib, (double)buffers * mib, (double)available * mib);
}

static hw_status load(hw_engine *e, hw_checkpoint *c, hw_error *err)
{
    const hw_engine_options *o = &e->options;
    const hw_load_options load = {.dtype = o->dtype,
                                  .dummy = o->dummy,
                                  .dummy_seed = o->dummy_seed,
                                  .progress = o->progress,
                                  .progress_user = o->progress_user};
    hw_status st = hw_weights_load(&e->weights, e->device, &e->model, &e->part, c, &load, err);
    if (!st) st = hw_kv_cache_create(&e->kv, e->device, kv_dims(e), err);
    if (!st) st = make_buffers(e, err);
    if (!st)
        st = hw_sampler_create(&e->sampler, o->max_logit_rows, e->part.n_ranks,
                               (int)hw_range_size(e->part.vocab), e->model.vocab_size, err);
    return st;
}

static hw_status make_rope(hw_engine *e, hw_error *err)
{
    if (e->model.rope.kind == HW_ROPE_NONE) return HW_OK;
    size_t half = (size_t)e->model.rope.rotary_dim / 2;
    float *host = calloc(half, sizeof *host);
    void *device = NULL;
    hw_status st = host ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "RoPE: no memory");
    if (!st) st = e->device->k->alloc(e->device, &device, half * sizeof(float), err);
    if (!st) {
        e->inv_freq = device;
        hw_rope_inv_freq(host, &e->model.rope);
        st = e->device->k->copy_in(e->device, NULL, device, host, half * sizeof(float));
    }
    free(host);
    return st;
}

static hw_status create(hw_engine *e, const char *folder, hw_error *err)
{
    hw_checkpoint *c = NULL;
    hw_status st = hw_comm_agree(e->comm, read_config(e, folder, err), err);
    if (st) return st;
    st = e->options.dummy ? HW_OK : hw_checkpoint_open(&c, folder, err);
    if (!st) {
        e->options.dtype = hw_weights_dtype(&e->model, c, e->options.dtype);
        if (e->options.kv_dtype == HW_DTYPE_NONE) e->options.kv_dtype = e->options.dtype;
        e->checkpoint_bytes = c ? hw_checkpoint_total_bytes(c) : 0;
        st = check_memory(e, err);
    }
    if (!st) st = make_rope(e, err);
    st = hw_comm_agree(e->comm, st, err);
    if (!st) st = hw_comm_agree(e->comm, load(e, c, err), err);
    hw_checkpoint_close(c);
    if (!st) st = hw_meter_set_layers(hw_comm_meter(e->comm), e->model.n_layers, err);
    return st;
}

hw_status hw_engine_create(hw_engine **out, hw_comm *comm, const char *model_folder,
                           const hw_engine_options *options, hw_error *err)
{
    uint64_t start = hw_clock_ns();
    *out = NULL;
    hw_engine *e = calloc(1, sizeof *e);
    if (!e) return hw_fail(err, HW_ERR_NO_MEMORY, "engine: no memory");
    e->comm = comm;
    e->options = *options;
    hw_status st = create(e, model_folder, err);
    if (st) {
        hw_engine_destroy(e);
        return st;
    }
    e->load_seconds = hw_seconds_since(start);
    *out = e;
    return HW_OK;
}

void hw_engine_destroy(hw_engine *e)
{
    if (!e) return;
    hw_sampler_destroy(e->sampler);
    hw_kv_cache_destroy(e->kv);
    hw_weights_destroy(e->weights);
    if (e->device) {
        free_buffers(e);
        e->device->k->free(e->device, e->inv_freq);
    }
    hw_device_destroy(e->device);
    free(e);
}

static uint64_t step_weight_bytes(const hw_engine *e)
{
    const hw_kernels *k = e->device->k;
    uint64_t n = k->weight_bytes(e->weights->head);
    for (int i = 0; i < e->model.n_layers; i++) {
        const hw_layer *l = &e->weights->layers[i];
        n += k->weight_bytes(l->wqkv) + k->weight_bytes(l->wo) + k->weight_bytes(l->w_up) +
             k->weight_bytes(l->w_down);
    }
    return n;
}

hw_engine_info hw_engine_info_get(const hw_engine *e)
{
    const hw_model *m = &e->model;
    return (hw_engine_info){.architecture = m->architecture,
                            .device = hw_device_description(e->device),
                            .comm = hw_comm_backend(e->comm),
                            .rank = e->part.rank,
                            .n_ranks = e->part.n_ranks,
                            .n_threads = e->options.n_threads,
                            .n_layers = m->n_layers,
                            .n_heads = m->n_heads,
                            .n_kv_heads = m->n_kv_heads,
                            .head_dim = m->head_dim,
                            .dim = m->dim,
                            .ffn_dim = m->ffn_dim,
                            .vocab_size = m->vocab_size,
                            .n_local_heads = e->part.heads.n_heads,
                            .n_local_kv_heads = e->part.heads.n_kv_heads,
                            .max_seq_len = e->options.max_seq_len,
                            .block_tokens = e->options.block_tokens,
                            .max_batch_rows = e->options.max_batch_rows,
                            .max_logit_rows = e->options.max_logit_rows,
                            .kv_policy = e->options.kv_policy,
                            .dtype = e->options.dtype,
                            .kv_dtype = e->options.kv_dtype,
                            .n_params = hw_model_n_params(m),
                            .weight_bytes = e->weights->n_bytes,
                            .step_weight_bytes = step_weight_bytes(e),
                            .kv_bytes = hw_kv_bytes(hw_kv_cache_dims(e->kv)),
                            .buffer_bytes = e->buffers.n_bytes,
                            .checkpoint_bytes = e->checkpoint_bytes,
                            .bytes_read = e->weights->n_bytes_read,
                            .load_seconds = e->load_seconds};
}

hw_comm *hw_engine_comm(hw_engine *e) { return e->comm; }
const hw_model *hw_engine_model(const hw_engine *e) { return &e->model; }
const hw_part *hw_engine_part(const hw_engine *e) { return &e->part; }

/* ---- steps */

hw_status hw_engine_step(hw_engine *e, const hw_batch *b, hw_error *err)
{
    if (!b->n_rows) return hw_fail(err, HW_ERR_INVALID, "a step without rows");
    hw_status st = hw_forward(e, b, err);
    e->last = st ? NULL : b;
    return st;
}

/* Every rank's slice of a row is sent padded to the widest, so that one all-gather takes them all. */
hw_status hw_engine_logits(hw_engine *e, float *out, hw_error *err)
{
    const hw_part *p = &e->part;
    size_t vocab = (size_t)e->model.vocab_size, width = 0, n_local = hw_range_size(p->vocab);
    for (int r = 0; r < p->n_ranks; r++) {
        size_t n = hw_range_size(hw_shard_granules(vocab, r, p->n_ranks));
        if (n > width) width = n;
    }
    if (!e->last) return hw_fail(err, HW_ERR_INVALID, "logits were asked for before a step");
    float *mine = calloc(width, sizeof *mine), *all = calloc(width * (size_t)p->n_ranks, sizeof *all);
    hw_status st = mine && all ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "logits: no memory for a row");
    hw_tag tag = {.site = HW_SITE_CONTROL};
    for (int i = 0; i < e->last->n_logits && !st; i++) {
        st = e->device->k->copy_out(e->device, NULL, mine, e->buffers.logits + (size_t)i * n_local,
                                    n_local * sizeof(float));
        if (!st) st = hw_comm_all_gather(e->comm, tag, mine, width * sizeof(float), all, err);
        for (int r = 0; r < p->n_ranks && !st; r++) {
            hw_range v = hw_shard_granules(vocab, r, p->n_ranks);
            memcpy(out + (size_t)i * vocab + v.begin, all + (size_t)r * width,
                   hw_range_size(v) * sizeof(float));
        }
    }
    free(mine);
    free(all);
    return st;
}

void hw_engine_cancel(hw_engine *e) { e->cancelled = true; }
