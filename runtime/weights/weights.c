#include "runtime/weights/weights.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/checked.h"

void *hw_weights_field(hw_weights *w, const hw_param_kind *kind, int layer)
{
    char *const owner = kind->per_layer ? (char *)hw_weights_layer(w, layer) : (char *)w;
    return owner + kind->field;
}

/* ---- allocation: the first parameter of a field allocates it for all that share it */

static hw_status make_matrix(hw_weights *w, const hw_param *p, hw_error *err)
{
    hw_weight **const field = hw_weights_field(w, p->kind, p->layer);
    const hw_kernels *k = w->device->k;
    const size_t n_in = hw_range_size(p->in);
    hw_weight_dims dims = {.n_out = p->n_field_out, .n_in = n_in, .format = p->format};
    if (*field) return HW_OK;
    for (int i = 1; i <= HW_N_CUTS; i++) dims.cuts[i] = p->cuts ? p->cuts[i] : n_in;
    const hw_status st = k->weight_create(w->device, field, &dims, err);
    if (st) return st;
    w->n_bytes += k->weight_bytes(*field);
    if (p->kind->per_layer) w->n_step_bytes += k->weight_bytes(*field);
    return HW_OK;
}

static hw_status make_vector(hw_weights *w, const hw_param *p, hw_error *err)
{
    float **const field = hw_weights_field(w, p->kind, p->layer);
    const size_t n = p->n_field_out;
    void *room = NULL;
    if (*field) return HW_OK;
    const hw_status st = w->device->k->alloc(w->device, &room, (n ? n : 1) * sizeof(float), err);
    if (st) return st;
    *field = room;
    w->n_bytes += n * sizeof(float);
    return HW_OK;
}

static hw_status make_room(hw_weights *w, const hw_model *m, const hw_shard *shard, hw_format format,
                           hw_error *err)
{
    hw_status st = HW_OK;
    hw_param p;
    for (hw_params list = hw_params_of(m, shard, format); !st && hw_params_next(&list, &p);)
        st = p.kind->vector ? make_vector(w, &p, err) : make_matrix(w, &p, err);
    if (st) return st;
    if (m->tied_embeddings) w->head = w->embed;
    w->n_step_bytes += w->device->k->weight_bytes(w->head);
    return HW_OK;
}

hw_status hw_weights_create(hw_weights **out, hw_device *device, const hw_model *m, const hw_shard *shard,
                            hw_format format, hw_error *err)
{
    const size_t n_layers = (size_t)hw_shard_n_layers(shard);
    hw_weights *w = calloc(1, sizeof *w);
    *out = NULL;
    if (!w) return hw_fail(err, HW_ERR_NO_MEMORY, "weights: no memory");
    *w = (hw_weights){.device = device, .first_layer = shard->first_layer, .end_layer = shard->end_layer};
    w->layers = calloc(n_layers ? n_layers : 1, sizeof *w->layers);
    const hw_status st = w->layers
                             ? make_room(w, m, shard, format, err)
                             : hw_fail(err, HW_ERR_NO_MEMORY, "weights: no memory for %zu layers", n_layers);
    if (st) hw_weights_destroy(w);
    else *out = w;
    return st;
}

/* The first of several parameters in a field frees it. */
static void free_field(hw_weights *w, const hw_param_kind *kind, int layer)
{
    void *const field = hw_weights_field(w, kind, layer);
    const hw_kernels *k = w->device->k;
    if (kind->vector) {
        k->free(w->device, *(float **)field);
        *(float **)field = NULL;
    } else {
        k->weight_destroy(w->device, *(hw_weight **)field);
        *(hw_weight **)field = NULL;
    }
}

void hw_weights_destroy(hw_weights *w)
{
    if (!w) return;
    if (w->head == w->embed) w->head = NULL;
    for (int role = 0; role < HW_N_ROLES; role++) {
        const hw_param_kind *kind = hw_param_kind_of((hw_role)role);
        if (!kind->per_layer) free_field(w, kind, 0);
        for (int layer = w->first_layer; kind->per_layer && w->layers && layer < w->end_layer; layer++)
            free_field(w, kind, layer);
    }
    free(w->layers);
    free(w);
}

/* ---- sizes known before loading */

hw_dtype hw_weights_dtype(const hw_model *m, const hw_checkpoint *c, hw_dtype wanted)
{
    if (wanted != HW_DTYPE_NONE) return wanted;
    if (!c) return m->stored != HW_DTYPE_NONE ? m->stored : HW_F32;
    /* As stored: the type of most bytes in the files. */
    uint64_t bytes[HW_I32 + 1] = {0};
    for (size_t i = 0; i < hw_checkpoint_n_tensors(c); i++) {
        const hw_tensor_info *t = hw_checkpoint_at(c, i).info;
        bytes[t->dtype] += t->n_bytes;
    }
    hw_dtype most = HW_F32;
    if (bytes[HW_BF16] > bytes[most]) most = HW_BF16;
    if (bytes[HW_F16] > bytes[most]) most = HW_F16;
    return most;
}

uint64_t hw_weights_estimate(const hw_model *m, const hw_shard *shard, hw_format format)
{
    uint64_t n = 0;
    hw_param p;
    for (hw_params list = hw_params_of(m, shard, format); hw_params_next(&list, &p);) {
        const size_t n_bytes = hw_param_size(&p, p.format);
        if (n_bytes == SIZE_MAX || !hw_add_u64(n, n_bytes, &n)) return UINT64_MAX;
    }
    return n;
}
