/* The paths of a CPU device: a table of ops for an instruction set, with or without bfloat16 units. All give the same bits;
 * device.c takes the first that this processor has, that the kernel allows, and that passes its test (prove.h). */
#ifndef HW_KERNELS_CPU_PATHS_H
#define HW_KERNELS_CPU_PATHS_H

#include <stdbool.h>

#include "kernels/cpu/matrix_unit.h"
#include "kernels/kernels.h"

typedef struct hw_cpu_path {
    const char *name;
    bool (*announced)(void);     /* by the processor */
    bool (*allowed)(void);       /* by the kernel; may make a system call. NULL: always */
    const hw_kernels *table;     /* NULL: of the best path that has one */
    const hw_matrix_unit *units; /* NULL: none */
    /* Speed of its units relative to multiply-adds, measured on this thread in some tenths of a millisecond; a path whose
     * units are slower is not chosen automatically. NULL: they are always faster. */
    double (*gain)(void);
    bool by_name_only; /* never chosen automatically */
    int proof_rows;    /* maximum rows in its test, if more take too long; 0: all. See hw_cpu_prove */
} hw_cpu_path;

/* Best first; ends with a path that has no name. Static. */
const hw_cpu_path *hw_cpu_paths(void);

#endif
