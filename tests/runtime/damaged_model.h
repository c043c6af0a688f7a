/* A copy of a model of which one token's row of the embedding is not a number. */
#ifndef HW_TESTS_RUNTIME_DAMAGED_MODEL_H
#define HW_TESTS_RUNTIME_DAMAGED_MODEL_H

#include "runtime/base/json.h"
#include "tests/runtime/weights/checkpoint_files.h"

static inline void copy_file(const char *from_folder, const char *name)
{
    char path[4096], *bytes;
    size_t n;
    hw_error err;
    snprintf(path, sizeof path, "%s/%s", from_folder, name);
    cr_assert_eq(hw_file_read(&bytes, &n, path, 1 << 28, HW_ERR_FAILED, &err), HW_OK, "%s", err.message);
    write_bytes(name, bytes, n);
    free(bytes);
}

/* Makes the first number of a token's row of the embedding a NaN. */
static inline void damage_row(int token, int vocab_size)
{
    hw_error err;
    char *bytes;
    size_t n;
    cr_assert_eq(hw_file_read(&bytes, &n, in_folder("model.safetensors"), 1 << 28, HW_ERR_FAILED, &err),
                 HW_OK);
    size_t n_header = (size_t)(unsigned char)bytes[0] | (size_t)(unsigned char)bytes[1] << 8 |
                      (size_t)(unsigned char)bytes[2] << 16;
    json_t *header;
    cr_assert_eq(hw_json_parse(&header, bytes + 8, n_header, "header", HW_ERR_FAILED, &err), HW_OK, "%s",
                 err.message);
    json_t *offsets = json_object_get(json_object_get(header, "model.embed_tokens.weight"), "data_offsets");
    size_t begin = (size_t)json_integer_value(json_array_get(offsets, 0));
    size_t end = (size_t)json_integer_value(json_array_get(offsets, 1));
    cr_assert_gt(end, begin);
    /* All ones is a NaN in each of the three types. */
    memset(bytes + 8 + n_header + begin + (end - begin) / (size_t)vocab_size * (size_t)token, 0xff, 4);
    write_bytes("model.safetensors", bytes, n);
    json_decref(header);
    free(bytes);
}

/* Config and weights, into the test's folder. */
static inline void copy_damaged(const char *from_folder, int token, int vocab_size)
{
    copy_file(from_folder, "config.json");
    copy_file(from_folder, "model.safetensors");
    damage_row(token, vocab_size);
}

#endif
