/* Describes the machine and the build for measured figures. All functions are Local. */
#ifndef HW_LAUNCH_REPORT_MACHINE_H
#define HW_LAUNCH_REPORT_MACHINE_H

#include <stdint.h>

/* Plain. */
typedef struct hw_processor {
    char cpu[96];          /* name from CPUID, with family and model */
    char instructions[96]; /* relevant instruction sets that it has: "avx2 fma f16c avx512f ..." */
    int n_cores;           /* logical processors online */
    int n_usable;          /* of these, usable by this process */
    uint64_t memory_bytes, last_cache_bytes; /* 0: unknown */
} hw_processor;

hw_processor hw_processor_describe(void);

/* The commit of this build, with "-dirty" if files differed from it; "unknown" outside of git. */
const char *hw_build_commit(void);

/* Warns on standard error if files differed, because such a build cannot be reproduced. */
void hw_build_warn_if_changed(void);

#endif
