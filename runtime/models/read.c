#include "runtime/models/read.h"

#include <string.h>

hw_status hw_read_activation(hw_json_at at, const char *key, const char *fallback, hw_activation *out)
{
    static const struct {
        const char *name;
        hw_activation activation;
    } known[] = {{"silu", HW_ACT_SILU},
                 {"swish", HW_ACT_SILU},
                 {"gelu", HW_ACT_GELU},
                 {"gelu_new", HW_ACT_GELU_TANH},
                 {"gelu_fast", HW_ACT_GELU_TANH},
                 {"gelu_pytorch_tanh", HW_ACT_GELU_TANH},
                 {"relu", HW_ACT_RELU}};
    const char *name = fallback;
    hw_status st = hw_json_string(at, key, &name);
    if (st) return st;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name)) {
            *out = known[i].activation;
            return HW_OK;
        }
    return hw_fail(at.err, at.failure,
                   "%s: \"%s\": activation \"%s\" is not supported; known are silu, gelu, gelu_new, relu",
                   at.name, key, name);
}

hw_status hw_read_window(hw_json_at at, const char *key, int missing, int *out)
{
    *out = json_object_get(at.object, key) ? 0 : missing;
    return hw_json_size(at, key, 1, HW_MAX_POSITIONS, out);
}

hw_status hw_read_layer_types(hw_model *m, hw_json_at at, int full, int sliding)
{
    const json_t *types = json_object_get(at.object, "layer_types");
    if (!types || json_is_null(types)) return HW_OK;
    if (json_array_size(types) != (size_t)m->n_layers)
        return hw_fail(at.err, at.failure,
                       "%s: \"layer_types\": wanted a list of %d names, one for each layer", at.name,
                       m->n_layers);
    for (int i = 0; i < m->n_layers; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        const bool slides = type && !strcmp(type, "sliding_attention");
        if (!slides && (!type || strcmp(type, "full_attention")))
            return hw_fail(at.err, at.failure,
                           "%s: \"layer_types\": layer %d is \"%s\"; known are full_attention and "
                           "sliding_attention",
                           at.name, i, type ? type : "not a name");
        if (slides && !m->kinds[sliding].attn.window)
            return hw_fail(at.err, at.failure,
                           "%s: \"layer_types\": layer %d is \"%s\", but no window is given or switched on",
                           at.name, i, type);
        m->kind[i] = (uint8_t)(slides ? sliding : full);
    }
    return HW_OK;
}

hw_status hw_read_only_bool(hw_json_at at, const char *key, bool wanted)
{
    bool found = wanted;
    hw_status st = hw_json_bool(at, key, &found);
    if (st || found == wanted) return st;
    return hw_fail(at.err, at.failure, "%s: \"%s\": %s is not supported", at.name, key,
                   found ? "true" : "false");
}
