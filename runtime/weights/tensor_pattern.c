#include "runtime/weights/tensor_pattern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DIGITS = 9 }; /* always fits into an int */

static const struct {
    const char *text;
    size_t index; /* offset in hw_tensor_index */
} places[] = {{"{layer}", offsetof(hw_tensor_index, layer)}, {"{expert}", offsetof(hw_tensor_index, expert)}};

/* The placeholder at *pattern, which is advanced past it; NULL if there is none. */
static int *take_place(const char **pattern, hw_tensor_index *at)
{
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const size_t n = strlen(places[i].text);
        if (strncmp(*pattern, places[i].text, n)) continue;
        *pattern += n;
        return (int *)(void *)((char *)at + places[i].index);
    }
    return NULL;
}

void hw_tensor_pattern_write(char *name, size_t size, const char *pattern, hw_tensor_index at)
{
    size_t n = 0;
    if (size) *name = '\0';
    while (*pattern && n + 1 < size) {
        const int *index = take_place(&pattern, &at);
        if (index) n += (size_t)snprintf(name + n, size - n, "%d", *index);
        else n += (size_t)snprintf(name + n, size - n, "%c", *pattern++);
    }
}

/* Digits as printf writes them, so that each number has only one spelling. */
static bool take_number(const char **name, int *out)
{
    const size_t n = strspn(*name, "0123456789");
    if (!n || n > MAX_DIGITS || (n > 1 && **name == '0')) return false;
    *out = atoi(*name);
    *name += n;
    return true;
}

bool hw_tensor_pattern_match(const char *pattern, const char *name, hw_tensor_index *at)
{
    *at = (hw_tensor_index){0};
    while (*pattern) {
        int *index = take_place(&pattern, at);
        if (index ? !take_number(&name, index) : *pattern++ != *name++) return false;
    }
    return !*name;
}
