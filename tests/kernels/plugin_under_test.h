/* The plug-in that a test is built for (HW_TEST_PLUGIN), or, where the environment names one under the same name, another that
 * runs the same sources: how tests/gpu/run has a real GPU do what the SIMT layer did. */
#ifndef HW_TESTS_KERNELS_PLUGIN_UNDER_TEST_H
#define HW_TESTS_KERNELS_PLUGIN_UNDER_TEST_H

#include <stdlib.h>

static inline const char *plugin_under_test(void)
{
    const char *other = getenv("HW_TEST_PLUGIN");
    return other && *other ? other : HW_TEST_PLUGIN;
}

#endif
