#include "runtime/models/rope.h"

#include <math.h>
#include <string.h>

static const char *const kind_names[] = {"none", "default", "linear", "llama3", "yarn"};

const char *hw_rope_name(hw_rope_kind kind) { return kind_names[kind]; }

/* 1 + 0.1 * mscale * ln(factor): section 3.4 of Peng et al. 2023, "YaRN". */
static double yarn_scale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static hw_status read_llama3(hw_rope *r, hw_json_at at)
{
    hw_status st;
    if ((st = hw_json_need(at, "low_freq_factor")) || (st = hw_json_need(at, "high_freq_factor"))) return st;
    if ((st = hw_json_number(at, "low_freq_factor", 1e-3, 1e6, &r->low_freq_factor)) ||
        (st = hw_json_number(at, "high_freq_factor", 1e-3, 1e6, &r->high_freq_factor)))
        return st;
    if (r->high_freq_factor <= r->low_freq_factor)
        return hw_fail(at.err, at.failure, "%s: high_freq_factor %g must be larger than low_freq_factor %g",
                       at.name, r->high_freq_factor, r->low_freq_factor);
    return HW_OK;
}

static hw_status read_yarn(hw_rope *r, hw_json_at at)
{
    hw_status st;
    double attention_factor = 0, mscale = 0, mscale_all_dim = 0;
    r->beta_fast = 32;
    r->beta_slow = 1;
    r->truncate = true;
    if ((st = hw_json_number(at, "beta_fast", 0, 1e6, &r->beta_fast)) ||
        (st = hw_json_number(at, "beta_slow", 0, 1e6, &r->beta_slow)) ||
        (st = hw_json_number(at, "attention_factor", 1e-6, 1e6, &attention_factor)) ||
        (st = hw_json_number(at, "mscale", 0, 1e6, &mscale)) ||
        (st = hw_json_number(at, "mscale_all_dim", 0, 1e6, &mscale_all_dim)) ||
        (st = hw_json_bool(at, "truncate", &r->truncate)))
        return st;
    if (r->beta_fast == 0) r->beta_fast = 32; /* transformers: `or 32`, `or 1` */
    if (r->beta_slow == 0) r->beta_slow = 1;
    if (attention_factor > 0) r->attention_factor = attention_factor;
    else if (mscale > 0 && mscale_all_dim > 0)
        r->attention_factor = yarn_scale(r->factor, mscale) / yarn_scale(r->factor, mscale_all_dim);
    else r->attention_factor = yarn_scale(r->factor, 1);
    return HW_OK;
}

static hw_status read_kind(hw_rope *r, hw_json_at at)
{
    const char *name = "default";
    hw_status st = hw_json_string(at, "type", &name);
    if (!st) st = hw_json_string(at, "rope_type", &name);
    if (st) return st;
    for (int k = HW_ROPE_DEFAULT; k <= HW_ROPE_YARN; k++)
        if (!strcmp(name, kind_names[k])) {
            r->kind = (hw_rope_kind)k;
            return HW_OK;
        }
    return hw_fail(at.err, at.failure,
                   "%s: rope type \"%s\" is not supported; known are default, linear, llama3, yarn", at.name,
                   name);
}

/* The object with the parameters, or NULL. transformers: `rope_scaling or rope_parameters`, so an empty object counts as
 * none, and nothing of the other one is used. One object for each type of layer would need frequencies of their own. */
static hw_status find_parameters(const json_t **out, hw_json_at config)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    const char *key;
    json_t *value;
    *out = NULL;
    for (int i = 0; i < 2 && !*out; i++) {
        const json_t *found = json_object_get(config.object, keys[i]);
        if (!found || json_is_null(found)) continue;
        if (!json_is_object(found))
            return hw_fail(config.err, config.failure, "%s: \"%s\" is not an object", config.name, keys[i]);
        if (json_object_size(found)) *out = found;
    }
    json_object_foreach((json_t *)*out, key, value)
    {
        if (json_is_object(value))
            return hw_fail(config.err, config.failure,
                           "%s: rope parameters for \"%s\" alone are not supported; wanted one set of them",
                           config.name, key);
    }
    return HW_OK;
}

/* The models that Headway has rotate whole heads. Their `default` rope in transformers does not look at the factor; the
 * other kinds would make fewer frequencies than the model multiplies with, and fail. */
static hw_status check_partial(const hw_rope *r, hw_json_at config, hw_json_at at)
{
    double partial = 1;
    hw_status st = hw_json_number(config, "partial_rotary_factor", 0, 1, &partial);
    if (!st && at.object) st = hw_json_number(at, "partial_rotary_factor", 0, 1, &partial);
    if (!st && r->kind != HW_ROPE_DEFAULT && (int)(r->rotary_dim * partial) != r->rotary_dim)
        st = hw_fail(config.err, config.failure,
                     "%s: \"partial_rotary_factor\": %g with rope type \"%s\" is not supported", config.name,
                     partial, hw_rope_name(r->kind));
    return st;
}

/* What a kind other than default needs. The original context at the top of config.json has priority over the one beside
 * the factor (transformers, standardize_rope_params); without both it is the whole context. */
static hw_status read_scaling(hw_rope *r, hw_json_at config, hw_json_at at)
{
    static const char ORIGINAL[] = "original_max_position_embeddings";
    hw_status st;
    if ((st = hw_json_need(at, "factor")) || (st = hw_json_number(at, "factor", 1e-3, 1e6, &r->factor)) ||
        (st = hw_json_size(at, ORIGINAL, 1, 1 << 30, &r->original_max_positions)) ||
        (st = hw_json_size(config, ORIGINAL, 1, 1 << 30, &r->original_max_positions)))
        return st;
    if (r->kind == HW_ROPE_LLAMA3) return read_llama3(r, at);
    return r->kind == HW_ROPE_YARN ? read_yarn(r, at) : HW_OK;
}

hw_status hw_rope_from_config(hw_rope *out, hw_json_at config, int head_dim, int max_positions,
                              double default_theta)
{
    hw_rope r = {.kind = HW_ROPE_DEFAULT,
                 .rotary_dim = head_dim,
                 .theta = default_theta,
                 .factor = 1,
                 .attention_factor = 1,
                 .original_max_positions = max_positions};
    hw_json_at at = config;
    hw_status st = find_parameters(&at.object, config);
    if (!st) st = hw_json_number(config, "rope_theta", 1, 1e12, &r.theta);
    if (!st && at.object) st = read_kind(&r, at);
    if (!st && at.object) st = hw_json_number(at, "rope_theta", 1, 1e12, &r.theta);
    if (!st) st = check_partial(&r, config, at);
    if (!st && r.kind != HW_ROPE_DEFAULT) st = read_scaling(&r, config, at);
    if (st) return st;
    if (r.rotary_dim < 2 || r.rotary_dim % 2)
        return hw_fail(config.err, config.failure,
                       "%s: rotary dimension %d (that of a head) is not an even number above 0", config.name,
                       r.rotary_dim);
    *out = r;
    return HW_OK;
}

/* Grattafiori et al. 2024, "The Llama 3 herd of models": long wavelengths are divided by `factor`, short ones
 * kept, those between interpolated. */
static float llama3_frequency(const hw_rope *r, float f)
{
    float context = (float)r->original_max_positions, wavelength = 2 * (float)M_PI / f;
    if (wavelength < context / (float)r->high_freq_factor) return f;
    if (wavelength > context / (float)r->low_freq_factor) return f / (float)r->factor;
    float smooth = (context / wavelength - (float)r->low_freq_factor) /
                   (float)(r->high_freq_factor - r->low_freq_factor);
    return (1 - smooth) * f / (float)r->factor + smooth * f;
}

/* The index of the frequency that turns `rotations` times over the original context. */
static double yarn_index(const hw_rope *r, double rotations)
{
    return r->rotary_dim * log(r->original_max_positions / (rotations * 2 * M_PI)) / (2 * log(r->theta));
}

static float yarn_frequency(const hw_rope *r, float f, int j, float low, float high)
{
    if (low == high) high += 0.001f;
    float ramp = ((float)j - low) / (high - low);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    float keep = 1 - ramp;
    return f / (float)r->factor * (1 - keep) + f * keep;
}

void hw_rope_inv_freq(float *inv_freq, const hw_rope *r)
{
    double low = 0, high = 0;
    if (r->kind == HW_ROPE_YARN) {
        low = yarn_index(r, r->beta_fast);
        high = yarn_index(r, r->beta_slow);
        if (r->truncate) low = floor(low), high = ceil(high);
        low = low > 0 ? low : 0;
        high = high < r->rotary_dim - 1 ? high : r->rotary_dim - 1;
    }
    for (int j = 0; j < r->rotary_dim / 2; j++) {
        float f = 1.0f / powf((float)r->theta, (float)(2 * j) / (float)r->rotary_dim);
        if (r->kind == HW_ROPE_LINEAR) f /= (float)r->factor;
        if (r->kind == HW_ROPE_LLAMA3) f = llama3_frequency(r, f);
        if (r->kind == HW_ROPE_YARN) f = yarn_frequency(r, f, j, (float)low, (float)high);
        inv_freq[j] = f;
    }
}
