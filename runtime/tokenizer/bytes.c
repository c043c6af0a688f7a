#include "runtime/tokenizer/bytes.h"

hw_status hw_bytes_reserve(hw_bytes *b, size_t more, hw_error *err)
{
    if (more > HW_BYTES_MAX || b->n + more > HW_BYTES_MAX)
        return hw_fail(err, HW_ERR_NO_MEMORY, "tokenizer: a text would grow to %zu bytes, the limit is %d",
                       b->n + more, HW_BYTES_MAX);
    size_t need = b->n + more + 1;
    if (need <= b->capacity) return HW_OK;
    size_t capacity = b->capacity ? b->capacity * 2 : 64;
    if (capacity < need) capacity = need;
    char *data = realloc(b->data, capacity);
    if (!data) return hw_fail(err, HW_ERR_NO_MEMORY, "tokenizer: no memory for %zu bytes of text", capacity);
    b->data = data;
    b->capacity = capacity;
    return HW_OK;
}
