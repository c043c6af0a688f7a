#include "runtime/weights/tied_head.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/dtype.h"
#include "runtime/weights/tensor_names.h"

enum { PIECE = 1 << 16 }; /* numbers compared at once */

/* [PIECE] each, as stored and widened. */
typedef struct pieces {
    char stored[2][PIECE * sizeof(float)];
    float wide[2][PIECE];
} pieces;

static bool is_read(const hw_tensor_info *t)
{
    return t->dtype == HW_F32 || t->dtype == HW_F16 || t->dtype == HW_BF16;
}

static bool are_alike(const hw_tensor_info *a, const hw_tensor_info *b)
{
    return is_read(a) && is_read(b) && a->n_dims == 2 && b->n_dims == 2 && a->shape[0] == b->shape[0] &&
           a->shape[1] == b->shape[1];
}

/* Widened to float32: transformers compares what it has loaded, and loads both in one type. */
static hw_status compare(bool *same, const hw_tensor t[2], hw_checkpoint *c, pieces *p, hw_error *err)
{
    const size_t n = (size_t)(t[0].info->n_bytes / hw_dtype_size(t[0].info->dtype));
    hw_status st = HW_OK;
    *same = true;
    for (size_t at = 0; at < n && *same && !st; at += PIECE) {
        const size_t m = n - at < PIECE ? n - at : PIECE;
        for (int i = 0; i < 2 && !st; i++) {
            const size_t size = hw_dtype_size(t[i].info->dtype);
            st = hw_checkpoint_read(c, t[i], at * size, m * size, p->stored[i], err);
            if (!st) hw_convert(p->wide[i], HW_F32, p->stored[i], t[i].info->dtype, m);
        }
        for (size_t j = 0; j < m && *same && !st; j++) *same = p->wide[0][j] == p->wide[1][j];
    }
    return st;
}

hw_status hw_model_settle_head(hw_model *m, hw_checkpoint *c, hw_error *err)
{
    const hw_tensor t[2] = {hw_tensor_of_role(m, c, HW_ROLE_EMBED), hw_tensor_of_role(m, c, HW_ROLE_HEAD)};
    bool same = false;
    hw_status st = HW_OK;
    if (!m->tied_embeddings || !t[0].info || !t[1].info) return HW_OK;
    if (are_alike(t[0].info, t[1].info)) {
        pieces *p = malloc(sizeof *p);
        st = p ? compare(&same, t, c, p, err)
               : hw_fail(err, HW_ERR_NO_MEMORY, "weights: no memory for %zu bytes", sizeof *p);
        free(p);
    }
    if (!st) m->tied_embeddings = same;
    return st;
}
