/* Reading tests/vectors/tokenizers, and comparing a tokenizer with what is written there. */
#ifndef HW_TESTS_TOKENIZER_VECTORS_H
#define HW_TESTS_TOKENIZER_VECTORS_H

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/tokenizer/tokenizer.h"

#define VECTORS HW_SOURCE_DIR "/tests/vectors/tokenizers/"

static inline json_t *read_json(const char *path)
{
    hw_error err = {.rank = -1};
    char *text;
    size_t n;
    json_t *value;
    cr_assert_eq(hw_file_read(&text, &n, path, 64 << 20, HW_ERR_MODEL, &err), HW_OK, "%s", err.message);
    cr_assert_eq(hw_json_parse(&value, text, n, path, HW_ERR_MODEL, &err), HW_OK, "%s", err.message);
    free(text);
    return value;
}

static inline hw_tokens ids_of(const json_t *list)
{
    hw_tokens ids = {0};
    for (size_t i = 0; i < json_array_size(list); i++)
        cr_assert_eq(hw_tokens_push(&ids, (int32_t)json_integer_value(json_array_get(list, i)), NULL), HW_OK);
    return ids;
}

static inline void check_ids(const hw_tokenizer *t, const char *name, const json_t *text, bool special,
                             const json_t *want)
{
    hw_error err = {.rank = -1};
    hw_tokens got = {0}, ids = ids_of(want);
    const char *s = json_string_value(text);
    hw_status st = hw_tokenizer_encode(t, s, json_string_length(text), special, &got, &err);
    cr_assert_eq(st, HW_OK, "%s: \"%s\": %s", name, s, err.message);
    bool same = got.n == ids.n && (!ids.n || !memcmp(got.ids, ids.ids, ids.n * sizeof *ids.ids));
    if (!same)
        for (size_t i = 0; i < got.n || i < ids.n; i++)
            fprintf(stderr, "  %zu: got %d, want %d\n", i, i < got.n ? got.ids[i] : -1,
                    i < ids.n ? ids.ids[i] : -1);
    cr_assert(same, "%s: \"%s\" encodes differently", name, s);
    hw_tokens_free(&got);
    hw_tokens_free(&ids);
}

/* Decoded as a list and, one token at a time, as a stream, whose parts must each be whole characters. */
static inline void check_text(const hw_tokenizer *t, const char *name, const json_t *list, bool skip,
                              const json_t *want)
{
    hw_error err = {.rank = -1};
    hw_tokens ids = ids_of(list);
    char *text;
    size_t n, joined_n = 0;
    cr_assert_eq(hw_tokenizer_decode(t, ids.ids, ids.n, skip, &text, &n, &err), HW_OK, "%s: %s", name,
                 err.message);
    cr_assert(n == json_string_length(want) && !memcmp(text, json_string_value(want), n),
              "%s: decoded \"%s\", want \"%s\"", name, text, json_string_value(want));

    hw_text_stream *stream;
    char *joined = calloc(n + 1, 1);
    cr_assert_eq(hw_text_stream_create(&stream, t, skip, &err), HW_OK);
    for (size_t i = 0; i <= ids.n; i++) {
        const char *part;
        size_t part_n;
        hw_status st = i < ids.n ? hw_text_stream_push(stream, ids.ids[i], &part, &part_n, &err)
                                 : hw_text_stream_finish(stream, &part, &part_n, &err);
        cr_assert_eq(st, HW_OK, "%s", err.message);
        cr_assert(joined_n + part_n <= n, "%s: the stream says more than \"%s\"", name, text);
        json_t *valid = json_stringn(part, part_n); /* jansson takes valid UTF-8 only */
        cr_assert(valid, "%s: part of a character of \"%s\"", name, text);
        json_decref(valid);
        memcpy(joined + joined_n, part, part_n);
        joined_n += part_n;
    }
    cr_assert(joined_n == n && !memcmp(joined, text, n), "%s: streamed \"%s\", want \"%s\"", name, joined,
              text);
    hw_text_stream_destroy(stream);
    free(joined);
    free(text);
    hw_tokens_free(&ids);
}

/* All of {"encode": [...], "decode": [...]}. Returns how many there were. */
static inline size_t check_cases(const hw_tokenizer *t, const char *name, const json_t *cases)
{
    const json_t *encode = json_object_get(cases, "encode"), *decode = json_object_get(cases, "decode");
    for (size_t i = 0; i < json_array_size(encode); i++) {
        const json_t *c = json_array_get(encode, i), *special = json_object_get(c, "ids_with_special");
        check_ids(t, name, json_object_get(c, "text"), false, json_object_get(c, "ids"));
        check_ids(t, name, json_object_get(c, "text"), true, special);
        check_text(t, name, special, false, json_object_get(c, "decoded"));
        check_text(t, name, special, true, json_object_get(c, "decoded_skip_special"));
    }
    for (size_t i = 0; i < json_array_size(decode); i++) {
        const json_t *c = json_array_get(decode, i), *ids = json_object_get(c, "ids");
        check_text(t, name, ids, false, json_object_get(c, "decoded"));
        check_text(t, name, ids, true, json_object_get(c, "decoded_skip_special"));
    }
    return json_array_size(encode) + json_array_size(decode);
}

#endif
