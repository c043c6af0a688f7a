#include "kernels/reference/reference.h"

#include <stdio.h>
#include <stdlib.h>

static const hw_kernels table = {
    .name = "reference",
    HW_HOST_MEMORY_OPS,
    .weight_create = hw_ref_weight_create,
    .weight_put = hw_ref_weight_put,
    .weight_destroy = hw_ref_weight_destroy,
    .weight_bytes = hw_ref_weight_bytes,
    .weight_dims = hw_ref_weight_dims,
    .gather = hw_ref_gather,
    .select_rows = hw_ref_select_rows,
    .rmsnorm = hw_ref_rmsnorm,
    .layernorm = hw_ref_layernorm,
    .matmul = hw_ref_matmul,
    .qk_norm = hw_ref_qk_norm,
    .rope_angles = hw_ref_rope_angles,
    .rope_append = hw_ref_rope_append,
    .attention = hw_ref_attention,
    .attention_scratch = hw_ref_attention_scratch,
    .attends = {.window = true},
    .activate = hw_ref_activate,
    .add_bias_residual = hw_ref_add_bias_residual,
    .penalize = hw_ref_penalize,
    .row_best = hw_ref_row_best,
    .row_mass = hw_ref_row_mass,
    .row_draw = hw_ref_row_draw,
};

static void destroy(hw_device_base *base) { free(base); }

hw_status hw_reference_device_create(hw_device **out, hw_error *err)
{
    *out = NULL;
    hw_device_base *base = calloc(1, sizeof *base);
    if (!base) return hw_fail(err, HW_ERR_NO_MEMORY, "device: no memory for %zu bytes", sizeof *base);
    base->device = (hw_device){
        .k = &table, .act = HW_F32, .n_threads = 1, .host_memory = true, .matmul = HW_MATMUL_FLOAT32};
    base->destroy = destroy;
    snprintf(base->description, sizeof base->description, "reference (plain loops), 1 thread");
    *out = &base->device;
    return HW_OK;
}
