#include "runtime/tokenizer/vocab.h"

/* Eight bytes a step, multiplied and folded. It only has to spread: the tables do not outlive a hostile
 * file. */
uint32_t hw_hash_bytes(const char *text, size_t n)
{
    const uint64_t mix = 0x9E3779B97F4A7C15u;
    uint64_t h = n * mix, word;
    while (n >= 8) {
        memcpy(&word, text, 8);
        h = (h ^ word) * mix;
        h ^= h >> 32;
        text += 8;
        n -= 8;
    }
    word = 0;
    if (n) memcpy(&word, text, n);
    h = (h ^ word) * mix;
    h ^= h >> 29;
    h *= mix;
    return (uint32_t)(h >> 32);
}

static hw_status no_memory(hw_error *err, size_t n)
{
    return hw_fail(err, HW_ERR_NO_MEMORY, "tokenizer: no memory for a table of %zu tokens", n);
}

static hw_status grow_slots(hw_vocab *v, size_t n_tokens, hw_error *err)
{
    size_t n_slots = 64;
    while (n_slots < 2 * n_tokens) n_slots *= 2;
    struct hw_vocab_slot *slots = malloc(n_slots * sizeof *slots);
    if (!slots) return no_memory(err, n_tokens);
    for (size_t i = 0; i < n_slots; i++) slots[i].id = -1;
    for (size_t i = 0; i < v->n_slots; i++) {
        if (v->slots[i].id < 0) continue;
        size_t at = v->slots[i].hash & (n_slots - 1);
        while (slots[at].id >= 0) at = (at + 1) & (n_slots - 1);
        slots[at] = v->slots[i];
    }
    free(v->slots);
    v->slots = slots;
    v->n_slots = n_slots;
    return HW_OK;
}

hw_status hw_vocab_create(hw_vocab *v, size_t n_tokens, hw_error *err)
{
    *v = (hw_vocab){0};
    return grow_slots(v, n_tokens, err);
}

void hw_vocab_free(hw_vocab *v)
{
    hw_bytes_free(&v->strings);
    free(v->entries);
    free(v->slots);
    *v = (hw_vocab){0};
}

/* The slot that holds the content, or the free one where it would go. */
static size_t find_slot(const hw_vocab *v, const char *text, size_t n, uint32_t hash)
{
    size_t at = hash & (v->n_slots - 1);
    for (; v->slots[at].id >= 0; at = (at + 1) & (v->n_slots - 1)) {
        if (v->slots[at].hash != hash) continue;
        size_t length;
        const char *content = hw_vocab_text(v, v->slots[at].id, &length);
        if (length == n && !memcmp(content, text, n)) break;
    }
    return at;
}

int32_t hw_vocab_find(const hw_vocab *v, const char *text, size_t n)
{
    if (!v->n_slots) return -1;
    return v->slots[find_slot(v, text, n, hw_hash_bytes(text, n))].id;
}

static hw_status grow_entries(hw_vocab *v, size_t n_ids, hw_error *err)
{
    if (n_ids > v->capacity) {
        size_t capacity = v->capacity * 2 > n_ids ? v->capacity * 2 : n_ids;
        hw_vocab_entry *entries = realloc(v->entries, capacity * sizeof *entries);
        if (!entries) return no_memory(err, capacity);
        v->entries = entries;
        v->capacity = capacity;
    }
    memset(v->entries + v->n_ids, 0, (n_ids - v->n_ids) * sizeof *v->entries);
    v->n_ids = n_ids;
    return HW_OK;
}

hw_status hw_vocab_add(hw_vocab *v, int64_t id, const char *text, size_t n, uint32_t flags, hw_error *err)
{
    hw_status st;
    uint32_t hash = hw_hash_bytes(text, n);
    if (id < 0 || id >= HW_VOCAB_MAX_IDS)
        return hw_fail(err, HW_ERR_MODEL, "token \"%.60s\" has id %lld, wanted 0 to %d", text, (long long)id,
                       HW_VOCAB_MAX_IDS - 1);
    if (hw_vocab_has(v, id))
        return hw_fail(err, HW_ERR_MODEL, "tokens \"%.60s\" and \"%.60s\" have the same id %lld",
                       v->strings.data + v->entries[id].start, text, (long long)id);
    if (2 * (v->n_tokens + 1) > v->n_slots && (st = grow_slots(v, 2 * (v->n_tokens + 1), err))) return st;
    size_t at = find_slot(v, text, n, hash);
    if (v->slots[at].id >= 0)
        return hw_fail(err, HW_ERR_MODEL, "token \"%.60s\" is listed twice, with ids %d and %lld", text,
                       v->slots[at].id, (long long)id);
    if ((size_t)id >= v->n_ids && (st = grow_entries(v, (size_t)id + 1, err))) return st;
    uint32_t start = (uint32_t)v->strings.n;
    if ((st = hw_bytes_append(&v->strings, text, n + 1, err))) return st; /* with its zero */
    v->entries[id] = (hw_vocab_entry){start, (uint32_t)n, start, (uint32_t)n, flags};
    v->slots[at] = (struct hw_vocab_slot){hash, (int32_t)id};
    v->n_tokens++;
    return HW_OK;
}
