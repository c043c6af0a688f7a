/* What every architecture's config.json reader needs. */
#ifndef HW_RUNTIME_MODELS_READ_H
#define HW_RUNTIME_MODELS_READ_H

#include "runtime/model.h"

/* Sizes beyond these make no sense for a decoder, and products of two of them fit in 64 bits with room to
 * spare. */
enum { HW_MAX_WIDTH = 1 << 20, HW_MAX_VOCAB = 1 << 20, HW_MAX_POSITIONS = 1 << 28 };

/* A key that must be there, into an int of [1, max]. */
static inline hw_status hw_read_size(hw_json_at at, const char *key, int max, int *out)
{
    hw_status st = hw_json_need(at, key);
    return st ? st : hw_json_size(at, key, 1, max, out);
}

/* "silu", "gelu_new"...: the activations of transformers that Headway has. Anything else is refused by
 * name. */
hw_status hw_read_activation(hw_json_at at, const char *key, const char *fallback, hw_activation *out);

/* How many positions a row sees: 0, all, where it is null; `missing` where the key is not there. */
hw_status hw_read_window(hw_json_at at, const char *key, int missing, int *out);

/* "layer_types": which layers are of kind `full` and which of `sliding`, whose window has been read. Without the
 * key they stay as they are. */
hw_status hw_read_layer_types(hw_model *m, hw_json_at at, int full, int sliding);

/* A key that must have this value or be absent: what it would change is not implemented. */
hw_status hw_read_only_bool(hw_json_at at, const char *key, bool wanted);

#endif
