/* Maps the parameters of a model to tensors of a checkpoint. All functions are Local. */
#ifndef HW_RUNTIME_WEIGHTS_TENSOR_NAMES_H
#define HW_RUNTIME_WEIGHTS_TENSOR_NAMES_H

#include "runtime/weights/checkpoint.h"
#include "runtime/weights/params.h"

enum { HW_MAX_TENSOR_NAME = 256 };

/* The place of a parameter in the checkpoint. `tensor` is [rows, columns] as stored; a vector has one column. The
 * parameter's outputs begin at `first_out` of the tensor's outputs, which are its rows, or its columns if it is
 * transposed. */
typedef struct hw_tensor_place {
    hw_tensor tensor;
    size_t rows, columns;
    size_t first_out;
    bool transposed;
} hw_tensor_place;

/* The name of a parameter's tensor, without the model's prefix. */
void hw_tensor_name(char name[HW_MAX_TENSOR_NAME], const hw_model *m, const hw_param *p);

/* The place of a parameter within its tensor, and the tensor's shape; .tensor is left empty. */
void hw_tensor_expect(hw_tensor_place *out, const hw_model *m, const hw_param *p);

/* Finds a parameter's tensor and checks its shape and type. Errors: HW_ERR_MODEL (missing, wrong shape, wrong
 * type). */
hw_status hw_tensor_locate(hw_tensor_place *out, const hw_model *m, const hw_checkpoint *c, const hw_param *p,
                           hw_error *err);

/* The tensor of a role that no layer has, or .info NULL. */
hw_tensor hw_tensor_of_role(const hw_model *m, const hw_checkpoint *c, hw_role role);

/* Checks that the checkpoint has every tensor of the model, with the right shape and type, and no other: ignoring a
 * tensor would change the model. Errors: HW_ERR_MODEL naming the tensor. */
hw_status hw_tensor_check_all(const hw_model *m, const hw_checkpoint *c, hw_error *err);

#endif
