#include <stdlib.h>

#include "runtime/tokenizer/tokenizer.h"

hw_status hw_tokens_push(hw_tokens *list, int32_t id, hw_error *err)
{
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        int32_t *ids = realloc(list->ids, capacity * sizeof *ids);
        if (!ids) return hw_fail(err, HW_ERR_NO_MEMORY, "tokens: no memory for %zu ids", capacity);
        list->ids = ids;
        list->capacity = capacity;
    }
    list->ids[list->n++] = id;
    return HW_OK;
}

void hw_tokens_free(hw_tokens *list)
{
    free(list->ids);
    *list = (hw_tokens){0};
}
