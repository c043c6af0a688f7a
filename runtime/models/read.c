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

hw_status hw_read_only_bool(hw_json_at at, const char *key, bool wanted)
{
    bool found = wanted;
    hw_status st = hw_json_bool(at, key, &found);
    if (st || found == wanted) return st;
    return hw_fail(at.err, at.failure, "%s: \"%s\": %s is not supported", at.name, key,
                   found ? "true" : "false");
}
