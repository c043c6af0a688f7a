/* Products of bfloat16 on matrix units (AMX: eight tiles of 16 rows by 64 bytes), and an emulation in plain C
 * that runs the very same loop. */
#ifndef HW_KERNELS_CPU_AMX_H
#define HW_KERNELS_CPU_AMX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HW_AMX_ROWS = 16 };

/* sums += X W^T over some blocks of 32 inputs, for one or two tiles of 16 rows by one or two groups of 16
 * outputs. Blocks ascend; in each, the terms of an input ascend. */
typedef struct hw_amx_task {
    float *sums; /* [row_tiles * 16, groups * 16] of stride `sums_stride` floats */
    const uint16_t
        *x; /* [n_blocks, terms, 16, 32] bfloat16 of the first tile; the second's is `x_tile` numbers on */
    const char *w; /* [n_blocks, 16, 64 bytes] of the first group; the second's is `group_bytes` on */
    size_t sums_stride, x_tile, group_bytes, n_blocks;
    int terms, row_tiles, groups;
} hw_amx_task;

typedef struct hw_amx {
    bool (*usable)(
        void); /* this processor has it and the kernel lets this process use it; costs a system call */
    void (*begin)(void); /* on the thread that runs tasks, before the first */
    void (*run)(const hw_amx_task *task);
    void (*end)(void); /* after the last */
} hw_amx;

/* hw_amx_units is there in builds for x86-64 only. */
extern const hw_amx hw_amx_units, hw_amx_emulated;

#endif
