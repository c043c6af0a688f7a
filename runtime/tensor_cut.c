#include "runtime/tensor_cut.h"

hw_tensor_cut hw_tensor_cut_of(const hw_tensor_place *p, const hw_model *m, const hw_shard *shard,
                               hw_role role)
{
    hw_range out, in;
    hw_shard_range(m, shard, role, &out, &in);
    const hw_range stored_out = {p->first_out + out.begin, p->first_out + out.end};
    hw_tensor_cut cut = {.rows = p->transposed ? in : stored_out, .columns = p->transposed ? stored_out : in};
    cut.row_bytes = hw_range_size(cut.columns) * hw_dtype_size(p->tensor.info->dtype);
    return cut;
}

hw_status hw_tensor_cut_rows(size_t *out, const hw_tensor_cut *cut, const hw_tensor_place *p, size_t room,
                             hw_error *err)
{
    *out = hw_range_size(cut->rows) && cut->row_bytes ? room / cut->row_bytes : 0;
    if (*out || !hw_range_size(cut->rows) || !cut->row_bytes) return HW_OK;
    /* Cannot be: the widest row is HW_MAX_WIDTH float32. */
    return hw_fail(err, HW_ERR_MODEL, "tensor \"%s\": a row of %zu bytes is too long", p->tensor.info->name,
                   cut->row_bytes);
}

hw_status hw_tensor_cut_read(const hw_tensor_cut *cut, const hw_tensor_place *p, hw_checkpoint *c,
                             size_t first, size_t n, void *dst, hw_error *err)
{
    const size_t size = hw_dtype_size(p->tensor.info->dtype);
    const uint64_t row = cut->rows.begin + first;
    if (hw_range_size(cut->columns) == p->columns) /* whole rows lie one after the other */
        return hw_checkpoint_read(c, p->tensor, row * p->columns * size, n * cut->row_bytes, dst, err);
    hw_status st = HW_OK;
    for (size_t i = 0; i < n && !st; i++)
        st = hw_checkpoint_read(c, p->tensor, ((row + i) * p->columns + cut->columns.begin) * size,
                                cut->row_bytes, (char *)dst + i * cut->row_bytes, err);
    return st;
}
