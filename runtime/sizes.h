/* The memory of an engine on one rank. The engine, which allocates it, and the plan, which predicts it, use the same
 * functions. All functions are Local and pure. */
#ifndef HW_RUNTIME_SIZES_H
#define HW_RUNTIME_SIZES_H

#include "runtime/engine.h"
#include "runtime/kv/cache.h"
#include "runtime/model.h"
#include "runtime/weights/weights.h"

/* Fills in options that follow from the model and from other options. Errors: HW_ERR_INVALID naming the option. */
hw_status hw_options_settle(hw_engine_options *o, const hw_model *m, hw_error *err);

/* Sets the types of weights and cache to `dtype`, which must be known, unless they were set. */
void hw_options_settle_types(hw_engine_options *o);

/* The type of activations to create a device for: the one that was set, or what `dtype` implies. */
hw_dtype hw_options_act_dtype(const hw_engine_options *o);

/* Sets the types of activations and messages to those of the device. Errors: HW_ERR_UNSUPPORTED when other types were
 * set, or a type of weights that the device does not support. */
hw_status hw_options_settle_device_types(hw_engine_options *o, hw_device *d, hw_error *err);

/* The functions below require settled options whose types are known. */

hw_kv_shape hw_options_kv_shape(const hw_engine_options *o);

/* The requested cache: kv_bytes (no blocks if that is less than one), or room for max_seqs full sequences. The
 * engine's can be smaller, see kv/capacity.h. */
hw_kv_dims hw_options_kv_dims(const hw_engine_options *o, const hw_model *m, const hw_shard *shard);

/* Buffers of a step, allocated once for the largest step; hw_buffers (engine_state.h) has the shapes, in this
 * order. */
enum {
    HW_BUFFER_X,
    HW_BUFFER_NORMED,
    HW_BUFFER_QKV,
    HW_BUFFER_ATTN,
    HW_BUFFER_Y,
    HW_BUFFER_UP,
    HW_BUFFER_ACT,
    HW_BUFFER_ANGLES,
    HW_BUFFER_LOGITS,
    HW_BUFFER_SCRATCH,
    HW_BUFFER_TOKENS,
    HW_BUFFER_POSITIONS,
    HW_BUFFER_SEQS,
    HW_BUFFER_LOGIT_ROWS,
    HW_BUFFER_BLOCK_TABLES,
    HW_BUFFER_KEYS,
    HW_BUFFER_DRAWS,
    HW_N_BUFFERS
};

/* Bytes of each buffer on this device, into sizes [HW_N_BUFFERS]; returns their sum, SIZE_MAX when it does
 * not fit. */
size_t hw_buffer_sizes(size_t *sizes, const hw_engine_options *o, const hw_model *m, const hw_shard *shard,
                       const hw_device *d);

/* Bytes of one rank: weights (without the device's padding), cache, buffers, and their sum with `reserve`;
 * UINT64_MAX when that does not fit. reserve: an allowance for graphs and the communicator on a device with its
 * own memory; else 0. */
typedef struct hw_rank_memory {
    uint64_t weights, kv, buffers, reserve, total;
} hw_rank_memory;

/* An estimate, not measured: a graph takes some kilobytes per kernel, a communicator some megabytes per channel and
 * peer. */
enum { HW_DEVICE_RESERVE_BYTES = 256 << 20 };

hw_rank_memory hw_rank_memory_of(const hw_engine_options *o, const hw_model *m, const hw_shard *shard,
                                 const hw_device *d);

#endif
