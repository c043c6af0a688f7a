/* Weights in device memory: rows as they are stored, padded, in the type that the device keeps. */
#include <stdlib.h>

#include "kernels/cuda/cuda.h"
#include "runtime/base/checked.h"

namespace
{

enum { ROW_BYTES = 32 };

hw_status make(hw_cuda_device *c, hw_weight *w, hw_error *err)
{
    const size_t size = hw_dtype_size(w->dims.format.type);
    if (w->dims.n_in > SIZE_MAX / 2 / size)
        return hw_fail(err, HW_ERR_NO_MEMORY, "weight: no memory for rows of %zu inputs", w->dims.n_in);
    w->stride = hw_round_up(w->dims.n_in * size, ROW_BYTES) / size;
    const size_t factors[] = {w->dims.n_out, w->stride, size};
    const size_t n_bytes = hw_size_product(factors, 3);
    return n_bytes ? hw_cuda_alloc(&c->base.device, (void **)&w->data, n_bytes, err) : HW_OK;
}

/* Row `o`, columns i .. i + n - 1 of the piece, in the weight's type. */
void collect(char *to, const hw_weight *w, const hw_weight_piece *p, size_t o, size_t i, size_t n)
{
    const size_t size = hw_dtype_size(p->dtype), to_size = hw_dtype_size(w->dims.format.type);
    const char *from = (const char *)p->src + (o * p->stride_out + i * p->stride_in) * size;
    if (p->stride_in == 1) {
        hw_convert(to, w->dims.format.type, from, p->dtype, n);
        return;
    }
    constexpr size_t TILE = 256;
    char tile[TILE * sizeof(float)];
    for (size_t done = 0; done < n; done += TILE) {
        const size_t now = n - done < TILE ? n - done : TILE;
        for (size_t k = 0; k < now; k++)
            memcpy(tile + k * size, from + (done + k) * p->stride_in * size, size);
        hw_convert(to + done * to_size, w->dims.format.type, tile, p->dtype, now);
    }
}

/* Rows o .. o + n_out - 1 and columns i .. i + n_in - 1 of the piece, which fit into one half of the stage. */
hw_status put_part(hw_cuda_device *c, hw_weight *w, const hw_weight_piece *p, size_t o, size_t n_out,
                   size_t i, size_t n_in, hw_error *err)
{
    const size_t size = hw_dtype_size(w->dims.format.type), row = n_in * size;
    char *stage;
    hw_status st = hw_cuda_check(err, hw_cuda_stage(c, &stage, n_out * row), "waiting for a copy of weights");
    if (st) return st;
    for (size_t k = 0; k < n_out; k++) collect(stage + k * row, w, p, o + k, i, n_in);
    char *to = w->data + ((p->first_out + o) * w->stride + p->first_in + i) * size;
    return hw_cuda_check(
        err,
        cudaMemcpy2DAsync(to, w->stride * size, stage, row, row, n_out, cudaMemcpyHostToDevice, c->stream),
        "copying weights");
}

} // namespace

hw_status hw_cuda_weight_create(hw_device *d, hw_weight **out, const hw_weight_dims *dims, hw_error *err)
{
    *out = nullptr;
    hw_status st = hw_weight_dims_check(dims, err);
    if (st) return st;
    if (dims->format.type != d->act)
        return hw_fail(err, HW_ERR_UNSUPPORTED,
                       "device cuda: a matrix of %s, but this device was made for %s",
                       hw_dtype_name(dims->format.type), hw_dtype_name(d->act));
    hw_weight *w = (hw_weight *)calloc(1, sizeof *w);
    if (!w) return hw_fail(err, HW_ERR_NO_MEMORY, "weight: no memory for %zu bytes", sizeof *w);
    w->dims = *dims;
    if ((st = make(hw_cuda_of(d), w, err))) {
        free(w);
        return st;
    }
    *out = w;
    return HW_OK;
}

hw_status hw_cuda_weight_put(hw_device *d, hw_weight *w, const hw_weight_piece *piece, hw_error *err)
{
    hw_status st = hw_weight_piece_check(&w->dims, piece, err);
    if (st || !piece->n_out || !piece->n_in) return st;
    const size_t fitting = HW_CUDA_STAGE_BYTES / hw_dtype_size(w->dims.format.type);
    const size_t columns = piece->n_in < fitting ? piece->n_in : fitting, rows = fitting / columns;
    for (size_t o = 0; o < piece->n_out && !st; o += rows)
        for (size_t i = 0; i < piece->n_in && !st; i += columns)
            st = put_part(hw_cuda_of(d), w, piece, o, piece->n_out - o < rows ? piece->n_out - o : rows, i,
                          piece->n_in - i < columns ? piece->n_in - i : columns, err);
    return st;
}

void hw_cuda_weight_destroy(hw_device *d, hw_weight *w)
{
    if (!w) return;
    hw_cuda_free(d, w->data);
    free(w);
}

size_t hw_cuda_weight_bytes(const hw_weight *w)
{
    return w->dims.n_out * w->stride * hw_dtype_size(w->dims.format.type);
}

const hw_weight_dims *hw_cuda_weight_dims(const hw_weight *w) { return &w->dims; }
