/* Reports the devices of all ranks, once, on rank 0. */
#ifndef HW_LAUNCH_REPORT_DEVICES_H
#define HW_LAUNCH_REPORT_DEVICES_H

#include <stdbool.h>

#include "runtime/engine.h"

/* Of all ranks. Plain. */
typedef struct hw_paths_text {
    char text[128]; /* "amx"; if ranks differ, each path once, in the order of ranks: "amx, avx2" */
} hw_paths_text;

/* Collective. The paths of all ranks, for reports. Unless `silent`, rank 0 writes to standard error one line for each
 * distinct warning of a device (hw_device_warning) and, if `verbose`, the path of each host's ranks, why it is not a
 * better one, and the arithmetic. `asked`: the requested arithmetic. Errors: HW_ERR_NO_MEMORY, those of the
 * communicator. */
hw_status hw_devices_tell(hw_paths_text *out, hw_engine *e, hw_matmul asked, bool silent, bool verbose,
                          hw_error *err);

#endif
