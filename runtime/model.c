#include "runtime/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/source.h"

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

/* A file of another precision is read too (types stand in the tensors themselves); this is what --dtype auto
 * means by "as stored". */
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
    /* A checkpoint quantised by somebody's scheme has tensors under the usual names whose numbers mean
     * something else. */
    if (json_object_get(config, "quantization_config") &&
        !json_is_null(json_object_get(config, "quantization_config")))
        return hw_fail(err, HW_ERR_MODEL,
                       "%s: \"quantization_config\": quantised checkpoints are not supported", name);
    if ((st = read_stored_dtype(&m, at)) || (st = architecture->read(&m, at)) || (st = check_sizes(&m, at)))
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

bool hw_role_is_vector(hw_role role)
{
    switch (role) {
    case HW_ROLE_FINAL_NORM:
    case HW_ROLE_FINAL_NORM_BIAS:
    case HW_ROLE_ATTN_NORM:
    case HW_ROLE_ATTN_NORM_BIAS:
    case HW_ROLE_MLP_NORM:
    case HW_ROLE_MLP_NORM_BIAS:
    case HW_ROLE_BQ:
    case HW_ROLE_BK:
    case HW_ROLE_BV:
    case HW_ROLE_BO:
    case HW_ROLE_B_GATE:
    case HW_ROLE_B_UP:
    case HW_ROLE_B_DOWN: return true;
    default: return false;
    }
}

bool hw_model_has(const hw_model *m, hw_role role)
{
    switch (role) {
    case HW_ROLE_POSITIONS: return m->learned_positions;
    case HW_ROLE_HEAD: return !m->tied_embeddings;
    case HW_ROLE_FINAL_NORM_BIAS:
    case HW_ROLE_ATTN_NORM_BIAS:
    case HW_ROLE_MLP_NORM_BIAS: return m->norm == HW_NORM_LAYER;
    case HW_ROLE_BQ:
    case HW_ROLE_BK:
    case HW_ROLE_BV: return m->qkv_bias;
    case HW_ROLE_BO: return m->o_bias;
    case HW_ROLE_W_GATE: return m->gated_mlp;
    case HW_ROLE_B_GATE: return m->gated_mlp && m->mlp_bias;
    case HW_ROLE_B_UP:
    case HW_ROLE_B_DOWN: return m->mlp_bias;
    default: return true;
    }
}

void hw_model_shape(const hw_model *m, hw_role role, size_t *n_out, size_t *n_in)
{
    size_t dim = (size_t)m->dim, ffn = (size_t)m->ffn_dim, vocab = (size_t)m->vocab_size;
    size_t q = (size_t)m->n_heads * (size_t)m->head_dim, kv = (size_t)m->n_kv_heads * (size_t)m->head_dim;
    *n_in = hw_role_is_vector(role) ? 1 : dim;
    *n_out = dim;
    switch (role) {
    case HW_ROLE_EMBED:
    case HW_ROLE_HEAD: *n_out = vocab; break;
    case HW_ROLE_POSITIONS: *n_out = (size_t)m->max_seq_len; break;
    case HW_ROLE_WQ:
    case HW_ROLE_BQ: *n_out = q; break;
    case HW_ROLE_WK:
    case HW_ROLE_BK:
    case HW_ROLE_WV:
    case HW_ROLE_BV: *n_out = kv; break;
    case HW_ROLE_WO: *n_in = q; break;
    case HW_ROLE_W_GATE:
    case HW_ROLE_B_GATE:
    case HW_ROLE_W_UP:
    case HW_ROLE_B_UP: *n_out = ffn; break;
    case HW_ROLE_W_DOWN: *n_in = ffn; break;
    default: break;
    }
}

size_t hw_model_n_params(const hw_model *m)
{
    size_t n = 0;
    for (int role = 0; role < HW_N_ROLES; role++) {
        size_t n_out, n_in;
        if (!hw_model_has(m, (hw_role)role)) continue;
        hw_model_shape(m, (hw_role)role, &n_out, &n_in);
        n += n_out * n_in * (role >= HW_ROLE_ATTN_NORM ? (size_t)m->n_layers : 1);
    }
    return n;
}
