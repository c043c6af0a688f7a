/* Stop strings: text is passed on as soon as it can no longer be the beginning of one. All functions are Local. */
#ifndef HW_RUNTIME_STOP_H
#define HW_RUNTIME_STOP_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"

typedef struct hw_stop hw_stop;

/* `strings` [n] are copied. On HW_OK the caller owns *out (hw_stop_destroy). Errors: HW_ERR_INVALID for one
 * that is empty or not UTF-8 (the text before it would end in half a character), HW_ERR_NO_MEMORY. */
hw_status hw_stop_create(hw_stop **out, const char *const *strings, int n, hw_error *err);
void hw_stop_destroy(hw_stop *s); /* NULL is fine */

/* Takes new text, and returns in *out the text that is certain to precede any stop string (borrowed until the next
 * call). Sets *stopped when a stop string is complete: the one that ends first, and of several that end together the
 * longest. Then all text before it has been returned, and no more is accepted. The result does not depend on how the
 * text is cut into pieces. */
hw_status hw_stop_push(hw_stop *s, const char *text, size_t n, const char **out, size_t *n_out, bool *stopped,
                       hw_error *err);

/* Returns the text held back, when the input ends without a stop string. */
void hw_stop_finish(hw_stop *s, const char **out, size_t *n_out);

#endif
