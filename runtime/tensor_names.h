/* Which tensor of a checkpoint is which part of a model. All functions are Local. */
#ifndef HW_RUNTIME_TENSOR_NAMES_H
#define HW_RUNTIME_TENSOR_NAMES_H

#include "runtime/checkpoint.h"
#include "runtime/model.h"

/* Where a role's numbers lie in the checkpoint. `tensor` is [rows, columns] as stored; a vector has one
 * column. The role's outputs begin at `first_out` of the tensor's outputs, which are its rows, or its columns
 * when it is transposed. */
typedef struct hw_tensor_place {
    hw_tensor tensor;
    size_t rows, columns;
    size_t first_out;
    bool transposed;
} hw_tensor_place;

/* Where a rule's numbers lie in a tensor, and of which shape it is; .tensor is left empty. */
void hw_tensor_expect(hw_tensor_place *out, const hw_model *m, const hw_tensor_rule *rule);

/* Finds a rule's tensor for one layer and checks its shape and type. Errors: HW_ERR_MODEL (missing, wrong
 * shape, wrong type). */
hw_status hw_tensor_locate(hw_tensor_place *out, const hw_model *m, const hw_checkpoint *c,
                           const hw_tensor_rule *rule, int layer, hw_error *err);

/* Refuses tensors that no rule of this model asks for: one that is skipped would make it another model. */
hw_status hw_tensor_check_extra(const hw_model *m, const hw_checkpoint *c, hw_error *err);

/* Whether a rule names one tensor per layer. */
bool hw_tensor_per_layer(const hw_tensor_rule *rule);

#endif
