/* The shard of a model that a rank holds. All functions are Local. */
#ifndef HW_RUNTIME_MODEL_SHARD_H
#define HW_RUNTIME_MODEL_SHARD_H

#include "kernels/kernels.h"
#include "parallel/shard.h"
#include "runtime/model.h"

/* Plain. */
typedef struct hw_shard {
    int rank, n_ranks; /* among the ranks that share every layer of the range */
    int first_layer,
        end_layer;  /* layers [first_layer, end_layer) of the model; weights outside layers are always held */
    int n_sharing;  /* ranks that add in shared memory (hw_comm_n_sharing); 1 until the caller sets it */
    hw_heads heads; /* local counts, first global indices, the model's group size */
    hw_range ffn;   /* MLP columns */
    hw_range vocab; /* rows of the embedding and of the head */
    size_t head_cuts[HW_N_CUTS + 1],
        ffn_cuts[HW_N_CUTS + 1]; /* cuts of the inputs of wo and w_down, see hw_weight_dims */
} hw_shard;

/* This rank's shard of all layers. Errors: HW_ERR_INVALID when there are more ranks than heads. */
hw_status hw_shard_create(hw_shard *out, const hw_model *m, int rank, int n_ranks, hw_error *err);

/* The shard of a single rank: the whole model. */
hw_shard hw_shard_whole(const hw_model *m);

static inline int hw_shard_n_layers(const hw_shard *s) { return s->end_layer - s->first_layer; }

#endif
