/* The parameters of a model: the rows of params.def, applied to a model and to what one rank holds of it. All functions
 * are Local. */
#ifndef HW_RUNTIME_WEIGHTS_PARAMS_H
#define HW_RUNTIME_WEIGHTS_PARAMS_H

#include "runtime/base/format.h"
#include "runtime/model.h"
#include "runtime/model_shard.h"

/* Sizes of a model that shapes are made of. */
typedef enum hw_dimension {
    HW_DIM_ONE,
    HW_DIM_HEAD_DIM,
    HW_DIM_DIM,
    HW_DIM_Q_DIM,  /* n_heads * head_dim    split by heads */
    HW_DIM_KV_DIM, /* n_kv_heads * head_dim split by heads, some of which several ranks have */
    HW_DIM_FFN,    /* ffn_dim               split by columns */
    HW_DIM_VOCAB,  /* vocab_size            split by rows */
    HW_DIM_POSITIONS,
} hw_dimension;

typedef enum hw_split {
    HW_REPLICATED, /* every rank has all of it */
    HW_SPLIT_OUT,  /* every rank has some of the outputs */
    HW_SPLIT_IN,   /* every rank has some of the inputs: products are partial */
} hw_split;

typedef enum hw_dummy_fill { HW_DUMMY_RANDOM, HW_DUMMY_ONES } hw_dummy_fill;

/* A row of params.def. Static. */
typedef struct hw_param_kind {
    hw_dimension n_out, n_in;
    hw_split split;
    bool per_layer;
    bool vector;  /* one input: float32 on the device; else a matrix */
    size_t field; /* its offset in hw_layer (per_layer) or hw_weights: a float * or an hw_weight * */
    hw_dummy_fill dummy;
} hw_param_kind;

const hw_param_kind *hw_param_kind_of(hw_role role);

/* One parameter as one rank holds it. Plain. */
typedef struct hw_param {
    hw_role role;
    const hw_param_kind *kind;
    int layer;        /* of the model; 0 where it belongs to none */
    hw_range out, in; /* this rank's, in indices of the whole parameter */
    const size_t *
        cuts; /* [HW_N_CUTS + 1] where split inputs fall (hw_weight_dims), borrowed from the shard; or NULL */
    size_t first_out,
        n_field_out;  /* where its outputs begin in the field, and how many all that share the field have */
    hw_format format; /* on the device */
} hw_param;

/* `matrices`: the format that matrices are kept in. The model is to have the role, the shard the layer. */
hw_param hw_param_of(const hw_model *m, const hw_shard *shard, hw_format matrices, hw_role role, int layer);

/* Bytes of this rank's part in some format; SIZE_MAX when that does not fit. */
size_t hw_param_size(const hw_param *p, hw_format format);

/* All parameters of a rank, one by one: first those of no layer, then layer by layer, each in the order of params.def.
 *
 *     hw_param p;
 *     for (hw_params list = hw_params_of(m, shard, matrices); hw_params_next(&list, &p);) ... */
typedef struct hw_params {
    const hw_model *m; /* borrowed, as the shard */
    const hw_shard *shard;
    hw_format matrices;
    int role, layer; /* to look at next; layer first_layer - 1 stands for none */
} hw_params;

hw_params hw_params_of(const hw_model *m, const hw_shard *shard, hw_format matrices);
bool hw_params_next(hw_params *list, hw_param *out);

/* Whether this model has such a parameter at all, and its sizes in the whole model. */
bool hw_model_has(const hw_model *m, hw_role role);
void hw_model_shape(const hw_model *m, hw_role role, size_t *n_out, size_t *n_in);

size_t hw_model_n_params(const hw_model *m); /* numbers; a tied table counts once */

#endif
