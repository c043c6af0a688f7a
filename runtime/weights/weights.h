/* This rank's weights on its device, and how they are loaded. */
#ifndef HW_RUNTIME_WEIGHTS_WEIGHTS_H
#define HW_RUNTIME_WEIGHTS_WEIGHTS_H

#include <stdint.h>

#include "kernels/kernels.h"
#include "parallel/comm.h"
#include "runtime/weights/checkpoint.h"
#include "runtime/weights/params.h"

/* Matrices are opaque except to the device; vectors are float32 on the device. Fields that the model does not have are
 * NULL. params.def says which parameters go into which field. */
typedef struct hw_layer {
    float *attn_norm, *attn_norm_bias, *mlp_norm, *mlp_norm_bias; /* [dim] replicated */
    float *attn_post_norm, *mlp_post_norm;                        /* [dim] replicated: after the block */
    float *q_norm, *k_norm;                                       /* [head_dim] replicated */
    hw_weight *wqkv; /* [(n_local_heads + 2 n_local_kv_heads) * head_dim, dim]: q, k, v, split by outputs */
    float *bqkv;
    hw_weight *wo;   /* [dim, n_local_heads * head_dim], split by inputs */
    float *bo;       /* [dim] replicated */
    hw_weight *w_up; /* [2 * local_ffn_dim, dim]: gate, up; or [local_ffn_dim, dim] without a gate */
    float *b_up;
    hw_weight *w_down; /* [dim, local_ffn_dim], split by inputs */
    float *b_down;     /* [dim] replicated */
} hw_layer;

typedef struct hw_weights {
    hw_device *device;          /* borrowed */
    int first_layer, end_layer; /* of the model */
    hw_layer *layers;           /* [end_layer - first_layer] */
    hw_weight *embed;           /* [n_local_vocab, dim] */
    hw_weight *head;            /* the same object as embed when tied */
    hw_weight *positions;       /* [max_seq_len, dim] replicated, or NULL */
    float *final_norm, *final_norm_bias;
    uint64_t n_bytes;      /* on the device */
    uint64_t n_step_bytes; /* read by a decode step: matrices, but not tables of which it reads one row */
    uint64_t n_bytes_read; /* requested from the checkpoint by this rank */
    uint64_t n_bytes_sent; /* of these, sent to other ranks */
} hw_weights;

/* A layer by its number in the model. */
static inline hw_layer *hw_weights_layer(const hw_weights *w, int layer)
{
    return &w->layers[layer - w->first_layer];
}

/* Called from time to time while weights are loaded, on every rank. */
typedef void (*hw_progress)(void *user, uint64_t done_bytes, uint64_t total_bytes);

typedef struct hw_load_options {
    hw_format format; /* of matrices on the device */
    bool dummy;       /* seeded random numbers, the same for any number of ranks, instead of a checkpoint */
    uint64_t dummy_seed;
    hw_comm *comm;        /* NULL: this rank reads its own shard. Else rank 0 sends it (scatter.h) */
    hw_progress progress; /* may be NULL */
    void *progress_user;
} hw_load_options;

/* Local. The type of matrices on the device: `wanted`, or as stored if that is HW_DTYPE_NONE. `c` NULL: the type in
 * config.json. */
hw_dtype hw_weights_dtype(const hw_model *m, const hw_checkpoint *c, hw_dtype wanted);

/* Local. Bytes of this rank's weights, without the device's padding, UINT64_MAX when that does not fit: to refuse a
 * model that is too large before anything is read. */
uint64_t hw_weights_estimate(const hw_model *m, const hw_shard *shard, hw_format format);

/* Local. Allocates this rank's weights, all zero. On HW_OK the caller owns *out (hw_weights_destroy). Errors:
 * HW_ERR_NO_MEMORY, HW_ERR_DEVICE, HW_ERR_UNSUPPORTED (a format that the device does not have). */
hw_status hw_weights_create(hw_weights **out, hw_device *device, const hw_model *m, const hw_shard *shard,
                            hw_format format, hw_error *err);
void hw_weights_destroy(hw_weights *w); /* NULL is fine */

/* Local. The field of a parameter: a float ** if kind->vector, else an hw_weight **. */
void *hw_weights_field(hw_weights *w, const hw_param_kind *kind, int layer);

/* Local. Allocates this rank's weights and loads its shard of a checkpoint. First checks every tensor's name and shape
 * (missing, extra and misshapen ones are refused by name), then reads only this rank's shard, in bounded pieces. `c` is
 * NULL with options->dummy. With options->comm it is Collective, with the same format on all ranks, and `c` is NULL
 * except on rank 0; when rank 0 fails, the others get HW_ERR_FAILED without the cause. On HW_OK the caller owns *out
 * (hw_weights_destroy). Errors: HW_ERR_MODEL, and as hw_weights_create. */
hw_status hw_weights_load(hw_weights **out, hw_device *device, const hw_model *m, const hw_shard *shard,
                          hw_checkpoint *c, const hw_load_options *options, hw_error *err);

#endif
