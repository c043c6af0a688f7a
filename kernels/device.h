/* Shared by the implementations of devices. Callers include kernels.h. */
#ifndef HW_KERNELS_DEVICE_H
#define HW_KERNELS_DEVICE_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Every device's struct begins with this. */
typedef struct hw_device_base {
    hw_device device;
    void (*destroy)(struct hw_device_base *base);
    void *library;         /* handle of its plug-in; NULL: none */
    const char *path;      /* hw_device_path; NULL: the name of its table */
    char description[192]; /* hw_device_description, hw_device_warning, hw_device_note */
    char warning[640], note[256];
} hw_device_base;

/* Host memory, zeroed and 64-byte aligned; pages are first touched by the thread that writes them. NULL when out of
 * memory. */
void *hw_host_alloc(size_t n_bytes);
void hw_host_free(void *p); /* NULL is fine */

/* The memory ops of every device that lives in host memory. */
hw_status hw_host_op_alloc(hw_device *d, void **out, size_t n_bytes, hw_error *err);
void hw_host_op_free(hw_device *d, void *p);
hw_status hw_host_op_copy(hw_device *d, void *dst, const void *src, size_t n_bytes);
hw_status hw_host_op_synchronize(hw_device *d, hw_error *err);

/* The corresponding entries of a table of ops. */
#define HW_HOST_MEMORY_OPS                                                                                   \
    .alloc = hw_host_op_alloc, .free = hw_host_op_free, .copy_in = hw_host_op_copy,                          \
    .copy_out = hw_host_op_copy, .copy = hw_host_op_copy, .synchronize = hw_host_op_synchronize,             \
    .host_alloc = hw_host_op_alloc, .host_free = hw_host_op_free

/* Errors: HW_ERR_INVALID, naming what does not fit. */
hw_status hw_weight_dims_check(const hw_weight_dims *dims, hw_error *err);
hw_status hw_weight_piece_check(const hw_weight_dims *dims, const hw_weight_piece *piece, hw_error *err);

/* Local query heads [*begin, *end) that read local KV head `kv`: the first and last group of a rank may be
 * incomplete. */
static inline HW_EVERYWHERE void hw_heads_of_kv(hw_heads heads, int kv, int *begin, int *end)
{
    int first = (heads.first_kv_head + kv) * heads.n_rep - heads.first_head;
    *begin = first > 0 ? first : 0;
    *end = first + heads.n_rep < heads.n_heads ? first + heads.n_rep : heads.n_heads;
}

/* Index of the first element of the key (or value) of token `pos` in one sequence's cache, see hw_kv_layer. */
static inline HW_EVERYWHERE size_t hw_kv_index(hw_heads heads, int block_tokens, const int32_t *block_table,
                                               int pos, int is_value, int kv_head)
{
    size_t block = (size_t)block_table[pos / block_tokens], slot = (size_t)(pos % block_tokens);
    size_t plane = (block * 2 + (size_t)is_value) * (size_t)heads.n_kv_heads + (size_t)kv_head;
    return (plane * (size_t)block_tokens + slot) * (size_t)heads.head_dim;
}

#ifdef __cplusplus
}
#endif
#endif
