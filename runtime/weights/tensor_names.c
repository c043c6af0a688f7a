#include "runtime/weights/tensor_names.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "runtime/weights/tensor_pattern.h"

/* The rule of an architecture for a role of its models. */
static const hw_tensor_rule *rule_of(const hw_model *m, hw_role role)
{
    const hw_tensor_rule *r = m->rules;
    while (r->name && r->role != role) r++;
    assert(r->name);
    return r;
}

void hw_tensor_name(char name[HW_MAX_TENSOR_NAME], const hw_model *m, const hw_param *p)
{
    hw_tensor_pattern_write(name, HW_MAX_TENSOR_NAME, rule_of(m, p->role)->name,
                            (hw_tensor_index){.layer = p->layer});
}

static void describe_shape(char *text, size_t size, const hw_tensor_info *t)
{
    size_t n = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < t->n_dims && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%llu", i ? ", " : "", (unsigned long long)t->shape[i]);
    if (n < size) snprintf(text + n, size - n, "]");
}

static hw_status check_shape(const hw_tensor_place *p, bool vector, hw_error *err)
{
    const hw_tensor_info *t = p->tensor.info;
    bool right = vector ? t->n_dims == 1 && t->shape[0] == p->rows
                        : t->n_dims == 2 && t->shape[0] == p->rows && t->shape[1] == p->columns;
    if (!right) {
        char found[160], wanted[64];
        describe_shape(found, sizeof found, t);
        if (vector) snprintf(wanted, sizeof wanted, "[%zu]", p->rows);
        else snprintf(wanted, sizeof wanted, "[%zu, %zu]", p->rows, p->columns);
        return hw_fail(err, HW_ERR_MODEL, "%s: tensor \"%s\" has shape %s, but config.json makes it %s",
                       hw_safetensors_path(p->tensor.file), t->name, found, wanted);
    }
    if (t->dtype != HW_F32 && t->dtype != HW_F16 && t->dtype != HW_BF16)
        return hw_fail(err, HW_ERR_MODEL, "%s: tensor \"%s\" is of type %s; F32, F16 and BF16 are read",
                       hw_safetensors_path(p->tensor.file), t->name, t->dtype_name);
    return HW_OK;
}

void hw_tensor_expect(hw_tensor_place *out, const hw_model *m, const hw_param *p)
{
    const hw_tensor_rule *rule = rule_of(m, p->role);
    size_t n_out, n_in, all_out = 0;
    *out = (hw_tensor_place){.transposed = rule->transposed};
    hw_model_shape(m, p->role, &n_out, &n_in);
    for (const hw_tensor_rule *r = m->rules; r->name; r++) {
        if (strcmp(r->name, rule->name)) continue;
        size_t part_out, part_in;
        hw_model_shape(m, r->role, &part_out, &part_in);
        if (r < rule) out->first_out += part_out;
        all_out += part_out;
    }
    out->rows = rule->transposed ? n_in : all_out;
    out->columns = rule->transposed ? all_out : n_in;
}

static hw_tensor find(const hw_model *m, const hw_checkpoint *c, const char *name)
{
    const hw_tensor found = hw_checkpoint_find(c, name);
    if (found.info || !*m->prefix) return found;
    char prefixed[2 * HW_MAX_TENSOR_NAME];
    snprintf(prefixed, sizeof prefixed, "%s%s", m->prefix, name);
    return hw_checkpoint_find(c, prefixed);
}

hw_tensor hw_tensor_of_role(const hw_model *m, const hw_checkpoint *c, hw_role role)
{
    assert(!hw_param_kind_of(role)->per_layer);
    return find(m, c, rule_of(m, role)->name);
}

hw_status hw_tensor_locate(hw_tensor_place *out, const hw_model *m, const hw_checkpoint *c, const hw_param *p,
                           hw_error *err)
{
    char name[HW_MAX_TENSOR_NAME];
    hw_tensor_place place;
    hw_tensor_expect(&place, m, p);
    hw_tensor_name(name, m, p);
    place.tensor = find(m, c, name);
    /* Of a tied pair either may be the one that was saved. */
    if (!place.tensor.info && p->role == HW_ROLE_EMBED && m->tied_embeddings)
        place.tensor = hw_tensor_of_role(m, c, HW_ROLE_HEAD);
    if (!place.tensor.info)
        return hw_fail(err, HW_ERR_MODEL, "tensor \"%s\" is missing from the checkpoint%s", name,
                       p->role == HW_ROLE_HEAD ? " (and tie_word_embeddings is not true)" : "");
    *out = place;
    return check_shape(&place, p->kind->vector, err);
}

/* Whether `name` is the pattern for some layer of the model. */
static bool matches(const hw_model *m, const char *pattern, const char *name)
{
    hw_tensor_index at;
    return hw_tensor_pattern_match(pattern, name, &at) && at.layer < m->n_layers;
}

/* A head that was saved although it is tied is a copy of the embedding (tied_head.h). */
static bool is_parameter(const hw_model *m, const hw_tensor_rule *r, const char *name)
{
    hw_tensor_index at;
    return hw_tensor_pattern_match(r->name, name, &at) && at.layer < m->n_layers &&
           (hw_model_has(m, r->role, at.layer) || r->role == HW_ROLE_HEAD);
}

static bool is_known(const hw_model *m, const char *name)
{
    size_t prefix = strlen(m->prefix);
    const char *names[2] = {name, prefix && !strncmp(name, m->prefix, prefix) ? name + prefix : name};
    for (int i = 0; i < 2; i++) {
        for (const hw_tensor_rule *r = m->rules; r->name; r++)
            if (is_parameter(m, r, names[i])) return true;
        for (const char *const *p = m->ignored; *p; p++)
            if (matches(m, *p, names[i])) return true;
    }
    return false;
}

static hw_status check_extra(const hw_model *m, const hw_checkpoint *c, hw_error *err)
{
    for (size_t i = 0; i < hw_checkpoint_n_tensors(c); i++) {
        hw_tensor t = hw_checkpoint_at(c, i);
        if (!is_known(m, t.info->name))
            return hw_fail(err, HW_ERR_MODEL,
                           "%s: tensor \"%s\" has no place in a %s model with this config.json (%d layers%s)",
                           hw_safetensors_path(t.file), t.info->name, m->architecture, m->n_layers,
                           m->qkv_bias ? "" : ", no attention bias");
    }
    return HW_OK;
}

hw_status hw_tensor_check_all(const hw_model *m, const hw_checkpoint *c, hw_error *err)
{
    const hw_shard whole = hw_shard_whole(m);
    hw_status st = HW_OK;
    hw_tensor_place place;
    hw_param p;
    for (hw_params list = hw_params_of(m, &whole, hw_format_plain(HW_F32)); !st && hw_params_next(&list, &p);)
        st = hw_tensor_locate(&place, m, c, &p, err);
    return st ? st : check_extra(m, c, err);
}
