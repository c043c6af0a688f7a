/* Internal to the CPU device: its struct, the layout of its weights, and the functions in its tables. */
#ifndef HW_KERNELS_CPU_CPU_H
#define HW_KERNELS_CPU_CPU_H

#include "kernels/cpu/matrix_unit.h"
#include "kernels/cpu/pool.h"
#include "kernels/device.h"

typedef struct hw_cpu_device {
    hw_device_base base;
    hw_pool *pool;
    const hw_matrix_unit *units; /* NULL: only multiply-adds */
    void *terms; /* buffer for the terms of some rows of the widest bfloat16 weight, see bf16_split.h */
    size_t n_terms_bytes;
    void *tile_room; /* [threads, HW_TILE_ROOM], if units have `multiply` and there is a weight for them */
    size_t n_tile_room_bytes;
} hw_cpu_device;

static inline hw_cpu_device *hw_cpu(hw_device *d) { return (hw_cpu_device *)(void *)d; }
static inline hw_pool *hw_cpu_pool(hw_device *d) { return hw_cpu(d)->pool; }

/* Rows whose terms fit into the buffer: with multiply-adds, whose terms are float32, and with units that work on single
 * tiles. */
enum { HW_TERM_ROWS = 96, HW_TERM_TILE_ROWS = 512 };

/* Outputs of a group, inputs of a block. */
enum { HW_GROUP = 16, HW_BLOCK = 32 };

/* One packed copy. Outputs come in groups of 16; a group's inputs come in blocks of 32, cut by cut, the last
 * block of a cut filled with zeros. A block of float32 or float16 holds, for each input, the 16 outputs side
 * by side. In bfloat16 it holds, for each pair of inputs (k, k + 1), one 64-byte line: for each of the 16
 * outputs the two numbers, so that a shift or a mask converts them to float32, and the 16 lines of a block are a B
 * tile of AMX. Each group is read once, front to back.
 *   data [n_groups, n_blocks, lines, 64 bytes] */
struct hw_weight {
    hw_weight_dims dims;
    size_t n_groups, n_blocks;         /* blocks of one group, all cuts */
    size_t first_block[HW_N_CUTS + 1]; /* of each cut; the last entry is n_blocks */
    size_t block_bytes;                /* 1024 for 16-bit types, 2048 for float32 */
    char *data;                        /* NULL when there is nothing */
};

static inline char *hw_weight_block(const hw_weight *w, size_t group, size_t block)
{
    return w->data + (group * w->n_blocks + block) * w->block_bytes;
}

/* Bytes from a block's start to the number of output lane `o` (0..15), input `k` (0..31). */
static inline size_t hw_weight_offset(hw_dtype dtype, size_t o, size_t k)
{
    if (dtype == HW_BF16) return k / 2 * 64 + o * 4 + k % 2 * 2;
    size_t size = dtype == HW_F32 ? 4 : 2;
    return (k * HW_GROUP + o) * size;
}

/* ---- written in plain C, one copy */

hw_status hw_cpu_weight_create(hw_device *d, hw_weight **out, const hw_weight_dims *dims, hw_error *err);
hw_status hw_cpu_weight_put(hw_device *d, hw_weight *w, const hw_weight_piece *piece, hw_error *err);
void hw_cpu_weight_destroy(hw_device *d, hw_weight *w);
size_t hw_cpu_weight_bytes(const hw_weight *w);
const hw_weight_dims *hw_cpu_weight_dims(const hw_weight *w);
hw_status hw_cpu_gather(hw_device *d, void *out, const hw_weight *table, const int32_t *ids, int n,
                        int first_id, bool accumulate);
hw_status hw_cpu_select_rows(hw_device *d, void *out, const void *x, const int32_t *rows, int n, int dim);
hw_status hw_cpu_rope_angles(hw_device *d, float *out, const int32_t *positions, int n, const float *inv_freq,
                             int half, float scale);
hw_status hw_cpu_penalize(hw_device *d, float *row, int n_vocab, int first_id, const int32_t *tokens,
                          int n_tokens, float penalty);

/* ---- written on simd.h: one table for each instruction set that the compiler knows */

extern const hw_kernels hw_cpu_avx512_table, hw_cpu_avx2_table, hw_cpu_generic_table;

#endif
