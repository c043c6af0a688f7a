/* Files beside tokenizer.json that change what transformers makes of it. What they change was tried with transformers 5.23:
 * tokens of every list here get ids of their own, and classes that build their parts anew follow add_prefix_space. */
#include "runtime/tokenizer/tokenizer.h"
#include "tests/runtime/weights/checkpoint_files.h"

TestSuite(companions, .init = make_folder, .fini = remove_folder);

#define TOKENIZER(parts)                                                                                     \
    "{\"version\": \"1.0\", " parts                                                                          \
    " \"added_tokens\": [{\"id\": 2, \"content\": \"<s>\", \"single_word\": false,"                          \
    " \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}],"                     \
    " \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": []}}"
#define BYTES(prefix) "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": " prefix "},"

/* `says` is part of the refusal; NULL: the folder is read. */
static void check(const char *tokenizer, const char *config, const char *added, const char *says)
{
    hw_error err = {.rank = -1};
    hw_tokenizer *t;
    write_text("tokenizer.json", tokenizer);
    write_text("tokenizer_config.json", config);
    write_text("added_tokens.json", added);
    const hw_status st = hw_tokenizer_open(&t, test_folder, &err);
    if (!says) cr_expect_eq(st, HW_OK, "%s: %s", config, err.message);
    else cr_expect(st == HW_ERR_MODEL && !t && strstr(err.message, says), "%s: %s", config, err.message);
    hw_tokenizer_destroy(t);
}

Test(companions, tokens_that_tokenizer_json_lacks_are_refused_by_name)
{
    const char *file = TOKENIZER("");
    check(file, "{}", "{}", NULL);
    check(file, "{\"bos_token\": \"<s>\", \"pad_token\": null, \"unk_token\": {\"content\": \"<s>\"}}",
          "{\"<s>\": 2}", NULL);
    check(file, "{\"added_tokens_decoder\": {\"2\": {\"content\": \"<s>\"}}}", "{}", NULL);
    check(file, "{\"added_tokens_decoder\": {\"3\": {\"content\": \"<x>\"}}}", "{}",
          "tokenizer_config.json: token \"<x>\"");
    check(file, "{\"pad_token\": \"<pad>\"}", "{}", "tokenizer_config.json: token \"<pad>\"");
    check(file, "{\"additional_special_tokens\": [\"<s>\", \"<y>\"]}", "{}", "token \"<y>\"");
    check(file, "{}", "{\"<z>\": 3}", "added_tokens.json: token \"<z>\"");
    check(file, "{}", "{\"a\": 0}", "added_tokens.json: token \"a\"");   /* a word, but not an added one */
    check(file, "{\"added_tokens_decoder\": {}}", "{\"<z>\": 3}", NULL); /* is not looked at then */
    check(file, "{", "{}", "tokenizer_config.json");
}

Test(companions, blank_in_front_of_a_text_must_be_the_same_in_both)
{
    static const char with[] = TOKENIZER(BYTES("true")), without[] = TOKENIZER(BYTES("false"));
    static const char yes[] = "{\"tokenizer_class\": \"GPT2Tokenizer\", \"add_prefix_space\": true}",
                      no[] = "{\"tokenizer_class\": \"GPT2Tokenizer\", \"add_prefix_space\": false}";
    check(with, yes, "{}", NULL);
    check(without, no, "{}", NULL);
    check(with, no, "{}", "\"add_prefix_space\" is false");
    check(without, yes, "{}", "\"add_prefix_space\" is true");
    check(without, "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"add_prefix_space\": true}", "{}",
          NULL);
}
