/* Rotary position embedding: from a model's settings to the inverse frequencies that a step rotates with. All
 * functions are Local. */
#ifndef HW_RUNTIME_MODELS_ROPE_H
#define HW_RUNTIME_MODELS_ROPE_H

#include "runtime/base/json.h"

typedef enum hw_rope_kind {
    HW_ROPE_NONE,
    HW_ROPE_DEFAULT,
    HW_ROPE_LINEAR,
    HW_ROPE_LLAMA3,
    HW_ROPE_YARN
} hw_rope_kind;

/* The `rope_parameters` of config.json. Plain; only the fields of its kind are set. */
typedef struct hw_rope {
    hw_rope_kind kind;
    int rotary_dim; /* how many leading elements of a head are rotated, even */
    double theta, factor;
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* yarn */
    double attention_factor;                  /* yarn: what cos and sin are multiplied with */
    bool truncate;                            /* yarn */
    int original_max_positions;
} hw_rope;

/* Reads both spellings: `rope_parameters` (transformers 5) and `rope_theta` + `rope_scaling` with `type` or
 * `rope_type`. With both, `rope_scaling` counts alone, as in transformers. A type that is not one of the above is refused
 * by name. */
hw_status hw_rope_from_config(hw_rope *out, hw_json_at config, int head_dim, int max_positions,
                              double default_theta);

const char *hw_rope_name(hw_rope_kind kind);

/* inv_freq [rotary_dim / 2], in float32 steps where transformers (modeling_rope_utils.py) takes them. */
void hw_rope_inv_freq(float *inv_freq, const hw_rope *rope);

#endif
