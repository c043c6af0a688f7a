#include "launch/commands/text_sink.h"

#include <stdlib.h>
#include <string.h>

#include "launch/report/output.h"

hw_status hw_text_sink_take(void *user, const char *text, size_t n, hw_error *err)
{
    hw_text_sink *s = user;
    if (s->rank) return HW_OK;
    if (!s->keep) return hw_write(stdout, "standard output", text, n, err);
    if (s->n + n > s->capacity) {
        size_t capacity = 2 * (s->n + n);
        char *more = realloc(s->text, capacity);
        if (!more) return hw_fail(err, HW_ERR_NO_MEMORY, "no memory for %zu bytes of text", capacity);
        s->text = more;
        s->capacity = capacity;
    }
    memcpy(s->text + s->n, text, n);
    s->n += n;
    return HW_OK;
}

void hw_text_sink_free(hw_text_sink *s)
{
    free(s->text);
    *s = (hw_text_sink){.text = NULL};
}
