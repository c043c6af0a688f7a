/* The parameters of a model: the rows of params.def, applied to a model and a rank's shard. All functions are Local. */
#ifndef HW_RUNTIME_WEIGHTS_PARAMS_H
#define HW_RUNTIME_WEIGHTS_PARAMS_H

#include "runtime/base/format.h"
#include "runtime/model.h"
#include "runtime/model_shard.h"

/* The model dimensions used in shapes of parameters. */
typedef enum hw_dimension {
    HW_DIM_ONE,
    HW_DIM_HEAD_DIM,
    HW_DIM_DIM,
    HW_DIM_Q_DIM,  /* n_heads * head_dim    split by heads */
    HW_DIM_KV_DIM, /* n_kv_heads * head_dim split by heads, some of them replicated */
    HW_DIM_FFN,    /* ffn_dim               split by columns */
    HW_DIM_VOCAB,  /* vocab_size            split by rows */
    HW_DIM_POSITIONS,
} hw_dimension;

typedef enum hw_split {
    HW_REPLICATED, /* the whole parameter on every rank */
    HW_SPLIT_OUT,  /* each rank has some of the outputs */
    HW_SPLIT_IN,   /* each rank has some of the inputs: products are partial */
} hw_split;

typedef enum hw_dummy_fill { HW_DUMMY_RANDOM, HW_DUMMY_ONES } hw_dummy_fill;

/* A row of params.def. Static. */
typedef struct hw_param_kind {
    hw_dimension n_out, n_in;
    hw_split split;
    bool per_layer;
    bool vector;  /* one input: float32 on the device; else a matrix */
    size_t field; /* offset in hw_layer (per_layer) or hw_weights of a float * or an hw_weight * */
    hw_dummy_fill dummy;
} hw_param_kind;

const hw_param_kind *hw_param_kind_of(hw_role role);

/* One parameter as one rank holds it. Plain. */
typedef struct hw_param {
    hw_role role;
    const hw_param_kind *kind;
    int layer;        /* of the model; 0 if it belongs to no layer */
    hw_range out, in; /* this rank's, in indices of the whole parameter */
    const size_t
        *cuts; /* [HW_N_CUTS + 1] cuts of split inputs (hw_weight_dims), borrowed from the shard; or NULL */
    size_t first_out,
        n_field_out;  /* its first output within the field, and the number of outputs of the whole field */
    hw_format format; /* on the device */
} hw_param;

/* `matrices`: the format of matrices. The model must have the role, and the shard the layer. */
hw_param hw_param_of(const hw_model *m, const hw_shard *shard, hw_format matrices, hw_role role, int layer);

/* Bytes of this rank's shard of the parameter in a format; SIZE_MAX when that does not fit. */
size_t hw_param_size(const hw_param *p, hw_format format);

/* Iterates over all parameters of a rank: first those outside layers, then layer by layer, in the order of params.def.
 *
 *     hw_param p;
 *     for (hw_params list = hw_params_of(m, shard, matrices); hw_params_next(&list, &p);) ... */
typedef struct hw_params {
    const hw_model *m; /* borrowed, as the shard */
    const hw_shard *shard;
    hw_format matrices;
    int role, layer; /* the next to consider; layer first_layer - 1 means outside layers */
} hw_params;

hw_params hw_params_of(const hw_model *m, const hw_shard *shard, hw_format matrices);
bool hw_params_next(hw_params *list, hw_param *out);

/* Whether this model has parameters of a role (of a layer's role: in this layer), and their shape in the whole model. */
bool hw_model_has(const hw_model *m, hw_role role, int layer);
void hw_model_shape(const hw_model *m, hw_role role, size_t *n_out, size_t *n_in);

size_t hw_model_n_params(const hw_model *m); /* numbers; a tied table counts once */

#endif
