/* What every fuzz target needs: the entry point's declaration, and a check that stays in every kind of
 * build. */
#ifndef HW_TESTS_FUZZ_FUZZ_H
#define HW_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

#define HW_FUZZ_CHECK(condition)                                                                             \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                   \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

/* A failure says something, in one line that a terminal can take. */
static inline void check_message(const hw_error *err)
{
    HW_FUZZ_CHECK(err->message[0]);
    for (const unsigned char *p = (const unsigned char *)err->message; *p; p++)
        HW_FUZZ_CHECK(*p >= 0x20 && *p != 0x7f);
}

#endif
