#include "runtime/models/generation_config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/weights/source.h"

enum { MAX_BYTES = 4 << 20, MAX_TOKEN = 1 << 30 };

bool hw_generation_config_is_eos(const hw_generation_config *g, int32_t token)
{
    for (int i = 0; i < g->n_eos; i++)
        if (g->eos[i] == token) return true;
    return false;
}

static hw_status add_eos(hw_generation_config *g, hw_json_at at, const json_t *id)
{
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > MAX_TOKEN)
        return hw_fail(at.err, at.failure, "%s: \"eos_token_id\" is not a token id or a list of them",
                       at.name);
    if (hw_generation_config_is_eos(g, (int32_t)json_integer_value(id))) return HW_OK;
    if (g->n_eos == HW_MAX_EOS)
        return hw_fail(at.err, at.failure, "%s: \"eos_token_id\" lists more than %d tokens", at.name,
                       HW_MAX_EOS);
    g->eos[g->n_eos++] = (int32_t)json_integer_value(id);
    return HW_OK;
}

static hw_status read_eos(hw_generation_config *g, hw_json_at at)
{
    const json_t *eos = json_object_get(at.object, "eos_token_id");
    hw_status st = HW_OK;
    if (!eos || json_is_null(eos)) return HW_OK;
    if (!json_is_array(eos)) return add_eos(g, at, eos);
    for (size_t i = 0; i < json_array_size(eos) && !st; i++) st = add_eos(g, at, json_array_get(eos, i));
    return st;
}

/* Whether a value asks for something: neither null, false, nothing in a list, nor the number that means off. */
static bool asks(const json_t *value, double off)
{
    if (json_is_number(value)) return json_number_value(value) != off;
    if (json_is_array(value)) return json_array_size(value) > 0;
    if (json_is_object(value)) return json_object_size(value) > 0;
    return value && !json_is_null(value) && !json_is_false(value);
}

/* Settings of transformers' generate() that change the text and have nothing here that does the same. */
static void note_ignored(hw_generation_config *g, const json_t *config)
{
    static const struct {
        const char *key;
        double off;
        bool sampling; /* does nothing to greedy decoding */
    } known[] = {{"num_beams", 1, false},
                 {"num_beam_groups", 1, false},
                 {"penalty_alpha", 0, false},
                 {"dola_layers", NAN, false},
                 {"constraints", NAN, false},
                 {"force_words_ids", NAN, false},
                 {"guidance_scale", 1, false},
                 {"sequence_bias", NAN, false},
                 {"bad_words_ids", NAN, false},
                 {"encoder_repetition_penalty", 1, false},
                 {"no_repeat_ngram_size", 0, false},
                 {"encoder_no_repeat_ngram_size", 0, false},
                 {"min_length", 0, false},
                 {"min_new_tokens", 0, false},
                 {"forced_bos_token_id", NAN, false},
                 {"forced_eos_token_id", NAN, false},
                 {"remove_invalid_values", NAN, false},
                 {"exponential_decay_length_penalty", NAN, false},
                 {"suppress_tokens", NAN, false},
                 {"begin_suppress_tokens", NAN, false},
                 {"watermarking_config", NAN, false},
                 {"token_healing", NAN, false},
                 {"stop_strings", NAN, false},
                 {"max_time", NAN, false},
                 {"top_h", NAN, true},
                 {"typical_p", 1, true},
                 {"epsilon_cutoff", 0, true},
                 {"eta_cutoff", 0, true}};
    const bool samples = json_is_true(json_object_get(config, "do_sample"));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const size_t n = strlen(g->ignored);
        if ((known[i].sampling && !samples) || !asks(json_object_get(config, known[i].key), known[i].off))
            continue;
        snprintf(g->ignored + n, sizeof g->ignored - n, "%s%s", n ? ", " : "", known[i].key);
    }
}

static hw_status read_sampling(hw_generation_config *g, hw_json_at at)
{
    bool do_sample = false;
    double temperature = 1, top_p = 1, min_p = 0, penalty = 1;
    int top_k = 50; /* transformers' default where sampling is on */
    hw_status st;
    if ((st = hw_json_bool(at, "do_sample", &do_sample)) ||
        (st = hw_json_number(at, "temperature", 0, 1e6, &temperature)) ||
        (st = hw_json_size(at, "top_k", 0, MAX_TOKEN, &top_k)) ||
        (st = hw_json_number(at, "top_p", 0, 1, &top_p)) ||
        (st = hw_json_number(at, "min_p", 0, 1, &min_p)) ||
        (st = hw_json_number(at, "repetition_penalty", 1e-6, 1e6, &penalty)) ||
        (st = hw_json_size(at, "max_new_tokens", 1, MAX_TOKEN, &g->max_new_tokens)))
        return st;
    g->sampling.repetition_penalty = (float)penalty;
    if (!do_sample) return HW_OK; /* greedy, whatever temperature says */
    g->sampling.temperature = (float)temperature;
    g->sampling.top_k = top_k;
    g->sampling.top_p = (float)top_p;
    g->sampling.min_p = (float)min_p;
    return HW_OK;
}

static hw_status parse(hw_generation_config *g, const hw_source *source, const char *file, const char *text,
                       size_t n_bytes, hw_error *err)
{
    char *path;
    json_t *config = NULL;
    if (asprintf(&path, "%s/%s", source->folder, file) < 0)
        return hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory for a path", source->folder);
    hw_status st = hw_json_parse_object(&config, text, n_bytes, path, HW_ERR_MODEL, err);
    hw_json_at at = {config, path, HW_ERR_MODEL, err};
    if (!st) st = read_eos(g, at);
    if (!st) st = read_sampling(g, at);
    if (!st) note_ignored(g, config);
    json_decref(config);
    free(path);
    return st;
}

/* transformers reads config.json for this only where there is no generation_config.json. Both files are there before
 * either is looked at: what one rank alone does not like must not keep it from the other's reading. */
hw_status hw_generation_config_open_from(hw_generation_config *out, const hw_source *source, hw_error *err)
{
    static const char *const files[2] = {"generation_config.json", "config.json"};
    char *texts[2] = {NULL, NULL};
    size_t n[2];
    hw_status st = HW_OK;
    *out = (hw_generation_config){0};
    for (int i = 0; i < 2 && !st; i++)
        st = hw_source_read(source, files[i], MAX_BYTES, i == 0, &texts[i], &n[i], err);
    const int counts = texts[0] ? 0 : 1;
    if (!st) st = parse(out, source, files[counts], texts[counts], n[counts], err);
    free(texts[0]);
    free(texts[1]);
    return st;
}

hw_status hw_generation_config_open(hw_generation_config *out, const char *model_folder, hw_error *err)
{
    return hw_generation_config_open_from(out, &(hw_source){.folder = model_folder}, err);
}
