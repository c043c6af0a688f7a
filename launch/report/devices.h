/* What the ranks compute with, told once by rank 0. */
#ifndef HW_LAUNCH_REPORT_DEVICES_H
#define HW_LAUNCH_REPORT_DEVICES_H

#include <stdbool.h>

#include "runtime/engine.h"

/* Of all ranks. Plain. */
typedef struct hw_paths_text {
    char text[128]; /* "amx"; where ranks differ each once, in the order of ranks: "amx, avx2" */
} hw_paths_text;

/* Collective. The paths of all ranks, for reports. Rank 0 writes to standard error, unless `silent`, a line for each warning of a device
 * (hw_device_warning), whatever the number of ranks that have it, and, where `verbose`, what each host's ranks compute
 * with, why it is not a better path, and in which arithmetic. `asked`: the arithmetic that was asked for. Errors:
 * HW_ERR_NO_MEMORY, those of the communicator. */
hw_status hw_devices_tell(hw_paths_text *out, hw_engine *e, hw_matmul asked, bool silent, bool verbose,
                          hw_error *err);

#endif
