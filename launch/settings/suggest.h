/* What somebody may have meant who wrote a name that is not known. All functions are Local. */
#ifndef HW_LAUNCH_SETTINGS_SUGGEST_H
#define HW_LAUNCH_SETTINGS_SUGGEST_H

#include <stddef.h>

/* The index of the name in known [n] that `found` is a slip of, or -1: beyond a letter or two it is a guess. Names
 * may be paths with dots; then the right word in the wrong section is near too. */
int hw_suggest(const char *found, const char *const *known, int n);

/* "did you mean max_tokens?", or when nothing is near, "there are" and the names. Returns `text` [size]. */
char *hw_suggest_hint(const char *found, const char *const *known, int n, char *text, size_t size);

/* "there are a, b, c". Returns `text` [size]. */
char *hw_suggest_list(const char *const *known, int n, char *text, size_t size);

#endif
