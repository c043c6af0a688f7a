#include <stdlib.h>

#include "runtime/weights/dummy.h"
#include "runtime/weights/scatter.h"
#include "runtime/weights/tensor_cut.h"
#include "runtime/weights/tensor_names.h"
#include "runtime/weights/weights.h"

enum { STAGING_BYTES = 8 << 20 };

typedef struct loader {
    hw_weights *w;
    const hw_model *m;
    const hw_shard *shard;
    hw_checkpoint *c;
    const hw_load_options *options;
    hw_scatter *scatter; /* NULL: every rank reads for itself */
    hw_status failed;    /* of a rank that continues to receive, since rank 0 continues to send */
    void *staging;       /* [STAGING_BYTES] */
    uint64_t done, total;
    hw_error *err;
} loader;

static void report(loader *l, uint64_t n_bytes)
{
    l->done += n_bytes;
    if (l->options->progress) l->options->progress(l->options->progress_user, l->done, l->total);
}

/* How much of the staging buffer a piece may use: vectors are converted in the upper half, which must stay free. */
static size_t room_for(const hw_param *p) { return p->kind->vector ? STAGING_BYTES / 4 : STAGING_BYTES; }

/* The place of a piece within a parameter: [n_rows, n_columns] in the staging buffer, as stored, densely packed. */
typedef struct piece {
    hw_dtype type;
    bool transposed;
    size_t first_row, n_rows, n_columns;
} piece;

static hw_status put_vector(loader *l, const hw_param *p, piece from)
{
    hw_device *d = l->w->device;
    float *const *field = hw_weights_field(l->w, p->kind, p->layer);
    float *numbers = (float *)((char *)l->staging + STAGING_BYTES / 2);
    hw_convert(numbers, HW_F32, l->staging, from.type, from.n_rows);
    return d->k->copy_in(d, *field + p->first_out + from.first_row, numbers, from.n_rows * sizeof(float));
}

static hw_status put_matrix(loader *l, const hw_param *p, piece from)
{
    hw_device *d = l->w->device;
    hw_weight *const *field = hw_weights_field(l->w, p->kind, p->layer);
    const bool t = from.transposed;
    const hw_weight_piece to = {.src = l->staging,
                                .dtype = from.type,
                                .stride_out = t ? 1 : from.n_columns,
                                .stride_in = t ? from.n_columns : 1,
                                .first_out = p->first_out + (t ? 0 : from.first_row),
                                .first_in = t ? from.first_row : 0,
                                .n_out = t ? from.n_columns : from.n_rows,
                                .n_in = t ? from.n_rows : from.n_columns};
    return d->k->weight_put(d, *field, &to, l->err);
}

static hw_status put(loader *l, const hw_param *p, piece from)
{
    return p->kind->vector ? put_vector(l, p, from) : put_matrix(l, p, from);
}

/* ---- from a checkpoint */

static bool receives(const loader *l) { return l->scatter && !l->c; }

/* Reads rows [r, r + n) of this rank's rectangle of a tensor into the staging buffer. */
static hw_status fetch(loader *l, const hw_tensor_cut *cut, const hw_tensor_place *place, size_t r, size_t n)
{
    if (receives(l)) return hw_scatter_receive(l->scatter, l->staging, n * cut->row_bytes, l->err);
    return hw_tensor_cut_read(cut, place, l->c, r, n, l->staging, l->err);
}

static hw_status load_part(loader *l, const hw_tensor_place *place, const hw_param *p)
{
    const hw_tensor_cut cut = hw_tensor_cut_of(place, p);
    piece from = {.type = place->tensor.info->dtype,
                  .transposed = place->transposed,
                  .n_columns = hw_range_size(cut.columns)};
    size_t at_once, n_rows = hw_range_size(cut.rows);
    hw_status st = hw_tensor_cut_rows(&at_once, &cut, place, room_for(p), l->err);
    for (size_t r = 0; r < n_rows && at_once && !st; r += at_once) {
        const size_t n = n_rows - r < at_once ? n_rows - r : at_once;
        from.first_row = r, from.n_rows = n;
        st = fetch(l, &cut, place, r, n);
        if (!st && !l->failed) l->failed = put(l, p, from);
        if (!receives(l) && l->failed) st = l->failed;
        report(l, n * cut.row_bytes);
    }
    return st;
}

static hw_status load_param(loader *l, const hw_param *p)
{
    hw_tensor_place place;
    hw_status st = l->scatter ? hw_scatter_locate(l->scatter, &place, p, l->err)
                              : hw_tensor_locate(&place, l->m, l->c, p, l->err);
    if (!st && l->scatter && l->c) {
        const uint64_t before = hw_scatter_sent(l->scatter);
        st = hw_scatter_send(l->scatter, &place, p, l->staging, room_for(p), l->err);
        report(l, hw_scatter_sent(l->scatter) - before);
    }
    return st ? st : load_part(l, &place, p);
}

/* ---- dummy weights */

static hw_status fill_with_dummy(loader *l, const hw_param *p)
{
    char name[HW_MAX_TENSOR_NAME];
    hw_tensor_place place;
    hw_status st = HW_OK;
    const size_t n_out = hw_range_size(p->out), n_in = hw_range_size(p->in),
                 row_bytes = hw_format_size(p->format, 1, n_in);
    const size_t at_once = row_bytes ? room_for(p) / row_bytes : 0;
    hw_tensor_name(name, l->m, p);
    hw_tensor_expect(&place, l->m, p);
    const uint64_t seed = hw_dummy_seed(l->options->dummy_seed, name);
    for (size_t r = 0; r < n_out && at_once && !st; r += at_once) {
        const size_t n = n_out - r < at_once ? n_out - r : at_once;
        for (size_t i = 0; i < n; i++)
            hw_dummy_row((char *)l->staging + i * row_bytes, p->format.type, p->kind->dummy, seed,
                         place.first_out + p->out.begin + r + i, p->in.begin, n_in);
        st = put(l, p, (piece){.type = p->format.type, .first_row = r, .n_rows = n, .n_columns = n_in});
        report(l, n * row_bytes);
    }
    return st;
}

/* ---- loading */

static hw_status for_each_param(loader *l, hw_status (*each)(loader *, const hw_param *))
{
    hw_status st = HW_OK;
    hw_param p;
    for (hw_params list = hw_params_of(l->m, l->shard, l->options->format); !st && hw_params_next(&list, &p);)
        st = each(l, &p);
    return st;
}

static hw_status fill(loader *l)
{
    if (l->options->dummy) return for_each_param(l, fill_with_dummy);
    /* Check all tensors before reading any. */
    const hw_status st = hw_tensor_check_all(l->m, l->c, l->err);
    return st ? st : for_each_param(l, load_param);
}

/* Rank 0's error is the one that is reported. */
static hw_status fill_together(loader *l)
{
    hw_error other;
    hw_status st = hw_scatter_create(&l->scatter, l->options->comm, l->m, l->c, l->err);
    if (st) return st;
    l->total += hw_scatter_planned(l->scatter);
    st = for_each_param(l, load_param);
    if (st && l->c) hw_scatter_stop(l->scatter, &other);
    if (!st) st = l->failed;
    l->w->n_bytes_sent = hw_scatter_sent(l->scatter);
    if (!st && l->w->n_bytes_sent != hw_scatter_planned(l->scatter))
        st = hw_fail(
            l->err, HW_ERR_FAILED, "weights: %llu bytes were sent, but the parts of the other ranks are %llu",
            (unsigned long long)l->w->n_bytes_sent, (unsigned long long)hw_scatter_planned(l->scatter));
    return st;
}

static hw_status prepare(loader *l, hw_device *device)
{
    const hw_format format = l->options->format;
    l->staging = malloc(STAGING_BYTES);
    if (!l->staging)
        return hw_fail(l->err, HW_ERR_NO_MEMORY, "weights: no memory for %d bytes", STAGING_BYTES);
    l->total = hw_weights_estimate(l->m, l->shard, format);
    return hw_weights_create(&l->w, device, l->m, l->shard, format, l->err);
}

hw_status hw_weights_load(hw_weights **out, hw_device *device, const hw_model *m, const hw_shard *shard,
                          hw_checkpoint *c, const hw_load_options *options, hw_error *err)
{
    *out = NULL;
    loader l = {.m = m, .shard = shard, .c = c, .options = options, .err = err};
    const uint64_t before = c ? hw_checkpoint_bytes_read(c) : 0;
    hw_status st = prepare(&l, device);
    if (options->comm) st = hw_comm_agree(options->comm, st, err);
    if (!st) st = options->comm ? fill_together(&l) : fill(&l);
    const hw_status told = device->k->synchronize(device, err); /* errors of asynchronous copies */
    if (told) st = told;
    hw_scatter_destroy(l.scatter);
    free(l.staging);
    if (st) {
        hw_weights_destroy(l.w);
        return st;
    }
    l.w->n_bytes_read = c ? hw_checkpoint_bytes_read(c) - before : 0;
    *out = l.w;
    return HW_OK;
}
