/* What a tokenizer refuses, and what it promises beyond the vectors. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/tokenizer.h"

#define MODEL                                                                                                \
    "\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \"<u>\": 3}, \"merges\": [\"a b\"]"

/* A tokenizer.json of the usual parts; `more` is put beside the model and `model` into it. */
static hw_status create(hw_tokenizer **t, const char *more, const char *model, hw_error *err)
{
    char json[4096];
    int n = snprintf(json, sizeof json, "{\"version\": \"1.0\", %s \"model\": {%s}}", more, model);
    cr_assert_lt(n, (int)sizeof json);
    err->message[0] = '\0';
    return hw_tokenizer_create(t, json, (size_t)n, "tokenizer.json", err);
}

typedef struct refusal {
    const char *more, *model, *says;
} refusal;

static void check_refusals(const refusal *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        hw_error err;
        hw_tokenizer *t;
        hw_status st = create(&t, cases[i].more, cases[i].model, &err);
        cr_assert_eq(st, HW_ERR_MODEL, "%s: status %d: %s", cases[i].says, st, err.message);
        cr_assert_null(t);
        cr_assert(strstr(err.message, cases[i].says), "\"%s\" is not in \"%s\"", cases[i].says, err.message);
        cr_assert_eq(strncmp(err.message, "tokenizer.json", 14), 0, "%s", err.message);
    }
}

#define CHECK_REFUSALS(cases) check_refusals(cases, sizeof(cases) / sizeof *(cases))

Test(tokenizer, names_the_part_that_it_does_not_support)
{
    static const refusal cases[] = {
        {"\"normalizer\": {\"type\": \"Lowercase\"},", MODEL, "normalizer: type \"Lowercase\""},
        {"\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": "
         "\"Nmt\"}]},",
         MODEL, "normalizer.normalizers[1]: type \"Nmt\""},
        {"\"pre_tokenizer\": {\"type\": \"Whitespace\"},", MODEL, "pre_tokenizer: type \"Whitespace\""},
        {"\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"speed\": 1},", MODEL,
         "key \"speed\""},
        {"\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"ByteLevel\", "
         "\"add_prefix_space\": true}, "
         "{\"type\": \"Digits\", \"individual_digits\": true}]},",
         MODEL, "ByteLevel must come last"},
        {"\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \"a\"}, \"behavior\": "
         "\"Sideways\", \"invert\": false},",
         MODEL, "behavior \"Sideways\""},
        {"\"post_processor\": {\"type\": \"BertProcessing\"},", MODEL,
         "post_processor: type \"BertProcessing\""},
        {"\"decoder\": {\"type\": \"WordPiece\"},", MODEL, "decoder: type \"WordPiece\""},
        {"\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, {\"type\": "
         "\"ByteFallback\"}]},",
         MODEL, "ByteFallback behind Fuse"},
        {"\"truncation\": {\"max_length\": 5},", MODEL, "\"truncation\" is set"},
        {"\"padding\": {},", MODEL, "\"padding\" is set"},
        {"\"extra\": 1,", MODEL, "key \"extra\""},
        {"\"post_processor\": {\"single\": []},", MODEL, "key \"type\" is missing"},
        {"", "\"type\": \"Unigram\", \"vocab\": []", "type \"Unigram\""},
        {"", "\"vocab\": {}", "key \"type\" is missing"},
        {"", "\"dropout\": 0.1, " MODEL, "dropout is 0.1"},
        {"", "\"continuing_subword_prefix\": \"##\", " MODEL, "continuing_subword_prefix"},
        {"", "\"end_of_word_suffix\": \"</w>\", " MODEL, "end_of_word_suffix"},
    };
    CHECK_REFUSALS(cases);
}

Test(tokenizer, refuses_what_contradicts_itself)
{
    static const refusal cases[] = {
        {"", "\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]",
         "merges[0] needs token \"b\""},
        {"", "\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": [[\"a\", \"b\"]]",
         "merges[0] needs token \"ab\""},
        {"", "\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a  a\"]", "one blank between"},
        {"", "\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [[\"a\"]]", "list of two strings"},
        {"", "\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []", "same id 0"},
        {"", "\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"a\": 1}, \"merges\": []", "duplicate"},
        {"", "\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []", "id -1"},
        {"", "\"type\": \"BPE\", \"vocab\": {\"a\": 2000000000}, \"merges\": []", "id 2000000000"},
        {"", "\"type\": \"BPE\", \"vocab\": {\"a\": 0.5}, \"merges\": []", "not an integer"},
        {"", "\"type\": \"BPE\", \"vocab\": {\"a\": 0}", "\"merges\" is missing"},
        {"\"added_tokens\": [{\"id\": 7, \"content\": \"<s>\", \"single_word\": false, \"lstrip\": false, "
         "\"rstrip\": false, "
         "\"normalized\": false, \"special\": true}],",
         MODEL, "\"<s>\" has id 7, but the next free id is 4"},
        {"\"added_tokens\": [{\"id\": 4, \"content\": \"<s>\"}],", MODEL, "key \"single_word\" is missing"},
        {"\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": "
         "\"<s>\", \"type_id\": 0}}], "
         "\"special_tokens\": {}},",
         MODEL, "\"<s>\" is in the template"},
        {"\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [], \"special_tokens\": {}},",
         MODEL, "leaves out"},
    };
    CHECK_REFUSALS(cases);
}

#define SPLIT(regex)                                                                                         \
    "\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"" regex                             \
    "\"}, \"behavior\": \"Isolated\", \"invert\": false},"

/* Each of these means one thing to Oniguruma's Ruby dialect and another to PCRE2. */
Test(tokenizer, refuses_expressions_that_two_engines_read_differently)
{
    static const refusal cases[] = {
        {SPLIT("\\\\w+"), MODEL, "\\w"},
        {SPLIT("\\\\h"), MODEL, "\\h"},
        {SPLIT("[a[bc]]"), MODEL, "class in a class"},
        {SPLIT("[a&&b]"), MODEL, "&&"},
        {SPLIT("^a"), MODEL, "^ or $"},
        {SPLIT("a{,3}"), MODEL, "{,n}"},
        {SPLIT("a{2}+"), MODEL, "}+"},
        {SPLIT("a(?i)b|c"), MODEL, "(? group"},
        {SPLIT("(*UTF)a"), MODEL, "(*"},
        {SPLIT("a)"), MODEL, "PCRE2"},
        {SPLIT("(a)\\\\1"), MODEL, "\\1"},
        {SPLIT("[a"), MODEL, "does not end"},
        {SPLIT("\\\\pL"), MODEL, "\\p without braces"},
        {SPLIT("[\\\\PN]"), MODEL, "\\p without braces"},
        {SPLIT("\\\\p{Emoji}"), MODEL, "\\p{Emoji}; known are"},
        {SPLIT("[a-\\\\p{L}]"), MODEL, "range that ends in a property"},
        {SPLIT("(?i:a[\\\\p{L}])"), MODEL, "case does not matter"},
    };
    CHECK_REFUSALS(cases);
}

Test(tokenizer, refuses_json_that_is_broken)
{
    static const char *const texts[] = {"", "{", "[]", "{\"version\": \"1.0\"}",
                                        "{\"version\": \"2.0\", \"model\": {" MODEL "}}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        hw_error err = {.rank = -1};
        hw_tokenizer *t;
        cr_assert_eq(hw_tokenizer_create(&t, texts[i], strlen(texts[i]), "tokenizer.json", &err),
                     HW_ERR_MODEL);
        cr_assert(err.message[0] && !t);
    }
    hw_error err = {.rank = -1};
    hw_tokenizer *t;
    cr_assert_eq(hw_tokenizer_open(&t, HW_SOURCE_DIR "/tests/no-such-folder", &err), HW_ERR_MODEL);
    cr_assert(strstr(err.message, "no-such-folder/tokenizer.json"));
}

Test(tokenizer, says_where_a_text_is_not_utf8)
{
    static const struct {
        const char *text;
        size_t n;
        const char *offset;
    } cases[] = {
        {"ab\xff", 3, "offset 2"},           {"abcdefghijk\xc3", 12, "offset 11"},
        {"\xed\xa0\x80", 3, "offset 0"},     {"a\xc0\x80", 3, "offset 1"},
        {"\xf4\x90\x80\x80", 4, "offset 0"}, {"\xe2\x82\xac\x80", 4, "offset 3"},
    };
    hw_error err;
    hw_tokenizer *t;
    hw_tokens ids = {0};
    cr_assert_eq(create(&t, "", MODEL, &err), HW_OK, "%s", err.message);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_assert_eq(hw_tokenizer_encode(t, cases[i].text, cases[i].n, true, &ids, &err), HW_ERR_INVALID);
        cr_assert(strstr(err.message, cases[i].offset), "%s", err.message);
        cr_assert_eq(ids.n, 0);
    }
    hw_tokenizer_destroy(t);
}

Test(tokenizer, answers_questions_about_its_tokens)
{
    hw_error err;
    hw_tokenizer *t;
    size_t n;
    cr_assert_eq(
        create(
            &t,
            "\"added_tokens\": [{\"id\": 3, \"content\": \"<u>\", \"single_word\": false, \"lstrip\": false, "
            "\"rstrip\": false, \"normalized\": false, \"special\": true}],",
            "\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"<u>\": 3, \"z\": 9}, \"merges\": []", &err),
        HW_OK, "%s", err.message);
    cr_assert_eq(hw_tokenizer_n_ids(t), 10);
    cr_assert(hw_tokenizer_has_id(t, 3) && hw_tokenizer_has_id(t, 9));
    cr_assert(!hw_tokenizer_has_id(t, 1) && !hw_tokenizer_has_id(t, -1) && !hw_tokenizer_has_id(t, 10));
    cr_assert(hw_tokenizer_is_special(t, 3) && !hw_tokenizer_is_special(t, 0) &&
              !hw_tokenizer_is_special(t, 1));
    cr_assert_eq(hw_tokenizer_id(t, "z"), 9);
    cr_assert_eq(hw_tokenizer_id(t, "y"), -1);
    cr_assert_str_eq(hw_tokenizer_content(t, 3, &n), "<u>");
    cr_assert_eq(n, 3);
    cr_assert_null(hw_tokenizer_content(t, 4, &n));
    char *text;
    cr_assert_eq(hw_tokenizer_decode(t, (int32_t[]){0, 4}, 2, false, &text, &n, &err), HW_ERR_INVALID);
    cr_assert(strstr(err.message, "id 4"));
    hw_tokenizer_destroy(t);
}

Test(tokenizer, takes_merges_from_a_list_with_repeats_and_a_version_line)
{
    hw_error err;
    hw_tokenizer *t;
    hw_tokens ids = {0};
    /* "b c" comes before "a b" at first, and again after it: the last line counts, so "abc" is ab + c. */
    cr_assert_eq(create(&t, "",
                        "\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"c\": 2, \"ab\": 3, \"bc\": 4}, "
                        "\"merges\": [\"#version: 0.2\", \"b c\", \"a b\", \"b c\"]",
                        &err),
                 HW_OK, "%s", err.message);
    cr_assert_eq(hw_tokenizer_encode(t, "abc", 3, false, &ids, &err), HW_OK);
    cr_assert(ids.n == 2 && ids.ids[0] == 3 && ids.ids[1] == 2);
    hw_tokens_free(&ids);
    hw_tokenizer_destroy(t);
}

/* Vocabulary a b c ab bc abc aa aaaa abab; the merges by rank. */
static const int32_t naive_merges[][3] = {{0, 1, 3}, {1, 2, 4}, {0, 0, 6}, {3, 2, 5},
                                          {6, 6, 7}, {3, 3, 8}, {0, 4, 5}};

/* The definition of BPE, in quadratic time: of all pairs the one of lowest rank, leftmost first, until
 * there is none. */
static size_t merge_naively(int32_t *ids, size_t n)
{
    for (;;) {
        size_t best = 99, at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (size_t r = 0; r < best && r < 7; r++)
                if (ids[i] == naive_merges[r][0] && ids[i + 1] == naive_merges[r][1]) best = r, at = i;
        if (best == 99) return n;
        ids[at] = naive_merges[best][2];
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

Test(tokenizer, merges_as_the_definition_says_at_any_length)
{
    hw_error err;
    hw_tokenizer *t;
    hw_tokens ids = {0};
    uint32_t random = 7;
    cr_assert_eq(create(&t, "",
                        "\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"c\": 2, \"ab\": 3, \"bc\": 4, "
                        "\"abc\": 5, \"aa\": 6, "
                        "\"aaaa\": 7, \"abab\": 8}, \"merges\": [\"a b\", \"b c\", \"a a\", \"ab c\", \"aa "
                        "aa\", \"ab ab\", \"a bc\"]",
                        &err),
                 HW_OK, "%s", err.message);
    for (size_t n = 1; n < 3000; n += n < 100 ? 1 : 457) {
        char text[3000];
        int32_t want[3000];
        for (size_t i = 0; i < n; i++) {
            random = random * 1664525u + 1013904223u;
            want[i] = (int32_t)((random >> 24) % 3);
            text[i] = (char)('a' + want[i]);
        }
        size_t n_want = merge_naively(want, n);
        ids.n = 0;
        cr_assert_eq(hw_tokenizer_encode(t, text, n, false, &ids, &err), HW_OK);
        cr_assert(ids.n == n_want && !memcmp(ids.ids, want, n_want * sizeof *want), "%zu letters", n);
    }
    hw_tokens_free(&ids);
    hw_tokenizer_destroy(t);
}

/* Quadratic time would take minutes here, and the test's own time limit would end it. */
Test(tokenizer, takes_a_word_of_four_mebibytes)
{
    hw_error err;
    hw_tokenizer *t;
    hw_tokens ids = {0};
    size_t n = 4u << 20;
    char *text = malloc(n);
    cr_assert(text);
    memset(text, 'a', n);
    cr_assert_eq(create(&t, "",
                        "\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"aa\": 1, \"aaaa\": 2}, \"merges\": [\"a "
                        "a\", \"aa aa\"]",
                        &err),
                 HW_OK, "%s", err.message);
    cr_assert_eq(hw_tokenizer_encode(t, text, n, false, &ids, &err), HW_OK);
    cr_assert_eq(ids.n, n / 4);
    for (size_t i = 0; i < ids.n; i++) cr_assert_eq(ids.ids[i], 2);
    hw_tokens_free(&ids);
    hw_tokenizer_destroy(t);
    free(text);
}
