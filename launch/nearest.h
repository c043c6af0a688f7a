/* What somebody who wrote a setting or subcommand that there is not may have meant. All functions are Local. */
#ifndef HW_LAUNCH_NEAREST_H
#define HW_LAUNCH_NEAREST_H

#include <stddef.h>

/* How many letters have to be put in, taken out, changed or swapped with their neighbour to make one word of
 * the other; a thousand for words of a hundred letters. */
int hw_nearest_distance(const char *a, const char *b);

/* "did you mean cache.policy?", or when nothing is near what there is in the section `inside` ("cache.", or
 * "" for the outermost). Returns `text` [size]. */
char *hw_nearest_setting(const char *path, const char *inside, char *text, size_t size);

/* The first setting of a section, with its default: "policy: paged". Returns `text` [size]. */
char *hw_nearest_example(const char *section, char *text, size_t size);

#endif
