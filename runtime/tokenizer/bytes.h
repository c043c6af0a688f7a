/* A growing buffer of bytes. Plain: start with {0}; free with hw_bytes_free. */
#ifndef HW_RUNTIME_TOKENIZER_BYTES_H
#define HW_RUNTIME_TOKENIZER_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/status.h"

/* No text and no list in the tokenizer grows beyond this, so that positions fit in 32 bits. */
enum { HW_BYTES_MAX = 1 << 30 };

typedef struct hw_bytes {
    char *data; /* [n], and one zero behind it once anything was reserved */
    size_t n, capacity;
} hw_bytes;

/* Local. Room for `more` bytes and a zero behind data[n]. Errors: HW_ERR_NO_MEMORY. */
hw_status hw_bytes_reserve(hw_bytes *b, size_t more, hw_error *err);

/* Local. Appends and terminates. `data` may not point into *b. */
static inline hw_status hw_bytes_append(hw_bytes *b, const char *data, size_t n, hw_error *err)
{
    if (n >= b->capacity - b->n || !b->capacity) {
        hw_status st = hw_bytes_reserve(b, n, err);
        if (st) return st;
    }
    if (n) memcpy(b->data + b->n, data, n);
    b->n += n;
    b->data[b->n] = '\0';
    return HW_OK;
}

static inline void hw_bytes_free(hw_bytes *b)
{
    free(b->data);
    *b = (hw_bytes){0};
}

#endif
