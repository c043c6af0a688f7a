#include "runtime/tokenizer/added.h"

void hw_added_free(hw_added *a)
{
    for (size_t i = 0; i < a->n; i++) free(a->tokens[i].text);
    free(a->tokens);
    free(a->raw.tokens);
    free(a->normalized.tokens);
    *a = (hw_added){0};
}

static hw_status no_memory(const hw_node *node)
{
    return hw_fail(node->at.err, HW_ERR_NO_MEMORY, "%s: no memory for the added tokens", node->name);
}

/* The id that Hugging Face's reader gives a token: the model's if it has the content, else the next free
 * one. It does not look at the "id" in the file, so a file where the two differ is read differently by
 * different programs, and refused. */
static hw_status check_id(const hw_vocab *vocab, const char *content, size_t n, int64_t id, int64_t next_id,
                          const hw_node *node)
{
    int32_t known = hw_vocab_find(vocab, content, n);
    int64_t want = known >= 0 ? known : next_id;
    if (id == want) return HW_OK;
    return hw_fail(node->at.err, node->at.failure, "%s: \"%.60s\" has id %lld, but %s %lld", node->name,
                   content, (long long)id, known >= 0 ? "the vocab says" : "the next free id is",
                   (long long)want);
}

/* What the token looks like in a normalised text, which is also what the decoder is given. */
static hw_status normalize_content(hw_added_token *token, hw_vocab *vocab, const hw_normalizer *normalizer,
                                   const char *content, size_t n, const hw_node *node)
{
    hw_bytes buffers[2] = {{0}, {0}};
    hw_error *err = node->at.err;
    pcre2_match_data *scratch = pcre2_match_data_create(1, NULL);
    hw_status st = scratch ? HW_OK : no_memory(node);
    if (!st && token->normalized)
        st = hw_normalizer_run(normalizer, buffers, scratch, content, n, &content, &n, err);
    if (!st && !n)
        st = hw_fail(err, node->at.failure, "%s: nothing is left of it when it is normalised", node->name);
    if (!st && !(token->text = malloc(n + 1))) st = no_memory(node);
    if (!st) {
        memcpy(token->text, content, n);
        token->text[n] = '\0';
        token->n_text = n;
        hw_vocab_entry *entry = &vocab->entries[token->id];
        uint32_t start = (uint32_t)vocab->strings.n;
        if (n != entry->n_bytes || memcmp(vocab->strings.data + entry->start, content, n) != 0) {
            st = hw_bytes_append(&vocab->strings, token->text, n + 1, err);
            entry->shown_start = start;
            entry->n_shown_bytes = (uint32_t)n;
        }
    }
    pcre2_match_data_free(scratch);
    hw_bytes_free(&buffers[0]);
    hw_bytes_free(&buffers[1]);
    return st;
}

static hw_status read_token(hw_added *out, hw_vocab *vocab, const hw_normalizer *normalizer,
                            const hw_node *node, int64_t next_id)
{
    const char *content;
    size_t n;
    int64_t id = -1;
    hw_added_token token = {0};
    hw_status st = hw_node_only(node, "id content single_word lstrip rstrip normalized special");
    if (!st) st = hw_json_need(node->at, "content");
    if (!st) st = hw_node_text(node, "content", &content, &n);
    if (!st) st = hw_json_need(node->at, "id");
    if (!st) st = hw_json_int(node->at, "id", 0, HW_VOCAB_MAX_IDS - 1, &id);
    if (!st) st = hw_node_flag(node, "single_word", &token.single_word);
    if (!st) st = hw_node_flag(node, "lstrip", &token.lstrip);
    if (!st) st = hw_node_flag(node, "rstrip", &token.rstrip);
    if (!st) st = hw_node_flag(node, "normalized", &token.normalized);
    if (!st) st = hw_node_flag(node, "special", &token.special);
    if (st || !n) return st; /* an empty token can never be found */
    if ((st = check_id(vocab, content, n, id, next_id, node))) return st;
    if (!hw_vocab_has(vocab, id)) st = hw_vocab_add(vocab, id, content, n, 0, node->at.err);
    if (st) return hw_context(node->at.err, st, "%s", node->name);
    hw_vocab_entry *entry = &vocab->entries[id];
    if (entry->flags & HW_TOKEN_ADDED)
        return hw_fail(node->at.err, node->at.failure, "%s: \"%.60s\" is listed twice", node->name, content);
    entry->flags |= HW_TOKEN_ADDED | (token.special ? HW_TOKEN_SPECIAL : 0);
    token.id = (int32_t)id;
    out->tokens[out->n] = token;
    return normalize_content(&out->tokens[out->n++], vocab, normalizer, content, n, node);
}

/* A decoder is asked for tokens by what it shows, and so is the list of those to hide: a special token
 * that looks different when it is normalised is not hidden, and a token that comes to look like a special
 * one is. */
static void mark_hidden(const hw_added *a, hw_vocab *vocab)
{
    for (size_t i = 0; i < a->n; i++) {
        hw_vocab_entry *entry = &vocab->entries[a->tokens[i].id];
        int32_t looks_like =
            hw_vocab_find(vocab, vocab->strings.data + entry->shown_start, entry->n_shown_bytes);
        if (looks_like >= 0 && vocab->entries[looks_like].flags & HW_TOKEN_SPECIAL)
            entry->flags |= HW_TOKEN_HIDDEN;
    }
}

/* ---- the two sets */

static int compare(const void *a, const void *b)
{
    const hw_added_token *x = *(const hw_added_token *const *)a, *y = *(const hw_added_token *const *)b;
    int order = memcmp(x->text, y->text, x->n_text < y->n_text ? x->n_text : y->n_text);
    return order ? order : (x->n_text > y->n_text) - (x->n_text < y->n_text);
}

static hw_status build_set(hw_added_set *set, const hw_added *a, bool normalized, const hw_node *top)
{
    if (!(set->tokens = malloc((a->n + 1) * sizeof *set->tokens))) return no_memory(top);
    for (size_t i = 0; i < a->n; i++)
        if (a->tokens[i].normalized == normalized) set->tokens[set->n++] = &a->tokens[i];
    qsort(set->tokens, set->n, sizeof *set->tokens, compare);
    for (size_t i = 0; i < set->n; i++) {
        if (i && !compare(&set->tokens[i - 1], &set->tokens[i]))
            return hw_fail(top->at.err, top->at.failure,
                           "%s: added tokens %d and %d are the same text, \"%.60s\"", top->name,
                           set->tokens[i - 1]->id, set->tokens[i]->id, set->tokens[i]->text);
        set->first[(unsigned char)*set->tokens[i]->text + 1]++;
    }
    for (int b = 0; b < 256; b++) set->first[b + 1] += set->first[b];
    return HW_OK;
}

hw_status hw_added_load(hw_added *out, hw_vocab *vocab, const hw_normalizer *normalizer, const hw_node *top)
{
    const json_t *list = json_object_get(top->at.object, "added_tokens");
    *out = (hw_added){0};
    hw_status st = HW_OK;
    if (list && !json_is_null(list) && (st = hw_node_list(top, "added_tokens", &list))) return st;
    size_t n = json_array_size(list);
    if (!(out->tokens = calloc(n + 1, sizeof *out->tokens))) return no_memory(top);
    int64_t next_id = (int64_t)vocab->n_tokens;
    for (size_t i = 0; i < n && !st; i++) {
        hw_node node;
        size_t n_before = vocab->n_tokens;
        st = hw_node_open(&node, top, json_array_get(list, i), "added_tokens[%zu]", i);
        if (!st) st = read_token(out, vocab, normalizer, &node, next_id);
        next_id += (int64_t)(vocab->n_tokens - n_before);
    }
    if (st) return st;
    mark_hidden(out, vocab);
    st = build_set(&out->raw, out, false, top);
    return st ? st : build_set(&out->normalized, out, true, top);
}
