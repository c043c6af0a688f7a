/* Which characters a class of an expression has, against tests/vectors/tokenizers/classes.json. */
#include "runtime/tokenizer/pattern.h"
#include "runtime/tokenizer/unicode.h"
#include "tests/runtime/tokenizer/vectors.h"

/* FNV-1a over code points, three bytes each. */
static uint64_t add_to_hash(uint64_t h, uint32_t cp)
{
    for (int i = 0; i < 3; i++) h = (h ^ (cp >> 8 * i & 255)) * UINT64_C(0x100000001B3);
    return h;
}

/* Every character once; the caller frees it. */
static char *all_characters(size_t *n)
{
    char *text = malloc(0x110000 * 4);
    *n = 0;
    for (uint32_t cp = 0; cp < 0x110000; cp++)
        if (cp < 0xD800 || cp >= 0xE000) *n += hw_utf8_encode(cp, text + *n);
    return text;
}

static void check_class(const char *text, size_t n_text, const char *regex, long long n_wanted,
                        const char *hash_wanted)
{
    hw_error err = {.rank = -1};
    hw_pattern p;
    char hash[17];
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    long long n = 0;
    size_t start, end;
    bool found = true;
    cr_assert_eq(hw_pattern_regex(&p, regex, strlen(regex), "a test", &err), HW_OK, "%s", err.message);
    pcre2_match_data *scratch = pcre2_match_data_create(1, NULL);
    for (hw_search s = hw_search_start(&p, scratch, text, n_text); found; n += found) {
        uint32_t cp;
        cr_assert_eq(hw_search_next(&s, &start, &end, &found, &err), HW_OK, "%s", err.message);
        if (found) hw_utf8_first(text + start, &cp), h = add_to_hash(h, cp);
    }
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)h);
    cr_expect(n == n_wanted && !strcmp(hash, hash_wanted), "%s has %lld characters, wanted %lld", regex, n,
              n_wanted);
    pcre2_match_data_free(scratch);
    hw_pattern_free(&p);
}

/* In every version of PCRE2, with its Unicode or an older or a newer one. */
Test(pattern, classes_have_the_characters_that_they_have_in_tokenizers)
{
    size_t n;
    char *text = all_characters(&n);
    json_t *file = read_json(VECTORS "classes.json");
    const json_t *classes = json_object_get(file, "classes");
    cr_assert_gt(json_array_size(classes), 80);
    for (size_t i = 0; i < json_array_size(classes); i++) {
        const json_t *c = json_array_get(classes, i);
        check_class(text, n, json_string_value(json_object_get(c, "regex")),
                    json_integer_value(json_object_get(c, "n")),
                    json_string_value(json_object_get(c, "hash")));
    }
    json_decref(file);
    free(text);
}
