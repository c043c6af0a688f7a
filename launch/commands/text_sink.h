/* The destination of a request's text: standard output on rank 0, or memory. All functions are Local. */
#ifndef HW_LAUNCH_COMMANDS_TEXT_SINK_H
#define HW_LAUNCH_COMMANDS_TEXT_SINK_H

#include "runtime/base/status.h"

#include <stdbool.h>
#include <stddef.h>

/* Plain; set rank and keep. */
typedef struct hw_text_sink {
    int rank; /* ranks other than 0 discard the text */
    bool keep;
    char *text; /* [n], where it is kept; NULL: nothing came */
    size_t n, capacity;
} hw_text_sink;

/* hw_generate_options.on_text; `user` is the sink. Errors: HW_ERR_FAILED, HW_ERR_NO_MEMORY. */
hw_status hw_text_sink_take(void *user, const char *text, size_t n, hw_error *err);
void hw_text_sink_free(hw_text_sink *s);

#endif
