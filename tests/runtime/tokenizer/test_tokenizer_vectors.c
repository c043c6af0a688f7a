/* Equal to Hugging Face's `tokenizers`, token for token and byte for byte; see
 * tests/vectors/tokenizers/README.md. */
#include "tests/runtime/tokenizer/vectors.h"

static void check_folder(const char *folder, const char *cases_of)
{
    hw_error err = {.rank = -1};
    hw_tokenizer *t;
    char path[512];
    cr_assert_eq(hw_tokenizer_open(&t, folder, &err), HW_OK, "%s", err.message);
    snprintf(path, sizeof path, VECTORS "%s/cases.json", cases_of);
    json_t *cases = read_json(path);
    cr_assert_gt(check_cases(t, cases_of, cases), 300);
    json_decref(cases);
    hw_tokenizer_destroy(t);
}

Test(tokenizer_vectors, gpt2_equals_hugging_face) { check_folder(VECTORS "gpt2", "gpt2"); }
Test(tokenizer_vectors, llama3_equals_hugging_face) { check_folder(VECTORS "llama3", "llama3"); }
Test(tokenizer_vectors, qwen2_equals_hugging_face) { check_folder(VECTORS "qwen2", "qwen2"); }
Test(tokenizer_vectors, llama2_equals_hugging_face) { check_folder(VECTORS "llama2", "llama2"); }
Test(tokenizer_vectors, mistral_equals_hugging_face) { check_folder(VECTORS "mistral", "mistral"); }
Test(tokenizer_vectors, demo_model_equals_hugging_face)
{
    check_folder(HW_SOURCE_DIR "/models/tales", "tales");
}

/* Every split behaviour, normal form, Metaspace scheme, kind of added token and decoder, each in a
 * tokenizer of its own. */
Test(tokenizer_vectors, small_tokenizers_equal_hugging_face)
{
    hw_error err = {.rank = -1};
    json_t *all = read_json(VECTORS "small.json");
    cr_assert_gt(json_array_size(all), 50);
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *one = json_array_get(all, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        char *text = json_dumps(json_object_get(one, "tokenizer"), 0);
        hw_tokenizer *t;
        cr_assert_eq(hw_tokenizer_create(&t, text, strlen(text), name, &err), HW_OK, "%s", err.message);
        cr_assert_gt(check_cases(t, name, one), 40);
        hw_tokenizer_destroy(t);
        free(text);
    }
    json_decref(all);
}
