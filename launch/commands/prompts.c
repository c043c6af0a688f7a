#include "launch/commands/prompts.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"

typedef struct source {
    const char *name;
    const hw_tokenizer *tokenizer;
    bool add_special, is_json;
    const hw_request_settings *settings; /* of the command */
} source;

static hw_status encode(hw_prompt_line *l, const source *s, const char *text, size_t n)
{
    if (!s->tokenizer)
        return hw_fail(&l->error, HW_ERR_INVALID, "a text needs a tokenizer, and the model folder has none");
    if (!n) return hw_fail(&l->error, HW_ERR_INVALID, "the prompt is empty");
    return hw_tokenizer_encode(s->tokenizer, text, n, s->add_special, &l->tokens, &l->error);
}

static hw_status take_ids(hw_prompt_line *l, const json_t *list)
{
    size_t i;
    const json_t *id;
    if (!json_is_array(list))
        return hw_fail(&l->error, HW_ERR_INVALID, "\"tokens\" is not a list of token ids");
    json_array_foreach(list, i, id)
    {
        const json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value > INT32_MAX)
            return hw_fail(&l->error, HW_ERR_INVALID, "\"tokens\": element %zu is not a token id", i + 1);
        hw_status st = hw_tokens_push(&l->tokens, (int32_t)value, &l->error);
        if (st) return st;
    }
    return HW_OK;
}

/* Keys other than "prompt" and "tokens" are settings. */
static hw_status take_fields(hw_prompt_line *l, const source *s)
{
    const json_t *text = json_object_get(l->object, "prompt"), *ids = json_object_get(l->object, "tokens");
    const char *name;
    json_t *value;
    hw_status st = HW_OK;
    if (!text == !ids) return hw_fail(&l->error, HW_ERR_INVALID, "wanted either \"prompt\" or \"tokens\"");
    if (text && !json_is_string(text)) return hw_fail(&l->error, HW_ERR_INVALID, "\"prompt\" is not a text");
    json_object_foreach(l->object, name, value)
    {
        if (value == text || value == ids) continue;
        st = hw_setting_from_json(&hw_request_group, &l->settings, name, value, &l->error);
        if (st) return st;
    }
    return ids ? take_ids(l, ids) : encode(l, s, json_string_value(text), json_string_length(text));
}

static hw_status take_object(hw_prompt_line *l, const source *s, const char *text, size_t n,
                             const char *where)
{
    hw_status st = hw_json_parse(&l->object, text, n, where, HW_ERR_INVALID, &l->error);
    if (st) return st;
    st = json_is_object(l->object)
             ? take_fields(l, s)
             : hw_fail(&l->error, HW_ERR_INVALID, "wanted an object, {\"prompt\": ...}");
    hw_settings_inherit(&hw_request_group, &l->settings, s->settings);
    return hw_context(&l->error, st, "%s", where);
}

static void take_line(hw_prompt_line *l, const source *s, const char *text, size_t n, int number)
{
    char where[512];
    snprintf(where, sizeof where, "%.480s:%d", s->name, number);
    *l = (hw_prompt_line){.object = NULL};
    if (s->is_json) {
        hw_settings_defaults(&hw_request_group, &l->settings);
        l->status = take_object(l, s, text, n, where);
        return;
    }
    l->settings = *s->settings;
    l->status = hw_context(&l->error, encode(l, s, text, n), "%s", where);
}

static int count_lines(const char *text, size_t n)
{
    int lines = n && text[n - 1] != '\n';
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    return lines;
}

hw_status hw_prompts_parse(hw_prompts *out, const char *text, size_t n_bytes, const char *name,
                           const hw_tokenizer *tokenizer, bool add_special,
                           const hw_request_settings *settings, hw_error *err)
{
    const size_t n_name = strlen(name);
    const source s = {.name = name,
                      .tokenizer = tokenizer,
                      .add_special = add_special,
                      .is_json = n_name > 6 && !strcmp(name + n_name - 6, ".jsonl"),
                      .settings = settings};
    const int n = count_lines(text, n_bytes);
    *out = (hw_prompts){.at = calloc((size_t)n + 1, sizeof *out->at)};
    if (!out->at) return hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory for %d prompts", name, n);
    for (const char *end = text + n_bytes; out->n < n; out->n++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text)), *stop = newline ? newline : end;
        size_t length = (size_t)(stop - text);
        if (length && text[length - 1] == '\r') length--;
        take_line(&out->at[out->n], &s, text, length, out->n + 1);
        text = newline ? newline + 1 : end;
    }
    return HW_OK;
}

void hw_prompts_free(hw_prompts *p)
{
    for (int i = 0; i < p->n; i++) {
        hw_tokens_free(&p->at[i].tokens);
        json_decref(p->at[i].object);
    }
    free(p->at);
    *p = (hw_prompts){.at = NULL};
}
