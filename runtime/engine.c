#include "runtime/engine.h"

#include <stdlib.h>
#include <string.h>

#include "parallel/watch.h"
#include "runtime/base/clock.h"
#include "runtime/base/host.h"
#include "runtime/batch.h"
#include "runtime/device/decode_graph.h"
#include "runtime/device/devices.h"
#include "runtime/device/host_memory.h"
#include "runtime/device/warm_up.h"
#include "runtime/engine_state.h"
#include "runtime/forward.h"
#include "runtime/kv/capacity.h"
#include "runtime/sampler.h"
#include "runtime/sizes.h"
#include "runtime/weights/source.h"
#include "runtime/weights/tied_head.h"

hw_engine_options hw_engine_defaults(void)
{
    return (hw_engine_options){.device = "auto",
                               .graphs = true,
                               .n_threads = 1,
                               .kv_policy = HW_KV_PAGED,
                               .block_tokens = 16,
                               .prefix_sharing = true,
                               .max_seqs = 1,
                               .max_batch_rows = 512,
                               .max_logit_rows = 1};
}

/* ---- buffers */

/* The field of each buffer, in the order of sizes.h. */
static void list_buffers(hw_buffers *b, void **list[HW_N_BUFFERS])
{
    void **const all[HW_N_BUFFERS] = {
        [HW_BUFFER_X] = &b->x,
        [HW_BUFFER_NORMED] = &b->normed,
        [HW_BUFFER_QKV] = &b->qkv,
        [HW_BUFFER_ATTN] = &b->attn,
        [HW_BUFFER_Y] = &b->y,
        [HW_BUFFER_UP] = &b->up,
        [HW_BUFFER_ACT] = &b->act,
        [HW_BUFFER_ANGLES] = (void **)&b->angles,
        [HW_BUFFER_LOGITS] = (void **)&b->logits,
        [HW_BUFFER_SCRATCH] = &b->scratch,
        [HW_BUFFER_TOKENS] = (void **)&b->tokens,
        [HW_BUFFER_POSITIONS] = (void **)&b->positions,
        [HW_BUFFER_SEQS] = (void **)&b->seqs,
        [HW_BUFFER_LOGIT_ROWS] = (void **)&b->logit_rows,
        [HW_BUFFER_BLOCK_TABLES] = (void **)&b->block_tables,
        [HW_BUFFER_KEYS] = (void **)&b->keys,
        [HW_BUFFER_DRAWS] = (void **)&b->draws,
    };
    memcpy(list, all, sizeof all);
}

static hw_status make_buffers(hw_engine *e, hw_error *err)
{
    void **list[HW_N_BUFFERS];
    size_t sizes[HW_N_BUFFERS];
    list_buffers(&e->buffers, list);
    e->buffers.n_bytes = hw_buffer_sizes(sizes, &e->options, &e->model, &e->shard, e->device);
    hw_status st = HW_OK;
    for (int i = 0; i < HW_N_BUFFERS && !st; i++)
        st = e->device->k->alloc(e->device, list[i], sizes[i] ? sizes[i] : 1, err);
    if (!st && !e->device->host_memory && e->shard.n_ranks > 1 && !hw_comm_on_device(e->tensor))
        st = e->device->k->host_alloc(e->device, &e->buffers.stage, sizes[HW_BUFFER_Y], err);
    if (!st && e->has_device_loop) {
        const hw_kernels *k = e->device->k;
        st = k->host_alloc(e->device, (void **)&e->buffers.ring, HW_DEVICE_LOOP_AHEAD * sizes[HW_BUFFER_KEYS],
                           err);
        if (!st)
            st = k->host_alloc(e->device, (void **)&e->buffers.next_tables,
                               HW_DEVICE_LOOP_AHEAD * sizes[HW_BUFFER_BLOCK_TABLES], err);
    }
    return hw_context(err, st, "buffers of a step");
}

static void free_buffers(hw_engine *e)
{
    void **list[HW_N_BUFFERS];
    list_buffers(&e->buffers, list);
    for (int i = 0; i < HW_N_BUFFERS; i++) e->device->k->free(e->device, *list[i]);
    e->device->k->host_free(e->device, e->buffers.stage);
    e->device->k->host_free(e->device, e->buffers.ring);
    e->device->k->host_free(e->device, e->buffers.next_tables);
}

/* ---- creation, in stages; all ranks agree after each stage that can fail on one rank alone */

/* Collective. */
static hw_status make_device(hw_engine *e, hw_error *err)
{
    const hw_engine_options *o = &e->options;
    hw_status st = hw_device_choose(&e->device, e->world, o->device, e->threads.n, hw_options_act_dtype(o),
                                    &e->gpu_note, err);
    if (!st && e->threads.n_cpus && !strcmp(e->device->k->name, "cpu"))
        hw_cpu_device_pin(e->device, e->threads.cpus, e->threads.n_cpus);
    return st ? st : hw_device_attach(e->device, e->tensor, err);
}

/* Sends the others the type and size of the weights in rank 0's files, and whether the head is tied to the embedding. */
static hw_status tell_facts(hw_engine *e, hw_error *err)
{
    uint64_t facts[2] = {2 * (uint64_t)e->options.dtype + e->model.tied_embeddings, e->checkpoint_bytes};
    hw_status st = hw_comm_broadcast(e->world, (hw_tag){.site = HW_SITE_LOAD}, facts, sizeof facts, 0, err);
    e->options.dtype = (hw_dtype)(facts[0] / 2);
    e->model.tied_embeddings = facts[0] % 2;
    e->checkpoint_bytes = facts[1];
    return st;
}

/* Collective, for any `st` of this rank, if rank 0 sends the weights. */
static hw_status open_checkpoint(hw_engine *e, hw_checkpoint **c, const char *folder, hw_status st,
                                 hw_error *err)
{
    e->scattered = !e->options.dummy && hw_source_of(folder, e->options.weights, e->world).comm;
    if (!st && !e->options.dummy && !(e->scattered && hw_comm_rank(e->world)))
        st = hw_checkpoint_open(c, folder, err);
    if (!st && *c) st = hw_model_settle_head(&e->model, *c, err);
    if (!st) {
        e->options.dtype = hw_weights_dtype(&e->model, *c, e->options.dtype);
        e->checkpoint_bytes = *c ? hw_checkpoint_total_bytes(*c) : 0;
    }
    if (!e->scattered) return st;
    st = hw_comm_agree(e->world, st, err);
    return st ? st : tell_facts(e, err);
}

/* The stored type must be known before the device is created: some devices keep activations in it. */
static hw_status read_config(hw_engine *e, hw_checkpoint **c, const char *folder, hw_error *err)
{
    const hw_source source = hw_source_of(folder, e->options.weights, e->world);
    hw_status st = hw_model_open_from(&e->model, &source, err);
    if (!st) st = hw_options_settle(&e->options, &e->model, err);
    if (!st) e->shape = hw_options_kv_shape(&e->options);
    if (!st)
        st = hw_shard_create(&e->shard, &e->model, hw_comm_rank(e->tensor), hw_comm_n_ranks(e->tensor), err);
    e->shard.n_sharing = hw_comm_n_sharing(e->tensor);
    if ((st = open_checkpoint(e, c, folder, st, err))) return st;
    hw_options_settle_types(&e->options);
    return HW_OK;
}

/* The memory that this rank can still allocate for weights, cache and buffers. */
static uint64_t available_bytes(const hw_engine *e)
{
    const hw_device *d = e->device;
    if (d && !d->host_memory) return d->k->available(d);
    return hw_memory_available() / (uint64_t)hw_comm_n_local_ranks(e->world);
}

/* Collective, for any `st` of this rank. Agrees on the number of blocks of the cache. */
static hw_status settle_capacity(hw_engine *e, hw_status st, hw_error *err)
{
    const hw_engine_options *o = &e->options;
    const hw_rank_memory need = hw_rank_memory_of(o, &e->model, &e->shard, e->device);
    const hw_kv_dims dims = hw_options_kv_dims(o, &e->model, &e->shard);
    const hw_kv_request r = {.dims = dims,
                             .min_blocks = o->kv_bytes ? dims.n_blocks : e->shape.seq_blocks,
                             .kv_bytes = o->kv_bytes,
                             .weight_bytes = need.weights,
                             .buffer_bytes = need.buffers,
                             .reserve_bytes = need.reserve,
                             .available_bytes = available_bytes(e),
                             .on_device = e->device && !e->device->host_memory};
    return hw_kv_capacity(&e->shape.n_blocks, e->world, st, &r, err);
}

static void show_progress(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    const hw_engine *e = user;
    hw_watch_progress(hw_comm_watch(e->world), 0);
    if (e->options.progress) e->options.progress(e->options.progress_user, done_bytes, total_bytes);
}

static hw_status load(hw_engine *e, hw_checkpoint *c, hw_error *err)
{
    const hw_engine_options *o = &e->options;
    const hw_load_options load = {.comm = e->scattered ? e->world : NULL,
                                  .format = hw_format_plain(o->weight_dtype),
                                  .dummy = o->dummy,
                                  .dummy_seed = o->dummy_seed,
                                  .progress = show_progress,
                                  .progress_user = e};
    hw_status st = hw_weights_load(&e->weights, e->device, &e->model, &e->shard, c, &load, err);
    hw_kv_dims dims = hw_options_kv_dims(o, &e->model, &e->shard);
    dims.n_blocks = e->shape.n_blocks; /* all ranks have room for these */
    if (!st)
        st = hw_kv_cache_create(&e->kv, e->device, o->kv_policy, dims, e->shape.seq_blocks, o->prefix_sharing,
                                err);
    if (!st && !(e->graphs = calloc(1, sizeof *e->graphs)))
        st = hw_fail(err, HW_ERR_NO_MEMORY, "graphs: no memory");
    if (!st) st = make_buffers(e, err);
    if (!st)
        st = hw_sampler_create(&e->sampler, o->max_logit_rows, e->shard.n_ranks, e->model.vocab_size, err);
    if (!st) st = hw_meter_set_layers(hw_comm_meter(e->world), e->model.n_layers, err);
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
        st = hw_engine_wait(e, e->device->k->copy_in(e->device, device, host, half * sizeof(float)), err);
    }
    free(host);
    return st;
}

/* Refuses a device that does not support the model's attention now, not in the middle of a step. */
static hw_status check_layers(const hw_engine *e, hw_error *err)
{
    hw_status st = HW_OK;
    for (int layer = 0; layer < e->model.n_layers && !st; layer++)
        st = hw_context(err, hw_device_check_attn(e->device, &hw_model_layer(&e->model, layer)->attn, err),
                        "layer %d", layer);
    return st;
}

static hw_status prepare_layers(hw_engine *e, hw_error *err)
{
    hw_status st = check_layers(e, err);
    return st ? st : make_rope(e, err);
}

/* Collective: one arithmetic on all ranks, in types that their devices support. Hosts with and without matrix units would
 * choose differently, but each supports the other's choice, so rank 0 chooses for all. A choice that depends on the other
 * ranks could be faster, but then rank 0 would give different bits alone than with them. */
static hw_status settle_arithmetic(hw_engine *e, hw_error *err)
{
    const hw_tag tag = {.site = HW_SITE_CONTROL};
    int32_t matmul = (int32_t)(e->options.matmul ? e->options.matmul : e->device->matmul);
    hw_status st = hw_comm_broadcast(e->world, tag, &matmul, sizeof matmul, 0, err);
    if (st) return st;
    st = hw_device_choose_matmul(e->device, (hw_matmul)matmul, err);
    if (!st) st = hw_options_settle_device_types(&e->options, e->device, err);
    return hw_comm_agree(e->world, st, err);
}

/* Collective, because all ranks must exchange keys in the same way. */
static hw_status settle_device_loop(hw_engine *e, hw_error *err)
{
    const hw_tag tag = {.site = HW_SITE_CONTROL};
    uint64_t not_here = !(e->device->k->device_loop && !hw_graph_unavailable_reason(e));
    hw_status st = hw_comm_all_reduce(e->world, tag, &not_here, 1, HW_U64, HW_MAX, err);
    e->has_device_loop = !st && !not_here;
    return st;
}

static hw_status create(hw_engine *e, const char *folder, hw_error *err)
{
    hw_checkpoint *c = NULL;
    hw_status st = hw_threads_settle(&e->threads, e->world, e->options.n_threads, e->options.pin, err);
    if (!st) st = hw_comm_agree(e->world, read_config(e, &c, folder, err), err);
    if (!st) st = make_device(e, err);
    if (!st) st = settle_arithmetic(e, err);
    if (!st) st = settle_device_loop(e, err);
    if (!st) st = settle_capacity(e, prepare_layers(e, err), err);
    if (!st) st = hw_comm_agree(e->world, load(e, c, err), err);
    if (!st) st = hw_warm_up(e, err);
    hw_checkpoint_close(c);
    return st;
}

hw_status hw_engine_create(hw_engine **out, hw_comm *comm, const char *model_folder,
                           const hw_engine_options *options, hw_error *err)
{
    uint64_t start = hw_clock_ns();
    const hw_watch_phase before = hw_watch_enter(hw_comm_watch(comm), HW_WATCH_LOADING);
    *out = NULL;
    hw_engine *e = calloc(1, sizeof *e);
    hw_status st = hw_comm_agree(
        comm, e ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "engine: no memory for %zu bytes", sizeof *e), err);
    if (!st) {
        e->world = e->tensor = comm;
        e->options = *options;
        st = create(e, model_folder, err);
    }
    hw_watch_enter(hw_comm_watch(comm), before);
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
    if (e->graphs) hw_decode_graphs_free(e->graphs, e->device);
    free(e->graphs);
    hw_kv_cache_destroy(e->kv);
    hw_weights_destroy(e->weights);
    if (e->device) {
        free_buffers(e);
        e->device->k->free(e->device, e->inv_freq);
    }
    if (e->tensor) hw_comm_detach(e->tensor);
    hw_device_destroy(e->device);
    free(e);
}

hw_engine_info hw_engine_info_get(const hw_engine *e)
{
    const hw_model *m = &e->model;
    return (hw_engine_info){.architecture = m->architecture,
                            .device = hw_device_description(e->device),
                            .path = hw_device_path(e->device),
                            .device_warning = hw_device_warning(e->device),
                            .device_note = hw_device_note(e->device),
                            .gpu_note = e->gpu_note.message,
                            .comm = hw_comm_backend(e->tensor),
                            .n_graph_steps = e->graphs->n_launched,
                            .no_graphs = e->device->host_memory ? NULL : hw_graph_unavailable_reason(e),
                            .n_device_loop_steps = e->n_device_loop_steps,
                            .sent_is_estimate = hw_comm_on_device(e->tensor),
                            .rank = e->shard.rank,
                            .n_ranks = e->shard.n_ranks,
                            .n_threads = e->device->n_threads,
                            .n_cores = e->threads.n_cores,
                            .n_cores_of = e->threads.n_allowed,
                            .n_ranks_on_them = e->threads.n_sharing,
                            .few_cores = e->threads.few,
                            .n_layers = m->n_layers,
                            .n_heads = m->n_heads,
                            .n_kv_heads = m->n_kv_heads,
                            .head_dim = m->head_dim,
                            .dim = m->dim,
                            .ffn_dim = m->ffn_dim,
                            .vocab_size = m->vocab_size,
                            .n_local_heads = e->shard.heads.n_heads,
                            .n_local_kv_heads = e->shard.heads.n_kv_heads,
                            .max_seq_len = e->options.max_seq_len,
                            .block_tokens = e->shape.block_tokens,
                            .n_kv_blocks = e->shape.n_blocks,
                            .max_batch_rows = e->options.max_batch_rows,
                            .max_logit_rows = e->options.max_logit_rows,
                            .kv_policy = e->options.kv_policy,
                            .weight_dtype = e->options.weight_dtype,
                            .act_dtype = e->options.act_dtype,
                            .comm_dtype = e->options.comm_dtype,
                            .kv_dtype = e->options.kv_dtype,
                            .matmul = e->device->matmul,
                            .n_params = hw_model_n_params(m),
                            .weight_bytes = e->weights->n_bytes,
                            .step_weight_bytes = e->weights->n_step_bytes,
                            .kv_bytes = hw_kv_bytes(hw_kv_cache_dims(e->kv)),
                            .buffer_bytes = e->buffers.n_bytes,
                            .checkpoint_bytes = e->checkpoint_bytes,
                            .bytes_read = e->weights->n_bytes_read,
                            .scattered_bytes = e->weights->n_bytes_sent,
                            .load_seconds = e->load_seconds};
}

hw_comm *hw_engine_comm(hw_engine *e) { return e->world; }
hw_device *hw_engine_device(hw_engine *e) { return e->device; }
const hw_model *hw_engine_model(const hw_engine *e) { return &e->model; }
const hw_shard *hw_engine_shard(const hw_engine *e) { return &e->shard; }
const hw_work_table *hw_engine_work(const hw_engine *e) { return &e->work; }
void hw_engine_work_reset(hw_engine *e) { e->work = (hw_work_table){0}; }
hw_kv_usage hw_engine_kv_usage(const hw_engine *e) { return hw_kv_cache_usage(e->kv); }

/* ---- steps */

hw_status hw_engine_step(hw_engine *e, hw_batch *b, hw_error *err)
{
    if (!b->n_rows) return hw_fail(err, HW_ERR_INVALID, "a step without rows");
    hw_watch *const w = hw_comm_watch(e->world);
    const hw_watch_phase before = hw_watch_enter(w, b->n_prefill_rows ? HW_WATCH_PREFILL : HW_WATCH_DECODE);
    hw_status st = hw_forward(e, b, err);
    hw_watch_enter(w, before);
    e->n_steps++;
    if (!st) hw_batch_done(b);
    return st;
}

hw_status hw_engine_read(hw_engine *e, void *dst, const void *src, size_t n_bytes, hw_error *err)
{
    return hw_engine_wait(e, e->device->k->copy_out(e->device, dst, src, n_bytes), err);
}

/* The device reports an error of any earlier call. If collectives are in its stream, it may fail to finish because of
 * other ranks. */
static hw_status wait_until(hw_engine *e, hw_event *m, hw_error *err)
{
    const hw_kernels *k = e->device->k;
    hw_status lost = hw_comm_device_wait(e->tensor, m, err);
    if (lost) return lost;
    hw_status told = m ? k->device_loop->event_wait(e->device, m, err) : k->synchronize(e->device, err);
    return hw_rank_context(err, told, hw_comm_job_rank(e->world));
}

hw_status hw_engine_wait(hw_engine *e, hw_status st, hw_error *err)
{
    hw_status told = wait_until(e, NULL, err);
    return told ? told : st;
}

hw_status hw_engine_wait_event(hw_engine *e, hw_event *m, hw_error *err) { return wait_until(e, m, err); }

/* Every rank's slice of a row is padded to the widest, so that one all-gather suffices. */
hw_status hw_engine_logits(hw_engine *e, const hw_batch *b, float *out, hw_error *err)
{
    const hw_shard *shard = &e->shard;
    size_t vocab = (size_t)e->model.vocab_size, width = hw_shard_widest(vocab, shard->n_ranks),
           n_local = hw_range_size(shard->vocab);
    hw_status st = hw_batch_check_logits(b, err);
    if (st) return st;
    float *mine = calloc(width, sizeof *mine), *all = calloc(width * (size_t)shard->n_ranks, sizeof *all);
    st = mine && all ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "logits: no memory for a row");
    hw_tag tag = {.site = HW_SITE_CONTROL};
    for (int i = 0; i < b->n_logits && !st; i++) {
        st = hw_engine_read(e, mine, e->buffers.logits + (size_t)i * n_local, n_local * sizeof(float), err);
        if (!st) st = hw_comm_all_gather(e->tensor, tag, mine, width * sizeof(float), all, err);
        for (int r = 0; r < shard->n_ranks && !st; r++) {
            hw_range v = hw_shard_granules(vocab, r, shard->n_ranks);
            memcpy(out + (size_t)i * vocab + v.begin, all + (size_t)r * width,
                   hw_range_size(v) * sizeof(float));
        }
    }
    free(mine);
    free(all);
    return st;
}

void hw_engine_cancel(hw_engine *e) { e->cancelled = true; }
