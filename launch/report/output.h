/* Standard output with error checks: a full disk or a closed pipe is reported. Only rank 0 writes. All functions are
 * Local. */
#ifndef HW_LAUNCH_REPORT_OUTPUT_H
#define HW_LAUNCH_REPORT_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/base/status.h"

/* Writes and flushes. Errors: HW_ERR_FAILED. `name`: of the stream, for messages. */
hw_status hw_write(FILE *f, const char *name, const void *bytes, size_t n, hw_error *err);
hw_status hw_print(hw_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints the document, indented, with a newline, and releases the reference. NULL means out of memory. */
hw_status hw_print_json(json_t *document, hw_error *err);

/* Bytes in readable form: "3.2 MB" (powers of ten), into `text` [16]. Returns `text`. */
char *hw_format_bytes(char text[16], double n_bytes);
char *hw_format_count(char text[16], double n); /* "3.2 M" */

/* A progress function for loading (hw_engine_options.progress): a bar on a terminal, elsewhere a line every
 * twenty seconds; nothing if `quiet`.
 * `user`: hw_load_progress. */
typedef struct hw_load_progress {
    int enabled, terminal;
    uint64_t shown_at_ns;
} hw_load_progress;
hw_load_progress hw_load_progress_start(int rank, bool quiet);
void hw_load_progress_show(void *user, uint64_t done_bytes, uint64_t total_bytes);
void hw_load_progress_end(hw_load_progress *p);

#endif
