#include "runtime/weights/tensor_cut.h"

static hw_format stored_format(const hw_tensor_place *p) { return hw_format_plain(p->tensor.info->dtype); }

hw_tensor_cut hw_tensor_cut_of(const hw_tensor_place *place, const hw_param *p)
{
    const hw_range out = {place->first_out + p->out.begin, place->first_out + p->out.end};
    hw_tensor_cut cut = {.rows = place->transposed ? p->in : out, .columns = place->transposed ? out : p->in};
    cut.row_bytes = hw_format_size(stored_format(place), 1, hw_range_size(cut.columns));
    return cut;
}

hw_status hw_tensor_cut_rows(size_t *out, const hw_tensor_cut *cut, const hw_tensor_place *p, size_t room,
                             hw_error *err)
{
    *out = hw_range_size(cut->rows) && cut->row_bytes ? room / cut->row_bytes : 0;
    if (*out || !hw_range_size(cut->rows) || !cut->row_bytes) return HW_OK;
    /* Cannot happen: the widest row is HW_MAX_WIDTH float32. */
    return hw_fail(err, HW_ERR_MODEL, "tensor \"%s\": a row of %zu bytes is too long", p->tensor.info->name,
                   cut->row_bytes);
}

hw_status hw_tensor_cut_read(const hw_tensor_cut *cut, const hw_tensor_place *p, hw_checkpoint *c,
                             size_t first, size_t n, void *dst, hw_error *err)
{
    const hw_format format = stored_format(p);
    const size_t row = cut->rows.begin + first;
    if (hw_range_size(cut->columns) == p->columns) /* whole rows are contiguous */
        return hw_checkpoint_read(c, p->tensor, hw_format_size(format, row, p->columns), n * cut->row_bytes,
                                  dst, err);
    hw_status st = HW_OK;
    for (size_t i = 0; i < n && !st; i++)
        st = hw_checkpoint_read(c, p->tensor,
                                hw_format_size(format, row + i, p->columns) +
                                    hw_format_size(format, 1, cut->columns.begin),
                                cut->row_bytes, (char *)dst + i * cut->row_bytes, err);
    return st;
}
