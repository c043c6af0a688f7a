/* The ways in which a CPU device can compute: a table of ops for an instruction set, with or without units for bfloat16. All give the same
 * bits; device.c takes the first that this processor has, that the kernel allows, and that proves itself (prove.h). */
#ifndef HW_KERNELS_CPU_PATHS_H
#define HW_KERNELS_CPU_PATHS_H

#include <stdbool.h>

#include "kernels/cpu/matrix_unit.h"
#include "kernels/kernels.h"

typedef struct hw_cpu_path {
    const char *name;
    bool (*announced)(void);     /* by the processor */
    bool (*allowed)(void);       /* by the kernel too; may cost a system call. NULL: whatever is announced */
    const hw_kernels *table;     /* NULL: of the best path that has one */
    const hw_matrix_unit *units; /* NULL: none */
    /* How much more its units do than multiply-adds, measured on this thread in some tenths of a millisecond; a path whose units
     * do less is not chosen unasked. NULL: they always do more. */
    double (*gain)(void);
    bool by_name_only; /* never chosen unasked */
    int proof_rows;    /* the most in its proof, where more take too long; 0: all. See hw_cpu_prove */
} hw_cpu_path;

/* Best first; ends with a path that has no name. Static. */
const hw_cpu_path *hw_cpu_paths(void);

#endif
