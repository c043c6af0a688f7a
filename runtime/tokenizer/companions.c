#include "runtime/tokenizer/companions.h"

#include <stdio.h>
#include <unistd.h>

#include "runtime/base/json.h"
#include "runtime/tokenizer/internal.h"

enum { MAX_BYTES = 16 << 20 };

/* *out is NULL where the folder has no such file. `path` [n_path] becomes its path. */
static hw_status load(json_t **out, char *path, size_t n_path, const char *folder, const char *name,
                      hw_error *err)
{
    *out = NULL;
    snprintf(path, n_path, "%s/%s", folder, name);
    return access(path, F_OK) ? HW_OK : hw_json_load(out, path, MAX_BYTES, HW_ERR_MODEL, err);
}

static hw_status check_token(const hw_tokenizer *t, hw_json_at at, const char *content)
{
    const int32_t id = content && *content ? hw_tokenizer_id(t, content) : -1;
    if (!content || !*content || (id >= 0 && t->vocab.entries[id].flags & HW_TOKEN_ADDED)) return HW_OK;
    return hw_fail(at.err, at.failure,
                   "%s: token \"%.60s\" is not among the added tokens of tokenizer.json, where transformers "
                   "puts it; save the "
                   "tokenizer anew with AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
                   at.name, content);
}

/* "<s>", or an object with it as "content". */
static const char *content_of(const json_t *token)
{
    return json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* bos_token and the like, and the lists of further ones. */
static hw_status check_special(const hw_tokenizer *t, hw_json_at at)
{
    const char *key;
    json_t *value, *token;
    size_t i;
    hw_status st = HW_OK;
    json_object_foreach((json_t *)at.object, key, value)
    {
        if (!st && ends_with(key, "_token")) st = check_token(t, at, content_of(value));
        if (!ends_with(key, "_special_tokens")) continue;
        json_array_foreach(value, i, token) if (!st) st = check_token(t, at, content_of(token));
    }
    return st;
}

static hw_status check_decoder(const hw_tokenizer *t, hw_json_at at)
{
    const char *id;
    json_t *token;
    hw_status st = HW_OK;
    json_object_foreach(json_object_get(at.object, "added_tokens_decoder"), id, token) if (!st) st =
        check_token(t, at, content_of(token));
    return st;
}

/* Classes of transformers that build their parts anew, add_prefix_space with them, whatever tokenizer.json says. */
static bool rebuilds(hw_json_at at)
{
    const char *name = json_string_value(json_object_get(at.object, "tokenizer_class"));
    return name && strcmp(name, "PreTrainedTokenizerFast") != 0 && strcmp(name, "TokenizersBackend") != 0;
}

/* Whether tokenizer.json puts a blank in front of a text. */
static bool adds_prefix(const hw_tokenizer *t)
{
    bool adds = false;
    for (size_t i = 0; i < t->normalizer.n_steps; i++)
        adds = adds || t->normalizer.steps[i].kind == HW_NORMALIZE_PREPEND;
    for (size_t i = 0; i < t->pretokenizer.n_steps; i++) {
        const hw_pretokenizer_step *s = &t->pretokenizer.steps[i];
        adds = adds || s->kind == HW_PIECE_PREFIX_SPACE ||
               (s->kind == HW_PIECE_METASPACE && s->scheme != HW_PREPEND_NEVER);
    }
    return adds;
}

static hw_status check_prefix(const hw_tokenizer *t, hw_json_at at)
{
    const json_t *wanted = json_object_get(at.object, "add_prefix_space");
    const bool adds = adds_prefix(t);
    if (!json_is_boolean(wanted) || !rebuilds(at) || json_is_true(wanted) == adds) return HW_OK;
    return hw_fail(
        at.err, at.failure,
        "%s: \"add_prefix_space\" is %s, but tokenizer.json puts %s in front of a text; make them agree",
        at.name, json_is_true(wanted) ? "true" : "false", adds ? "a blank" : "none");
}

hw_status hw_tokenizer_check_companions(const hw_tokenizer *t, const char *folder, hw_error *err)
{
    char path[4096];
    json_t *config, *added = NULL;
    const char *token;
    json_t *id;
    hw_status st = load(&config, path, sizeof path, folder, "tokenizer_config.json", err);
    const hw_json_at at = {config, path, HW_ERR_MODEL, err};
    if (!st && config) st = check_decoder(t, at);
    if (!st && config) st = check_special(t, at);
    if (!st && config) st = check_prefix(t, at);
    /* transformers looks into added_tokens.json only where there is no such list. */
    if (!st && !json_object_get(config, "added_tokens_decoder"))
        st = load(&added, path, sizeof path, folder, "added_tokens.json", err);
    json_object_foreach(added, token, id) if (!st) st = check_token(t, at, token);
    json_decref(config);
    json_decref(added);
    return st;
}
