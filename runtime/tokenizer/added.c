#include "runtime/tokenizer/added.h"

/* The longest token that stands at the beginning of the text, or NULL. The candidates are a stretch of the
 * sorted list, which every further byte narrows; the one that is exactly as long as what was compared
 * comes first in it. */
static const hw_added_token *longest_at(const hw_added_set *set, const char *text, size_t n)
{
    size_t low = set->first[(unsigned char)*text], high = set->first[(unsigned char)*text + 1];
    const hw_added_token *longest = NULL;
    for (size_t depth = 1; low < high; depth++) {
        if (set->tokens[low]->n_text == depth) longest = set->tokens[low++];
        if (depth == n) break;
        unsigned char byte = (unsigned char)text[depth];
        size_t begin = low, end = high;
        while (begin < end) { /* the first token whose next byte is not less */
            size_t middle = (begin + end) / 2;
            if ((unsigned char)set->tokens[middle]->text[depth] < byte) begin = middle + 1;
            else end = middle;
        }
        low = begin;
        end = high;
        while (begin < end) { /* the first token whose next byte is greater */
            size_t middle = (begin + end) / 2;
            if ((unsigned char)set->tokens[middle]->text[depth] <= byte) begin = middle + 1;
            else end = middle;
        }
        high = begin;
    }
    return longest;
}

static const hw_added_token *find(hw_added_search *s, size_t *start, size_t *end)
{
    const uint32_t *first = s->set->first;
    for (size_t i = s->at; i < s->n; i++) {
        unsigned char byte = (unsigned char)s->text[i];
        if (first[byte] == first[byte + 1]) continue;
        const hw_added_token *token = longest_at(s->set, s->text + i, s->n - i);
        if (!token) continue;
        *start = i;
        s->at = *end = i + token->n_text;
        return token;
    }
    s->at = s->n;
    return NULL;
}

static bool stands_alone(const char *text, size_t n, size_t start, size_t end)
{
    uint32_t cp;
    if (start > 0 && (hw_utf8_last(text, start, &cp), hw_is_word(cp))) return false;
    return end == n || (hw_utf8_first(text + end, &cp), !hw_is_word(cp));
}

static size_t spaces_before(const char *text, size_t start, size_t stop)
{
    uint32_t cp;
    while (start > stop) {
        size_t length = hw_utf8_last(text, start, &cp);
        if (!hw_is_space(cp)) break;
        start -= length;
    }
    return start;
}

static size_t spaces_after(const char *text, size_t n, size_t end)
{
    uint32_t cp;
    while (end < n) {
        size_t length = hw_utf8_first(text + end, &cp);
        if (!hw_is_space(cp)) break;
        end += length;
    }
    return end;
}

const hw_added_token *hw_added_next(hw_added_search *s, size_t *between, size_t *start)
{
    const hw_added_token *token;
    size_t end;
    *between = s->done;
    if (!s->set->n) return NULL;
    while ((token = find(s, start, &end))) {
        if (token->single_word && !stands_alone(s->text, s->n, *start, end)) continue;
        if (token->lstrip) *start = *start > s->done ? spaces_before(s->text, *start, s->done) : s->done;
        if (token->rstrip) end = spaces_after(s->text, s->n, end);
        s->done = end;
        return token;
    }
    return NULL;
}
