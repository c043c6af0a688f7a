/* The storage format of a weight, and its size. All code that sizes a weight uses hw_format_size: today a format is
 * the type of one number, and formats whose numbers share a scale per group would change this file and no caller. */
#ifndef HW_RUNTIME_BASE_FORMAT_H
#define HW_RUNTIME_BASE_FORMAT_H

#include "runtime/base/checked.h"
#include "runtime/base/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Plain. */
typedef struct hw_format {
    hw_dtype type; /* of each number */
} hw_format;

/* Local. Unscaled numbers of this type. */
static inline hw_format hw_format_plain(hw_dtype type)
{
    hw_format f = {type};
    return f;
}

/* Local. Bytes of [n_out, n_in] numbers, without a device's padding; SIZE_MAX when that does not fit. */
static inline size_t hw_format_size(hw_format format, size_t n_out, size_t n_in)
{
    const size_t factors[] = {n_out, n_in, hw_dtype_size(format.type)};
    return hw_size_product(factors, 3);
}

#ifdef __cplusplus
}
#endif
#endif
