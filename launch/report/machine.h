/* The machine that a figure was measured on. All functions are Local. */
#ifndef HW_LAUNCH_REPORT_MACHINE_H
#define HW_LAUNCH_REPORT_MACHINE_H

#include <stdint.h>

/* Plain. */
typedef struct hw_processor {
    char cpu[96];          /* what the processor says of itself (CPUID), and its family and model */
    char instructions[96]; /* of the sets that matter here, those it has: "avx2 fma f16c avx512f ..." */
    int n_cores;           /* online; several of them may share one */
    int n_usable;          /* that this process may use */
    uint64_t memory_bytes, last_cache_bytes; /* 0: not known */
} hw_processor;

hw_processor hw_processor_describe(void);

/* The commit that this program was built from, with "-dirty" when files differed; "unknown" outside of git. */
const char *hw_build_commit(void);

/* Says so on standard error where files differed: nobody can build that program again to measure what it has. */
void hw_build_warn_if_changed(void);

#endif
