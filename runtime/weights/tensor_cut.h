/* The rectangle of a stored tensor that one rank holds, moved in pieces of whole rows. All functions are Local. */
#ifndef HW_RUNTIME_WEIGHTS_TENSOR_CUT_H
#define HW_RUNTIME_WEIGHTS_TENSOR_CUT_H

#include "runtime/weights/tensor_names.h"

/* In indices of the tensor as stored. Plain. */
typedef struct hw_tensor_cut {
    hw_range rows, columns;
    size_t row_bytes; /* of the columns alone */
} hw_tensor_cut;

/* The rectangle of the rank for which `p` was made. */
hw_tensor_cut hw_tensor_cut_of(const hw_tensor_place *place, const hw_param *p);

/* How many of its rows fit into `room` bytes. 0: the rectangle is empty. Errors: HW_ERR_MODEL if not even one fits. */
hw_status hw_tensor_cut_rows(size_t *out, const hw_tensor_cut *cut, const hw_tensor_place *p, size_t room,
                             hw_error *err);

/* Reads rows [first, first + n) of the rectangle into dst [n, row_bytes]. Errors as hw_checkpoint_read. */
hw_status hw_tensor_cut_read(const hw_tensor_cut *cut, const hw_tensor_place *p, hw_checkpoint *c,
                             size_t first, size_t n, void *dst, hw_error *err);

#endif
