/* Reading the "model" of tokenizer.json: vocabulary, merges, and the tables that encoding starts from. */
#include <stdio.h>

#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/byte_level.h"
#include "runtime/tokenizer/unicode.h"

enum { CHAR_IDS = 65536 };

void hw_bpe_free(hw_bpe *bpe)
{
    free(bpe->merges);
    free(bpe->merged);
    free(bpe->char_ids);
    free(bpe->unk_token);
    hw_vocab_free(&bpe->whole);
    *bpe = (hw_bpe){0};
}

static hw_status no_memory(const hw_node *model, size_t n)
{
    return hw_fail(model->at.err, HW_ERR_NO_MEMORY, "%s: no memory for %zu merges", model->name, n);
}

static hw_status read_vocab(hw_vocab *vocab, const hw_node *model)
{
    hw_node node;
    const char *token;
    json_t *id;
    hw_status st = hw_json_need(model->at, "vocab");
    if (!st) st = hw_node_open(&node, model, json_object_get(model->at.object, "vocab"), "vocab");
    if (!st) st = hw_vocab_create(vocab, json_object_size(node.at.object), model->at.err);
    if (st) return st;
    json_object_foreach((json_t *)node.at.object, token, id)
    {
        if (!json_is_integer(id))
            return hw_fail(model->at.err, model->at.failure,
                           "%s: the id of token \"%.60s\" is not an integer", node.name, token);
        st = hw_vocab_add(vocab, json_integer_value(id), token, strlen(token), HW_TOKEN_MODEL, model->at.err);
        if (st) return hw_context(model->at.err, st, "%s", node.name);
    }
    return HW_OK;
}

/* ---- merges */

typedef struct text_pair {
    const char *left, *right;
    size_t n_left, n_right;
} text_pair;

/* A merge is "left right" in older files, ["left", "right"] in newer ones. A file is written in one of the
 * two ways. */
static hw_status read_pair(text_pair *out, const json_t *merge, bool as_list, const hw_node *model,
                           size_t line)
{
    if (as_list && json_is_array(merge) && json_array_size(merge) == 2 &&
        json_is_string(json_array_get(merge, 0)) && json_is_string(json_array_get(merge, 1))) {
        const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
        *out = (text_pair){json_string_value(left), json_string_value(right), json_string_length(left),
                           json_string_length(right)};
        return HW_OK;
    }
    if (!as_list && json_is_string(merge)) {
        const char *text = json_string_value(merge);
        size_t n = json_string_length(merge);
        const char *blank = memchr(text, ' ', n);
        if (blank && !memchr(blank + 1, ' ', n - (size_t)(blank + 1 - text))) {
            *out = (text_pair){text, blank + 1, (size_t)(blank - text), n - (size_t)(blank + 1 - text)};
            return HW_OK;
        }
    }
    return hw_fail(model->at.err, model->at.failure, "%s: merges[%zu] is not %s", model->name, line,
                   as_list ? "a list of two strings" : "two tokens with one blank between them");
}

static hw_status find_token(int32_t *id, const hw_vocab *vocab, const char *text, size_t n,
                            const hw_node *model, size_t line)
{
    *id = hw_vocab_find(vocab, text, n);
    if (*id >= 0) return HW_OK;
    return hw_fail(model->at.err, model->at.failure,
                   "%s: merges[%zu] needs token \"%.*s\", which the vocab lacks", model->name, line,
                   n > 60 ? 60 : (int)n, text);
}

/* A pair that is listed twice has the rank of its last line, as in Hugging Face's reader. */
static void put_merge(hw_bpe *bpe, int32_t left, int32_t right, uint32_t rank)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint64_t h = pair * 0x9E3779B97F4A7C15u;
    size_t at = (h ^ h >> 32) & (bpe->n_slots - 1);
    while (bpe->merges[at].pair != UINT64_MAX && bpe->merges[at].pair != pair)
        at = (at + 1) & (bpe->n_slots - 1);
    bpe->merges[at] = (struct hw_merge_slot){pair, rank};
}

static bool begins_word(text_pair p) { return p.n_right >= 3 && !memcmp(p.right, HW_WORD_MARK, 3); }
static bool ends_in_mark(text_pair p)
{
    return p.n_left >= 3 && !memcmp(p.left + p.n_left - 3, HW_WORD_MARK, 3);
}

static hw_status add_merge(hw_bpe *bpe, const hw_vocab *vocab, hw_bytes *joined, text_pair p,
                           const hw_node *model, size_t line)
{
    int32_t left, right, both;
    hw_error *err = model->at.err;
    hw_status st = find_token(&left, vocab, p.left, p.n_left, model, line);
    if (!st) st = find_token(&right, vocab, p.right, p.n_right, model, line);
    joined->n = 0;
    if (!st) st = hw_bytes_append(joined, p.left, p.n_left, err);
    if (!st) st = hw_bytes_append(joined, p.right, p.n_right, err);
    if (!st) st = find_token(&both, vocab, joined->data, joined->n, model, line);
    if (st) return st;
    if (begins_word(p) && !ends_in_mark(p)) bpe->cut_words = false;
    put_merge(bpe, left, right, (uint32_t)bpe->n_merges);
    bpe->merged[bpe->n_merges++] = both;
    return HW_OK;
}

static bool is_version_line(const json_t *merge)
{
    return json_is_string(merge) && !strncmp(json_string_value(merge), "#version", 8);
}

static hw_status read_merges(hw_bpe *bpe, const hw_vocab *vocab, const hw_node *model)
{
    const json_t *list;
    hw_bytes joined = {0};
    hw_status st = hw_node_list(model, "merges", &list);
    if (st) return st;
    size_t n = json_array_size(list);
    bool as_list = n && json_is_array(json_array_get(list, 0));
    bpe->n_slots = 16;
    while (bpe->n_slots < 2 * n) bpe->n_slots *= 2;
    bpe->merges = malloc(bpe->n_slots * sizeof *bpe->merges);
    bpe->merged = malloc((n + 1) * sizeof *bpe->merged);
    if (!bpe->merges || !bpe->merged) return no_memory(model, n);
    for (size_t i = 0; i < bpe->n_slots; i++) bpe->merges[i].pair = UINT64_MAX;
    for (size_t i = 0; i < n && !st; i++) {
        text_pair pair = {0};
        const json_t *merge = json_array_get(list, i);
        if (is_version_line(merge)) continue;
        st = read_pair(&pair, merge, as_list, model, i);
        if (!st) st = add_merge(bpe, vocab, &joined, pair, model, i);
    }
    hw_bytes_free(&joined);
    return st;
}

/* ---- the tables that encoding starts from */

static void fill_byte_ids(hw_bpe *bpe, const hw_vocab *vocab)
{
    for (int b = 0; b < 256; b++) {
        char text[8];
        bpe->byte_ids[b] = hw_vocab_find(vocab, text, hw_utf8_encode(hw_byte_char((uint8_t)b), text));
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
        bpe->fallback[b] = hw_vocab_find(vocab, text, 6);
    }
}

/* With ignore_merges a piece is first looked up whole; the piece is raw bytes, so the table is one of raw
 * bytes. Tokens with a character outside the alphabet match no piece. */
static hw_status fill_whole(hw_bpe *bpe, const hw_vocab *vocab, hw_error *err)
{
    hw_bytes raw = {0};
    hw_status st = hw_vocab_create(&bpe->whole, vocab->n_tokens, err);
    for (size_t id = 0; id < vocab->n_ids && !st; id++) {
        size_t n, i = 0;
        if (!hw_vocab_has(vocab, (int64_t)id)) continue;
        const char *text = hw_vocab_text(vocab, (int32_t)id, &n);
        for (raw.n = 0; i < n && !st;) {
            uint32_t cp;
            i += hw_utf8_first(text + i, &cp);
            int byte = hw_byte_of_char(cp);
            if (byte < 0) break;
            st = hw_bytes_append(&raw, &(char){(char)byte}, 1, err);
            if (i == n && !st)
                st = hw_vocab_add(&bpe->whole, (int64_t)id, raw.data, raw.n, HW_TOKEN_MODEL, err);
        }
    }
    hw_bytes_free(&raw);
    return st;
}

static hw_status fill_char_ids(hw_bpe *bpe, const hw_vocab *vocab, hw_error *err)
{
    bpe->char_ids = malloc(CHAR_IDS * sizeof *bpe->char_ids);
    if (!bpe->char_ids) return hw_fail(err, HW_ERR_NO_MEMORY, "tokenizer: no memory for the characters");
    for (int cp = 0; cp < CHAR_IDS; cp++) bpe->char_ids[cp] = -1;
    for (size_t id = 0; id < vocab->n_ids; id++) {
        size_t n;
        uint32_t cp;
        if (!hw_vocab_has(vocab, (int64_t)id)) continue;
        const char *text = hw_vocab_text(vocab, (int32_t)id, &n);
        if (!n || hw_utf8_length(*text) != n) continue;
        hw_utf8_first(text, &cp);
        if (cp < CHAR_IDS) bpe->char_ids[cp] = (int32_t)id;
    }
    return HW_OK;
}

/* Settings of other kinds of BPE, which are refused unless they say nothing. */
static hw_status check_settings(const hw_node *model)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    double dropout = 0;
    hw_status st = hw_json_number(model->at, "dropout", 0, 1, &dropout);
    if (!st && dropout != 0)
        st = hw_fail(model->at.err, model->at.failure, "%s: dropout is %g; only null and 0 are supported",
                     model->name, dropout);
    for (int i = 0; i < 2 && !st; i++) {
        const char *text;
        size_t n;
        st = hw_node_text(model, affixes[i], &text, &n);
        if (!st && n)
            st = hw_fail(model->at.err, model->at.failure,
                         "%s: %s is \"%.20s\"; only null and \"\" are supported", model->name, affixes[i],
                         text);
    }
    return st;
}

static hw_status read_settings(hw_bpe *bpe, const hw_vocab *vocab, const hw_node *model)
{
    const char *unk;
    size_t n;
    hw_status st = check_settings(model);
    if (!st) st = hw_json_bool(model->at, "fuse_unk", &bpe->fuse_unk);
    if (!st) st = hw_json_bool(model->at, "byte_fallback", &bpe->byte_fallback);
    if (!st) st = hw_json_bool(model->at, "ignore_merges", &bpe->ignore_merges);
    if (!st) st = hw_node_text(model, "unk_token", &unk, &n);
    bpe->unk_id = -1;
    if (st || !unk) return st;
    if (!(bpe->unk_token = strdup(unk))) return no_memory(model, 0);
    bpe->unk_id = hw_vocab_find(vocab, unk, n);
    return HW_OK;
}

hw_status hw_bpe_load(hw_bpe *bpe, hw_vocab *vocab, const hw_node *model, bool of_bytes)
{
    const char *type = NULL;
    *bpe = (hw_bpe){.of_bytes = of_bytes, .cut_words = !of_bytes, .unk_id = -1};
    /* The oldest files, GPT-2's among them, do not name the type; only a BPE model has merges. */
    hw_status st = hw_json_string(model->at, "type", &type);
    if (!st && !type && !json_object_get(model->at.object, "merges")) st = hw_json_need(model->at, "type");
    if (!st && type && strcmp(type, "BPE") != 0) st = hw_node_unsupported(model, type, "BPE");
    if (!st)
        st = hw_node_only(model,
                          "type dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk "
                          "byte_fallback ignore_merges vocab merges");
    if (!st) st = read_vocab(vocab, model);
    if (!st) st = read_settings(bpe, vocab, model);
    if (!st) st = read_merges(bpe, vocab, model);
    if (st) return st;
    fill_byte_ids(bpe, vocab);
    /* Cutting at words is only sound when the mark itself is a symbol and a piece is not first looked up
     * whole. */
    if (hw_vocab_find(vocab, HW_WORD_MARK, 3) < 0 || bpe->ignore_merges) bpe->cut_words = false;
    if (!of_bytes) return fill_char_ids(bpe, vocab, model->at.err);
    return bpe->ignore_merges ? fill_whole(bpe, vocab, model->at.err) : HW_OK;
}
