/* Prints a plan: tables for users, JSON for programs. All functions are Local. */
#ifndef HW_LAUNCH_REPORT_PLAN_H
#define HW_LAUNCH_REPORT_PLAN_H

#include <jansson.h>

#include "runtime/plan.h"

/* Plans [n] of one model with their common inputs. Plain. */
typedef struct hw_plan_report {
    const hw_model *model;
    const hw_engine_options *options; /* settled */
    const hw_device *device;
    hw_plan_limits limits;
    const hw_plan *plans;
    int n;
} hw_plan_report;

/* Errors: HW_ERR_FAILED (standard output), HW_ERR_NO_MEMORY. */
hw_status hw_plan_print(const hw_plan_report *r, hw_error *err);

/* The same with exact figures, and each rank separately; NULL: out of memory. */
json_t *hw_plan_json(const hw_plan_report *r);

/* Bytes in powers of two: "64 GiB". Returns `text` [16]. */
char *hw_format_memory(char text[16], double n_bytes);

#endif
