#include "runtime/weights/params.h"

#include <assert.h>

#include "runtime/weights/weights.h"

/* ---- the table */

#define IS_VECTOR(place, field) _Generic(((place *)0)->field, float * : true, hw_weight * : false)
#define KIND(role, outputs, inputs, split_, place, field_, dummy_, is_per_layer)                             \
    [HW_ROLE_##role] = {.n_out = HW_DIM_##outputs,                                                           \
                        .n_in = HW_DIM_##inputs,                                                             \
                        .split = HW_##split_,                                                                \
                        .per_layer = is_per_layer,                                                           \
                        .vector = IS_VECTOR(place, field_),                                                  \
                        .field = offsetof(place, field_),                                                    \
                        .dummy = HW_DUMMY_##dummy_},

static const hw_param_kind kinds[HW_N_ROLES] = {
#define HW_MODEL_PARAM(role, outputs, inputs, split, field, dummy, present)                                  \
    KIND(role, outputs, inputs, split, hw_weights, field, dummy, false)
#define HW_LAYER_PARAM(role, outputs, inputs, split, field, dummy, present)                                  \
    KIND(role, outputs, inputs, split, hw_layer, field, dummy, true)
#include "runtime/weights/params.def"
};

#define CHECK(role, inputs, place, field)                                                                    \
    static_assert((HW_DIM_##inputs == HW_DIM_ONE) == IS_VECTOR(place, field),                                \
                  #role ": one input and a field of float * belong together");
#define HW_MODEL_PARAM(role, outputs, inputs, split, field, dummy, present)                                  \
    CHECK(role, inputs, hw_weights, field)
#define HW_LAYER_PARAM(role, outputs, inputs, split, field, dummy, present)                                  \
    CHECK(role, inputs, hw_layer, field)
#include "runtime/weights/params.def"

const hw_param_kind *hw_param_kind_of(hw_role role) { return &kinds[role]; }

bool hw_model_has(const hw_model *m, hw_role role, int layer)
{
    const hw_layer_kind *l = hw_model_layer(m, layer);
    switch (role) {
#define HW_MODEL_PARAM(role, outputs, inputs, split, field, dummy, present)                                  \
    case HW_ROLE_##role:                                                                                     \
        return present;
#define HW_LAYER_PARAM HW_MODEL_PARAM
#include "runtime/weights/params.def"
    case HW_N_ROLES: break;
    }
    return false;
}

/* ---- dimensions */

static size_t size_of(const hw_model *m, hw_dimension d)
{
    switch (d) {
    case HW_DIM_ONE: return 1;
    case HW_DIM_HEAD_DIM: return (size_t)m->head_dim;
    case HW_DIM_DIM: return (size_t)m->dim;
    case HW_DIM_Q_DIM: return (size_t)m->n_heads * (size_t)m->head_dim;
    case HW_DIM_KV_DIM: return (size_t)m->n_kv_heads * (size_t)m->head_dim;
    case HW_DIM_FFN: return (size_t)m->ffn_dim;
    case HW_DIM_VOCAB: return (size_t)m->vocab_size;
    case HW_DIM_POSITIONS: return (size_t)m->max_seq_len;
    }
    return 0;
}

static hw_range heads_range(int first, int n, int head_dim)
{
    return (hw_range){(size_t)first * (size_t)head_dim, (size_t)(first + n) * (size_t)head_dim};
}

/* This rank's range of a dimension, if it is split. */
static hw_range range_of(const hw_model *m, const hw_shard *s, hw_dimension d, bool split)
{
    const hw_heads h = s->heads;
    if (!split) return (hw_range){0, size_of(m, d)};
    switch (d) {
    case HW_DIM_Q_DIM: return heads_range(h.first_head, h.n_heads, h.head_dim);
    case HW_DIM_KV_DIM: return heads_range(h.first_kv_head, h.n_kv_heads, h.head_dim);
    case HW_DIM_FFN: return s->ffn;
    case HW_DIM_VOCAB: return s->vocab;
    default: assert(!"a row of params.def splits what ranks do not divide"); return (hw_range){0, 0};
    }
}

static const size_t *cuts_of(const hw_shard *s, const hw_param_kind *k)
{
    if (k->split != HW_SPLIT_IN) return NULL;
    return k->n_in == HW_DIM_FFN ? s->ffn_cuts : s->head_cuts;
}

void hw_model_shape(const hw_model *m, hw_role role, size_t *n_out, size_t *n_in)
{
    *n_out = size_of(m, kinds[role].n_out);
    *n_in = size_of(m, kinds[role].n_in);
}

size_t hw_model_n_params(const hw_model *m)
{
    const hw_shard whole = hw_shard_whole(m);
    size_t n = 0;
    hw_param p;
    for (hw_params list = hw_params_of(m, &whole, hw_format_plain(HW_F32)); hw_params_next(&list, &p);)
        n += hw_range_size(p.out) * hw_range_size(p.in);
    return n;
}

/* ---- parameters of a rank */

static hw_range outputs_of(const hw_model *m, const hw_shard *s, const hw_param_kind *k)
{
    return range_of(m, s, k->n_out, k->split == HW_SPLIT_OUT);
}

static void place_in_field(hw_param *p, const hw_model *m, const hw_shard *s)
{
    for (int r = 0; r < HW_N_ROLES; r++) {
        const hw_param_kind *other = &kinds[r];
        if (other->per_layer != p->kind->per_layer || other->field != p->kind->field) continue;
        if (!hw_model_has(m, (hw_role)r, p->layer)) continue;
        const size_t n = hw_range_size(outputs_of(m, s, other));
        if (r < (int)p->role) p->first_out += n;
        p->n_field_out += n;
    }
}

hw_param hw_param_of(const hw_model *m, const hw_shard *shard, hw_format matrices, hw_role role, int layer)
{
    const hw_param_kind *k = &kinds[role];
    hw_param p = {.role = role,
                  .kind = k,
                  .layer = layer,
                  .out = outputs_of(m, shard, k),
                  .in = range_of(m, shard, k->n_in, k->split == HW_SPLIT_IN),
                  .cuts = cuts_of(shard, k),
                  .format = k->vector ? hw_format_plain(HW_F32) : matrices};
    place_in_field(&p, m, shard);
    return p;
}

size_t hw_param_size(const hw_param *p, hw_format format)
{
    return hw_format_size(format, hw_range_size(p->out), hw_range_size(p->in));
}

hw_params hw_params_of(const hw_model *m, const hw_shard *shard, hw_format matrices)
{
    return (hw_params){.m = m, .shard = shard, .matrices = matrices, .layer = shard->first_layer - 1};
}

bool hw_params_next(hw_params *l, hw_param *out)
{
    for (; l->layer < l->shard->end_layer; l->layer++, l->role = 0) {
        const bool in_layer = l->layer >= l->shard->first_layer;
        const int layer = in_layer ? l->layer : 0;
        for (; l->role < HW_N_ROLES; l->role++) {
            const hw_role role = (hw_role)l->role;
            if (kinds[role].per_layer != in_layer || !hw_model_has(l->m, role, layer)) continue;
            *out = hw_param_of(l->m, l->shard, l->matrices, role, layer);
            l->role++;
            return true;
        }
    }
    return false;
}
