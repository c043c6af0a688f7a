#include "kernels/device.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "runtime/base/checked.h"

void hw_device_destroy(hw_device *d)
{
    if (!d) return;
    hw_device_base *base = (hw_device_base *)(void *)d;
    base->destroy(base);
}

const char *hw_device_description(const hw_device *d)
{
    return ((const hw_device_base *)(const void *)d)->description;
}

static const char *or_null(const char *text) { return *text ? text : NULL; }

bool hw_proofs_are_off(void)
{
    const char *value = getenv("HW_PROVE");
    return value && !strcmp(value, "off");
}

const char *hw_device_warning(const hw_device *d)
{
    return or_null(((const hw_device_base *)(const void *)d)->warning);
}

const char *hw_device_note(const hw_device *d)
{
    return or_null(((const hw_device_base *)(const void *)d)->note);
}

const char *hw_device_path(const hw_device *d)
{
    const char *path = ((const hw_device_base *)(const void *)d)->path;
    return path ? path : d->k->name;
}

const char *hw_matmul_name(hw_matmul matmul)
{
    static const char *const names[] = {"auto", "float32", "bf16x3", "bf16"};
    return names[matmul];
}

hw_status hw_device_choose_matmul(hw_device *d, hw_matmul matmul, hw_error *err)
{
    if (matmul == HW_MATMUL_AUTO) return HW_OK;
    if (d->matmul == HW_MATMUL_AUTO)
        return hw_fail(err, HW_ERR_UNSUPPORTED,
                       "device %s: products in %s are asked for, but it has an arithmetic of "
                       "its own; use auto",
                       d->k->name, hw_matmul_name(matmul));
    d->matmul = matmul;
    return HW_OK;
}

hw_status hw_device_check_attn(const hw_device *d, const hw_attn *attn, hw_error *err)
{
    const hw_attn_abilities can = d->k->attends;
    const struct {
        const char *field;
        double value;
        bool can;
    } fields[] = {{"window", attn->window, can.window},
                  {"n_sinks", attn->n_sinks, can.n_sinks},
                  {"softcap", (double)attn->softcap, can.softcap}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].value != 0 && !fields[i].can)
            return hw_fail(err, HW_ERR_UNSUPPORTED, "device %s: attention with %s %g is not supported",
                           d->k->name, fields[i].field, fields[i].value);
    return HW_OK;
}

/* ---- host memory */

/* Stored in the 64 bytes before the memory that hw_host_alloc returns. */
typedef struct host_block {
    size_t mapped_bytes; /* 0: from aligned_alloc */
} host_block;

enum { HOST_ALIGN = 64, HOST_MAP_FROM = 1 << 20, HOST_HUGE_FROM = 4 << 20 };

/* Large blocks are mapped: the kernel zeroes their pages when they are first written, so memory is committed only when
 * used. Huge pages make that first write several times cheaper; they are optional, so errors are ignored. */
void *hw_host_alloc(size_t n_bytes)
{
    uint64_t total;
    if (!hw_add_u64(n_bytes, 2 * HOST_ALIGN - 1, &total) || total > PTRDIFF_MAX) return NULL;
    total = total / HOST_ALIGN * HOST_ALIGN;
    host_block *block;
    if (total >= HOST_MAP_FROM) {
        block = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block == MAP_FAILED) return NULL;
        if (total >= HOST_HUGE_FROM) (void)madvise(block, total, MADV_HUGEPAGE);
        block->mapped_bytes = total;
    } else {
        block = aligned_alloc(HOST_ALIGN, total);
        if (!block) return NULL;
        memset(block, 0, total);
    }
    return (char *)block + HOST_ALIGN;
}

void hw_host_free(void *p)
{
    if (!p) return;
    host_block *block = (host_block *)(void *)((char *)p - HOST_ALIGN);
    if (block->mapped_bytes) munmap(block, block->mapped_bytes);
    else free(block);
}

hw_status hw_host_op_alloc(hw_device *d, void **out, size_t n_bytes, hw_error *err)
{
    *out = hw_host_alloc(n_bytes);
    if (*out) return HW_OK;
    return hw_fail(err, HW_ERR_NO_MEMORY, "device %s: no memory for %zu bytes", d->k->name, n_bytes);
}

void hw_host_op_free(hw_device *d, void *p)
{
    (void)d;
    hw_host_free(p);
}

hw_status hw_host_op_copy(hw_device *d, void *dst, const void *src, size_t n_bytes)
{
    (void)d;
    if (n_bytes) memcpy(dst, src, n_bytes);
    return HW_OK;
}

hw_status hw_host_op_synchronize(hw_device *d, hw_error *err)
{
    (void)d, (void)err;
    return HW_OK;
}

/* ---- checks of weights */

hw_status hw_weight_dims_check(const hw_weight_dims *dims, hw_error *err)
{
    if (dims->format.type != HW_F32 && dims->format.type != HW_F16 && dims->format.type != HW_BF16)
        return hw_fail(err, HW_ERR_INVALID, "weight: kept as %s; use float32, float16 or bfloat16",
                       hw_dtype_name(dims->format.type));
    bool ordered = dims->cuts[0] == 0 && dims->cuts[HW_N_CUTS] == dims->n_in;
    for (int c = 0; c < HW_N_CUTS; c++) ordered &= dims->cuts[c] <= dims->cuts[c + 1];
    if (!ordered)
        return hw_fail(err, HW_ERR_INVALID, "weight: the cuts do not ascend from 0 to its %zu inputs",
                       dims->n_in);
    return HW_OK;
}

hw_status hw_weight_piece_check(const hw_weight_dims *dims, const hw_weight_piece *piece, hw_error *err)
{
    if (piece->dtype != HW_F32 && piece->dtype != HW_F16 && piece->dtype != HW_BF16)
        return hw_fail(err, HW_ERR_INVALID, "weight: a piece of %s; use float32, float16 or bfloat16",
                       hw_dtype_name(piece->dtype));
    if (piece->first_out > dims->n_out || piece->n_out > dims->n_out - piece->first_out ||
        piece->first_in > dims->n_in || piece->n_in > dims->n_in - piece->first_in)
        return hw_fail(err, HW_ERR_INVALID,
                       "weight [%zu, %zu]: a piece of [%zu, %zu] at [%zu, %zu] reaches outside", dims->n_out,
                       dims->n_in, piece->n_out, piece->n_in, piece->first_out, piece->first_in);
    return HW_OK;
}
