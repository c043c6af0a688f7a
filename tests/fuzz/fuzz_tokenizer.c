/* Any file as a tokenizer.json, and any text with a tokenizer. An input is a file, one zero byte and a
 * text; when the file is a single letter, it names one of the tokenizers in tests/vectors. Beyond not
 * crashing: what is encoded has ids that exist, and decodes as a stream to what it decodes to as a list. */
#include <string.h>

#include "runtime/tokenizer/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static void check_stream(const hw_tokenizer *t, const hw_tokens *ids, bool skip)
{
    hw_error err = {.rank = -1};
    hw_text_stream *s;
    char *text;
    size_t n, at = 0;
    HW_FUZZ_CHECK(!hw_tokenizer_decode(t, ids->ids, ids->n, skip, &text, &n, &err));
    HW_FUZZ_CHECK(!hw_text_stream_create(&s, t, skip, &err));
    for (size_t i = 0; i <= ids->n; i++) {
        const char *part;
        size_t part_n;
        hw_status st = i < ids->n ? hw_text_stream_push(s, ids->ids[i], &part, &part_n, &err)
                                  : hw_text_stream_finish(s, &part, &part_n, &err);
        HW_FUZZ_CHECK(!st && part_n <= n - at && !memcmp(part, text + at, part_n));
        HW_FUZZ_CHECK(!part_n || ((unsigned char)*part & 0xC0) != 0x80);
        at += part_n;
    }
    HW_FUZZ_CHECK(at == n && text[n] == '\0');
    hw_text_stream_destroy(s);
    free(text);
}

/* Encoding adds to a list; a second run adds the same again. */
static void use(const hw_tokenizer *t, const char *text, size_t n)
{
    hw_error err = {.rank = -1};
    hw_tokens ids = {0};
    hw_status st = hw_tokenizer_encode(t, text, n, true, &ids, &err);
    HW_FUZZ_CHECK(st == HW_OK || st == HW_ERR_INVALID || st == HW_ERR_MODEL || st == HW_ERR_FAILED);
    if (st) {
        check_message(&err);
    } else {
        size_t once = ids.n;
        for (size_t i = 0; i < once; i++) HW_FUZZ_CHECK(hw_tokenizer_has_id(t, ids.ids[i]));
        HW_FUZZ_CHECK(!hw_tokenizer_encode(t, text, n, true, &ids, &err) && ids.n == 2 * once);
        HW_FUZZ_CHECK(!once || !memcmp(ids.ids, ids.ids + once, once * sizeof *ids.ids));
        check_stream(t, &ids, false);
        check_stream(t, &ids, true);
    }
    hw_tokens_free(&ids);
    /* The bytes of the text as ids, which no encoder would put in this order. */
    for (size_t i = 0; i + 1 < n && i < 512; i += 2) {
        int32_t id = (unsigned char)text[i] | (unsigned char)text[i + 1] << 8;
        if (hw_tokenizer_n_ids(t)) id %= (int32_t)hw_tokenizer_n_ids(t);
        if (hw_tokenizer_has_id(t, id)) HW_FUZZ_CHECK(!hw_tokens_push(&ids, id, &err));
    }
    check_stream(t, &ids, false);
    check_stream(t, &ids, true);
    hw_tokens_free(&ids);
}

/* Loaded once and kept until the program ends. */
static const hw_tokenizer *known(uint8_t letter)
{
    static const char *const folders[] = {"gpt2", "llama3", "qwen2", "llama2", "mistral"};
    static hw_tokenizer *loaded[5];
    unsigned i = letter % 5u;
    hw_error err;
    char path[512];
    snprintf(path, sizeof path, HW_SOURCE_DIR "/tests/vectors/tokenizers/%s", folders[i]);
    if (!loaded[i]) HW_FUZZ_CHECK(!hw_tokenizer_open(&loaded[i], path, &err));
    return loaded[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const uint8_t *zero = n_bytes ? memchr(data, 0, n_bytes) : NULL;
    size_t n_file = zero ? (size_t)(zero - data) : n_bytes;
    const char *text = zero ? (const char *)zero + 1 : "";
    size_t n_text = zero ? n_bytes - n_file - 1 : 0;
    if (n_file == 1) {
        use(known(*data), text, n_text);
        return 0;
    }
    hw_error err = {.rank = -1};
    hw_tokenizer *t;
    hw_status st = hw_tokenizer_create(&t, (const char *)data, n_file, "tokenizer.json", &err);
    HW_FUZZ_CHECK((st == HW_OK) == (t != NULL));
    if (st) {
        HW_FUZZ_CHECK(st == HW_ERR_MODEL);
        check_message(&err);
        return 0;
    }
    use(t, text, n_text);
    hw_tokenizer_destroy(t);
    return 0;
}
