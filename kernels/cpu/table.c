#include "kernels/cpu/anchors.h"
#include "kernels/cpu/ops.h"

const hw_kernels HW_CPU_FN(table) = {
    .name = "cpu",
    HW_HOST_MEMORY_OPS,
    .weight_create = hw_cpu_weight_create,
    .weight_put = hw_cpu_weight_put,
    .weight_destroy = hw_cpu_weight_destroy,
    .weight_bytes = hw_cpu_weight_bytes,
    .weight_dims = hw_cpu_weight_dims,
    .gather = hw_cpu_gather,
    .select_rows = hw_cpu_select_rows,
    .rmsnorm = HW_CPU_FN(rmsnorm),
    .layernorm = HW_CPU_FN(layernorm),
    .matmul = HW_CPU_FN(matmul),
    .rope_angles = hw_cpu_rope_angles,
    .rope_append = HW_CPU_FN(rope_append),
    .attention = HW_CPU_FN(attention),
    .attention_scratch = HW_CPU_FN(attention_scratch),
    .attends = {.window = true},
    .activate = HW_CPU_FN(activate),
    .add_bias_residual = HW_CPU_FN(add_bias_residual),
    .penalize = hw_cpu_penalize,
    .row_best = HW_CPU_FN(row_best),
    .row_mass = HW_CPU_FN(row_mass),
    .row_draw = HW_CPU_FN(row_draw),
    .anchors = &HW_CPU_FN(anchors).ops,
};
