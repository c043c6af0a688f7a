#include "runtime/device/warm_up.h"

/* More rows than the device's own kernel for products takes. */
enum { MANY_ROWS = 16 };

static hw_status multiply(hw_engine *e, hw_error *err)
{
    const hw_kernels *k = e->device->k;
    const hw_layer *w = hw_weights_layer(e->weights, e->shard.first_layer);
    const int n = e->options.max_batch_rows < MANY_ROWS ? e->options.max_batch_rows : MANY_ROWS;
    return hw_engine_wait(e, k->matmul(e->device, e->buffers.qkv, e->buffers.normed, w->wqkv, NULL, n), err);
}

/* A library takes another algorithm, with connections of its own, where sums get larger. */
static hw_status add(hw_engine *e, hw_error *err)
{
    const hw_tag tag = {.site = HW_SITE_LOAD};
    const size_t dim = (size_t)e->model.dim, most = (size_t)e->options.max_batch_rows;
    hw_status st = HW_OK;
    for (size_t n = 1; n < 2 * most && !st; n *= 2)
        st = hw_comm_device_first_all_reduce(e->tensor, tag, e->buffers.y, (n < most ? n : most) * dim,
                                             e->device->act, HW_SUM, err);
    if (!st && e->has_device_loop)
        st = hw_comm_device_first_all_reduce(e->tensor, tag, e->buffers.keys,
                                             (size_t)e->options.max_logit_rows, HW_U64, HW_MAX, err);
    return st;
}

hw_status hw_warm_up(hw_engine *e, hw_error *err)
{
    if (e->device->host_memory) return HW_OK;
    hw_status st = hw_comm_agree(e->world, multiply(e, err), err);
    if (st || !hw_comm_on_device(e->tensor)) return st;
    return hw_comm_agree(e->world, add(e, err), err);
}
