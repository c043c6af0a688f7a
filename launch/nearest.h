/* What somebody who wrote a setting that there is not may have meant. All functions are Local. */
#ifndef HW_LAUNCH_NEAREST_H
#define HW_LAUNCH_NEAREST_H

#include <stddef.h>

/* "did you mean cache.policy?", or when nothing is near what there is in the section `inside` ("cache.", or
 * "" for the outermost). Returns `text` [size]. */
char *hw_nearest_setting(const char *path, const char *inside, char *text, size_t size);

/* The first setting of a section, with its default: "policy: paged". Returns `text` [size]. */
char *hw_nearest_example(const char *section, char *text, size_t size);

#endif
