/* What an engine takes on one rank: one arithmetic for the engine, which allocates it, and for the plan,
 * which only says it. All functions are Local and pure. */
#ifndef HW_RUNTIME_SIZES_H
#define HW_RUNTIME_SIZES_H

#include "runtime/engine.h"
#include "runtime/kv/cache.h"
#include "runtime/model.h"
#include "runtime/weights/weights.h"

/* Completes options with what follows from the model and from each other. Errors: HW_ERR_INVALID naming the
 * option. */
hw_status hw_options_settle(hw_engine_options *o, const hw_model *m, hw_error *err);

/* Gives weights and cache the type of `dtype`, which is known by now, where they have none of their own. */
void hw_options_settle_types(hw_engine_options *o);

/* The type of activations that a device is made for: what was asked for, or what `dtype` implies. */
hw_dtype hw_options_act_dtype(const hw_engine_options *o);

/* The types of activations and messages become those of the device. Errors: HW_ERR_UNSUPPORTED when others were asked for, or
 * weights of a type that the device does not keep. */
hw_status hw_options_settle_device_types(hw_engine_options *o, hw_device *d, hw_error *err);

/* Everything below wants settled options whose types are known. */

hw_kv_shape hw_options_kv_shape(const hw_engine_options *o);

/* The cache that is asked for: kv_bytes of it (no blocks where that is less than one), or room for max_seqs
 * full sequences. The engine's can be smaller, see kv_capacity.h. */
hw_kv_dims hw_options_kv_dims(const hw_engine_options *o, const hw_model *m, const hw_shard *shard);

/* Memory of a step, made once for the largest one; shapes are in hw_buffers (engine_state.h), in this
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
 * UINT64_MAX when that does not fit. reserve: on a device with memory of its own, what graphs and the
 * communicator are going to take of it, which is not known beforehand; else 0. */
typedef struct hw_rank_memory {
    uint64_t weights, kv, buffers, reserve, total;
} hw_rank_memory;

/* An allowance and no measured figure: a graph has some kilobytes for each kernel, a communicator some
 * megabytes for each channel and partner. */
enum { HW_DEVICE_RESERVE_BYTES = 256 << 20 };

hw_rank_memory hw_rank_memory_of(const hw_engine_options *o, const hw_model *m, const hw_shard *shard,
                                 const hw_device *d);

#endif
