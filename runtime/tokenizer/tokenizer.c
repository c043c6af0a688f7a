/* A tokenizer from its file, and what it can be asked about its tokens. */
#include <stdio.h>

#include "runtime/tokenizer/companions.h"
#include "runtime/tokenizer/internal.h"

static const char TOP_KEYS[] =
    "version truncation padding added_tokens normalizer pre_tokenizer post_processor decoder model";

/* Cutting to a length and filling up to one belong to batches of training data; a prompt is taken whole or
 * refused. */
static hw_status check_top(const hw_node *top)
{
    static const char *const unused[] = {"truncation", "padding"};
    const char *version = "1.0";
    hw_status st = hw_node_only(top, TOP_KEYS);
    if (!st) st = hw_json_string(top->at, "version", &version);
    if (!st && strcmp(version, "1.0") != 0)
        st = hw_fail(top->at.err, top->at.failure, "%s: version \"%.40s\", wanted \"1.0\"", top->name,
                     version);
    for (int i = 0; i < 2 && !st; i++) {
        const json_t *value = json_object_get(top->at.object, unused[i]);
        if (value && !json_is_null(value))
            st = hw_fail(top->at.err, top->at.failure,
                         "%s: \"%s\" is set, which is not supported; make it null", top->name, unused[i]);
    }
    return st;
}

static hw_status load(hw_tokenizer *t, const hw_node *top)
{
    hw_node model;
    const json_t *file = top->at.object;
    hw_status st = check_top(top);
    if (!st) st = hw_json_need(top->at, "model");
    if (!st) st = hw_node_open(&model, top, json_object_get(file, "model"), "model");
    if (!st) st = hw_normalizer_load(&t->normalizer, top, json_object_get(file, "normalizer"));
    if (!st) st = hw_pretokenizer_load(&t->pretokenizer, top, json_object_get(file, "pre_tokenizer"));
    if (!st) st = hw_bpe_load(&t->bpe, &t->vocab, &model, t->pretokenizer.of_bytes);
    if (!st) st = hw_added_load(&t->added, &t->vocab, &t->normalizer, top);
    if (!st) st = hw_template_load(&t->template, &t->vocab, top, json_object_get(file, "post_processor"));
    if (!st) st = hw_decoder_load(&t->decoder, top, json_object_get(file, "decoder"));
    return st;
}

hw_status hw_tokenizer_create(hw_tokenizer **out, const char *json, size_t n_bytes, const char *name,
                              hw_error *err)
{
    json_t *file = NULL;
    *out = NULL;
    hw_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory for a tokenizer", name);
    hw_node top = {.at = {NULL, name, HW_ERR_MODEL, err}};
    snprintf(top.name, sizeof top.name, "%.150s", name);
    hw_status st = hw_json_parse(&file, json, n_bytes, name, HW_ERR_MODEL, err);
    if (!st && !json_is_object(file))
        st = hw_fail(err, HW_ERR_MODEL, "%s: the top of the file is not a JSON object", name);
    top.at.object = file;
    if (!st) st = load(t, &top);
    json_decref(file);
    if (st) {
        hw_tokenizer_destroy(t);
        return st;
    }
    *out = t;
    return HW_OK;
}

hw_status hw_tokenizer_open(hw_tokenizer **out, const char *model_folder, hw_error *err)
{
    char *path, *text = NULL;
    size_t n = 0;
    *out = NULL;
    if (asprintf(&path, "%s/tokenizer.json", model_folder) < 0)
        return hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory for a path", model_folder);
    hw_status st = hw_file_read(&text, &n, path, HW_TOKENIZER_MAX_BYTES, HW_ERR_MODEL, err);
    if (!st) st = hw_tokenizer_create(out, text, n, path, err);
    if (!st && (st = hw_tokenizer_check_companions(*out, model_folder, err))) {
        hw_tokenizer_destroy(*out);
        *out = NULL;
    }
    free(text);
    free(path);
    return st;
}

void hw_tokenizer_destroy(hw_tokenizer *t)
{
    if (!t) return;
    hw_decoder_free(&t->decoder);
    hw_template_free(&t->template);
    hw_added_free(&t->added);
    hw_bpe_free(&t->bpe);
    hw_pretokenizer_free(&t->pretokenizer);
    hw_normalizer_free(&t->normalizer);
    hw_vocab_free(&t->vocab);
    free(t);
}

size_t hw_tokenizer_n_ids(const hw_tokenizer *t) { return t->vocab.n_ids; }

bool hw_tokenizer_has_id(const hw_tokenizer *t, int32_t id) { return hw_vocab_has(&t->vocab, id); }

bool hw_tokenizer_is_special(const hw_tokenizer *t, int32_t id)
{
    return hw_vocab_has(&t->vocab, id) && t->vocab.entries[id].flags & HW_TOKEN_SPECIAL;
}

int32_t hw_tokenizer_id(const hw_tokenizer *t, const char *token)
{
    return hw_vocab_find(&t->vocab, token, strlen(token));
}

const char *hw_tokenizer_content(const hw_tokenizer *t, int32_t id, size_t *n_bytes)
{
    *n_bytes = 0;
    return hw_vocab_has(&t->vocab, id) ? hw_vocab_text(&t->vocab, id, n_bytes) : NULL;
}
