/* This rank's weights on its device: which part of the model it holds, and loading just that part. */
#ifndef HW_RUNTIME_WEIGHTS_H
#define HW_RUNTIME_WEIGHTS_H

#include <stdint.h>

#include "kernels/kernels.h"
#include "parallel/comm.h"
#include "parallel/shard.h"
#include "runtime/checkpoint.h"
#include "runtime/model.h"

/* What this rank holds of the model. Plain. */
typedef struct hw_shard {
    int rank, n_ranks;
    int n_sharing;  /* ranks that add in shared memory (hw_comm_n_sharing); set by who knows, 1 until then */
    hw_heads heads; /* local counts, first global indices, the model's group size */
    hw_range ffn;   /* MLP columns */
    hw_range vocab; /* rows of the embedding and of the head */
    size_t head_cuts[HW_N_CUTS + 1],
        ffn_cuts[HW_N_CUTS + 1]; /* where wo's and w_down's inputs fall, see hw_weight_dims */
} hw_shard;

/* Local. Errors: HW_ERR_INVALID when there are more ranks than heads. */
hw_status hw_shard_create(hw_shard *out, const hw_model *m, int rank, int n_ranks, hw_error *err);

/* Local. This rank's outputs and inputs of a role, in indices of the whole model. */
void hw_shard_range(const hw_model *m, const hw_shard *shard, hw_role role, hw_range *out, hw_range *in);

/* Matrices are opaque to everything but the device; vectors are float32 on the device. Absent parts are
 * NULL. */
typedef struct hw_layer {
    float *attn_norm, *attn_norm_bias, *mlp_norm, *mlp_norm_bias; /* [dim] replicated */
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
    hw_device *device; /* borrowed */
    int n_layers;
    hw_layer *layers;
    hw_weight *embed;     /* [n_local_vocab, dim] */
    hw_weight *head;      /* the same object as embed when tied */
    hw_weight *positions; /* [max_seq_len, dim] replicated, or NULL */
    float *final_norm, *final_norm_bias;
    uint64_t n_bytes;      /* on the device */
    uint64_t n_bytes_read; /* asked of the checkpoint by this rank */
    uint64_t n_bytes_sent; /* of it, to other ranks */
} hw_weights;

/* Told now and then while weights are loaded, on every rank. */
typedef void (*hw_progress)(void *user, uint64_t done_bytes, uint64_t total_bytes);

typedef struct hw_load_options {
    hw_dtype dtype; /* of matrices on the device; HW_DTYPE_NONE: as stored (dummy: as config.json says) */
    bool dummy;     /* seeded random numbers, the same for any number of ranks, instead of a checkpoint */
    uint64_t dummy_seed;
    hw_comm *comm;        /* NULL: this rank reads its own part. Else rank 0 sends it (scatter.h) */
    hw_progress progress; /* may be NULL */
    void *progress_user;
} hw_load_options;

/* Local. The type that matrices will be kept in. `c` NULL for dummy. */
hw_dtype hw_weights_dtype(const hw_model *m, const hw_checkpoint *c, hw_dtype wanted);

/* Local. Bytes of this rank's weights, without the device's padding, UINT64_MAX when that does not fit: for
 * refusing what cannot be held before anything is read. */
uint64_t hw_weights_estimate(const hw_model *m, const hw_shard *shard, hw_dtype dtype);

/* Local. Checks every tensor's name and shape first (missing, extra and misshapen ones are refused by name),
 * then reads this rank's part and nothing else, in bounded pieces. `c` is NULL when options->dummy. With
 * options->comm Collective, for the same dtype on all ranks: `c` is rank 0's, and NULL on the others; after an error
 * rank 0 can have another status than the others, who then know no more than that it stopped. On HW_OK the caller
 * owns *out (hw_weights_destroy). Errors: HW_ERR_MODEL, HW_ERR_NO_MEMORY, HW_ERR_DEVICE. */
hw_status hw_weights_load(hw_weights **out, hw_device *device, const hw_model *m, const hw_shard *shard,
                          hw_checkpoint *c, const hw_load_options *options, hw_error *err);
void hw_weights_destroy(hw_weights *w); /* NULL is fine */

#endif
