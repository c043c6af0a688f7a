/* Prints the results of `headway selftest`, as text or JSON. */
#ifndef HW_LAUNCH_REPORT_SELFTEST_H
#define HW_LAUNCH_REPORT_SELFTEST_H

#include "kernels/selftest/selftest.h"
#include "launch/report/machine.h"

enum { HW_SELFTEST_MAX_PATHS = 8, HW_SELFTEST_MAX_LINES = 512 };

typedef struct hw_selftest_found {
    const char *model; /* the folder; NULL: the demo model's sizes */
    hw_selftest_shapes shapes;
    uint64_t seed;
    hw_processor host;
    hw_selftest_path paths[HW_SELFTEST_MAX_PATHS];
    hw_selftest_limits limits[HW_SELFTEST_MAX_PATHS];
    char names[HW_SELFTEST_MAX_PATHS][96];
    int n_paths;
    char left_out[HW_SELFTEST_MAX_PATHS]
                 [512]; /* paths that this machine lacks, or that fail their test, and why */
    int n_left_out;
    const char *refused;                           /* the first of them that fails its test; NULL: none */
    hw_selftest_line lines[HW_SELFTEST_MAX_LINES]; /* `path` is the index in `paths` */
    int n_lines, n_wrong;
    double seconds;
} hw_selftest_found;

/* Local. Errors: HW_ERR_FAILED, HW_ERR_NO_MEMORY. */
hw_status hw_selftest_print(const hw_selftest_found *f, hw_error *err);
hw_status hw_selftest_print_json(const hw_selftest_found *f, hw_error *err);

#endif
