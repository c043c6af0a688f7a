/* This rank's weights on its device, and loading just what it holds of the model. */
#ifndef HW_RUNTIME_WEIGHTS_WEIGHTS_H
#define HW_RUNTIME_WEIGHTS_WEIGHTS_H

#include <stdint.h>

#include "kernels/kernels.h"
#include "parallel/comm.h"
#include "runtime/weights/checkpoint.h"
#include "runtime/weights/params.h"

/* Matrices are opaque to everything but the device; vectors are float32 on the device. What the model does not have is
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
    uint64_t n_step_bytes; /* what a decode step reads of them: matrices, but not tables for one row */
    uint64_t n_bytes_read; /* asked of the checkpoint by this rank */
    uint64_t n_bytes_sent; /* of it, to other ranks */
} hw_weights;

/* A layer by its number in the model. */
static inline hw_layer *hw_weights_layer(const hw_weights *w, int layer)
{
    return &w->layers[layer - w->first_layer];
}

/* Told now and then while weights are loaded, on every rank. */
typedef void (*hw_progress)(void *user, uint64_t done_bytes, uint64_t total_bytes);

typedef struct hw_load_options {
    hw_format format; /* of matrices on the device */
    bool dummy;       /* seeded random numbers, the same for any number of ranks, instead of a checkpoint */
    uint64_t dummy_seed;
    hw_comm *comm;        /* NULL: this rank reads its own part. Else rank 0 sends it (scatter.h) */
    hw_progress progress; /* may be NULL */
    void *progress_user;
} hw_load_options;

/* Local. The type that matrices will be kept in: `wanted`, or as stored where that is HW_DTYPE_NONE. `c` NULL: as
 * config.json says. */
hw_dtype hw_weights_dtype(const hw_model *m, const hw_checkpoint *c, hw_dtype wanted);

/* Local. Bytes of this rank's weights, without the device's padding, UINT64_MAX when that does not fit: for
 * refusing what cannot be held before anything is read. */
uint64_t hw_weights_estimate(const hw_model *m, const hw_shard *shard, hw_format format);

/* Local. Room for this rank's weights, all zero. On HW_OK the caller owns *out (hw_weights_destroy). Errors:
 * HW_ERR_NO_MEMORY, HW_ERR_DEVICE, HW_ERR_UNSUPPORTED (a format that the device does not have). */
hw_status hw_weights_create(hw_weights **out, hw_device *device, const hw_model *m, const hw_shard *shard,
                            hw_format format, hw_error *err);
void hw_weights_destroy(hw_weights *w); /* NULL is fine */

/* Local. The field that a parameter goes to: a float ** where kind->vector, else an hw_weight **. */
void *hw_weights_field(hw_weights *w, const hw_param_kind *kind, int layer);

/* Local. Room, then this rank's part of a checkpoint in it. Checks every tensor's name and shape first (missing, extra and
 * misshapen ones are refused by name), then reads this rank's part and nothing else, in bounded pieces. `c` is NULL when
 * options->dummy. With options->comm Collective, for the same format on all ranks: `c` is rank 0's, and NULL on the others;
 * after an error rank 0 can have another status than the others, who then know no more than that it stopped. On HW_OK the
 * caller owns *out (hw_weights_destroy). Errors: HW_ERR_MODEL, and as hw_weights_create. */
hw_status hw_weights_load(hw_weights **out, hw_device *device, const hw_model *m, const hw_shard *shard,
                          hw_checkpoint *c, const hw_load_options *options, hw_error *err);

#endif
