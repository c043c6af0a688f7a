#include "runtime/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/models/read.h"
#include "runtime/weights/source.h"

enum { MAX_CONFIG_BYTES = 4 << 20 };

static hw_status find_architecture(const hw_architecture **out, hw_json_at at)
{
    const char *type = NULL;
    hw_status st = hw_json_need(at, "model_type");
    if (!st) st = hw_json_string(at, "model_type", &type);
    if (st) return st;
    char known[256] = "";
    for (const hw_architecture *const *a = hw_architectures; *a; a++) {
        if (!strcmp(type, (*a)->model_type)) {
            *out = *a;
            return HW_OK;
        }
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", (*a)->model_type);
    }
    return hw_fail(at.err, at.failure, "%s: model_type \"%s\" is not supported; known are %s", at.name, type,
                   known);
}

/* The type that --dtype auto means by "as stored". Files with other types are read too, since each tensor has its own
 * type. */
static hw_status read_stored_dtype(hw_model *m, hw_json_at at)
{
    const char *name = NULL;
    int known;
    hw_status st = hw_json_string(at, "torch_dtype", &name);
    if (!st) st = hw_json_string(at, "dtype", &name);
    if (st || !name) return st;
    m->stored = hw_dtype_parse(name, &known);
    if (!known)
        return hw_fail(at.err, at.failure,
                       "%s: dtype \"%s\" is not supported; known are float32, float16, bfloat16", at.name,
                       name);
    return HW_OK;
}

/* A bias before a norm would have to be added first, but the op that adds biases also adds the residual. */
static hw_status check_norms(const hw_model *m, hw_json_at at)
{
    bool post_norm = false;
    for (int layer = 0; layer < m->n_layers; layer++)
        post_norm = post_norm || hw_model_layer(m, layer)->post_norm;
    if (!post_norm || (!m->o_bias && !m->mlp_bias)) return HW_OK;
    return hw_fail(at.err, at.failure,
                   "%s: biases (\"%s\") in front of norms after a block are not supported", at.name,
                   m->o_bias ? "attention_bias" : "mlp_bias");
}

static hw_status check_sizes(const hw_model *m, hw_json_at at)
{
    if (m->n_heads % m->n_kv_heads)
        return hw_fail(at.err, at.failure, "%s: %d attention heads are not a multiple of %d key/value heads",
                       at.name, m->n_heads, m->n_kv_heads);
    const size_t widths[] = {(size_t)m->n_heads * (size_t)m->head_dim, (size_t)m->ffn_dim};
    for (size_t i = 0; i < 2; i++)
        if (widths[i] > (size_t)1 << 30)
            return hw_fail(at.err, at.failure, "%s: a layer of %zu x %d is larger than Headway computes with",
                           at.name, widths[i], m->dim);
    return HW_OK;
}

hw_status hw_model_from_config(hw_model *out, const json_t *config, const char *name, hw_error *err)
{
    hw_json_at at = {config, name, HW_ERR_MODEL, err};
    const hw_architecture *architecture = NULL;
    hw_model m = {0};
    hw_status st = find_architecture(&architecture, at);
    if (st) return st;
    m.architecture = architecture->model_type;
    /* A quantised checkpoint has tensors with the usual names whose numbers mean something else. */
    if (json_object_get(config, "quantization_config") &&
        !json_is_null(json_object_get(config, "quantization_config")))
        return hw_fail(err, HW_ERR_MODEL,
                       "%s: \"quantization_config\": quantised checkpoints are not supported", name);
    if ((st = hw_read_only_bool(at, "is_causal", true)) || (st = read_stored_dtype(&m, at)) ||
        (st = architecture->read(&m, at)) || (st = check_sizes(&m, at)) || (st = check_norms(&m, at)))
        return st;
    *out = m;
    return HW_OK;
}

hw_status hw_model_open_config(hw_model *out, const char *path, hw_error *err)
{
    json_t *config;
    hw_status st = hw_json_load(&config, path, MAX_CONFIG_BYTES, HW_ERR_MODEL, err);
    if (st) return st;
    st = hw_model_from_config(out, config, path, err);
    json_decref(config);
    return st;
}

hw_status hw_model_open_from(hw_model *out, const hw_source *source, hw_error *err)
{
    char *text, *path = NULL;
    size_t n;
    json_t *config = NULL;
    hw_status st = hw_source_read(source, "config.json", MAX_CONFIG_BYTES, false, &text, &n, err);
    if (!st && asprintf(&path, "%s/config.json", source->folder) < 0)
        st = hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory for a path", source->folder);
    if (!st) st = hw_json_parse_object(&config, text, n, path, HW_ERR_MODEL, err);
    if (!st) st = hw_model_from_config(out, config, path, err);
    json_decref(config);
    free(path);
    free(text);
    return st;
}

hw_status hw_model_open(hw_model *out, const char *folder, hw_error *err)
{
    return hw_model_open_from(out, &(hw_source){.folder = folder}, err);
}
