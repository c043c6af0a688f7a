/* Normal forms of characters that are younger than the tables of Hugging Face's tokenizers; small.json has the others. */
#include "runtime/tokenizer/unicode.h"
#include "tests/runtime/tokenizer/vectors.h"

Test(normal_form, characters_that_tokenizers_does_not_know_stay_as_they_are)
{
    static const char *const names[] = {"NFC", "NFD", "NFKC", "NFKD"};
    json_t *file = read_json(VECTORS "normal_forms.json");
    const json_t *text = json_object_get(file, "text");
    for (int form = HW_NFC; form <= HW_NFKD; form++) {
        hw_error err = {.rank = -1};
        hw_bytes got = {0};
        char hash[17];
        uint64_t h = UINT64_C(0xCBF29CE484222325); /* FNV-1a */
        cr_assert_eq(
            hw_normalize(&got, json_string_value(text), json_string_length(text), (hw_normal_form)form, &err),
            HW_OK, "%s", err.message);
        for (size_t i = 0; i < got.n; i++) h = (h ^ (unsigned char)got.data[i]) * UINT64_C(0x100000001B3);
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)h);
        cr_expect_str_eq(hash, json_string_value(json_object_get(file, names[form])), "%s", names[form]);
        hw_bytes_free(&got);
    }
    json_decref(file);
}
