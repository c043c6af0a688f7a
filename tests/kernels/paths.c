/* paths [cpu] [cuda]: a line for each path that products and attention can take, saying how the tests of this machine run
 * it: asked of the library itself, since a processor may have what its kernel or hypervisor keeps from a process. With
 * "cpu" the kernel tests of the CPU are among the tests that run, with "cuda" those on the SIMT layer. The exit status is 1
 * when a path is refused for another reason than that it is not here. */
#include <stdio.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/plugin.h"

typedef enum presence { NOT_HERE, EMULATED, REAL, BROKEN } presence;

static presence taken(hw_status st, hw_device *d, const char *name, const hw_error *err)
{
    hw_device_destroy(d);
    if (st && st != HW_ERR_UNSUPPORTED) fprintf(stderr, "paths: %s: %s\n", name, err->message);
    return !st ? REAL : st == HW_ERR_UNSUPPORTED ? NOT_HERE : BROKEN;
}

static presence find_cpu(const char *name)
{
    hw_device *d = NULL;
    hw_error err = {.rank = -1};
    const hw_status st = hw_cpu_device_create(&d, 1, name, &err);
    return taken(st, d, name, &err);
}

/* Tiles in plain C run in the tests on every processor. */
static presence find_amx(void)
{
    const presence real = find_cpu("amx");
    if (real != NOT_HERE) return real;
    const presence emulated = find_cpu("amx-emulated");
    return emulated == REAL ? EMULATED : emulated;
}

/* No test of ctest runs on a GPU: tests/gpu/run is for that. */
static presence find_cuda(void)
{
#ifdef HW_TEST_PLUGIN
    hw_device *d = NULL;
    hw_error err = {.rank = -1};
    const hw_status st = hw_plugin_device_create(&d, HW_TEST_PLUGIN, (hw_device_place){0, 1}, HW_F32, &err);
    const presence found = taken(st, d, "cuda", &err);
    return found == REAL ? EMULATED : found;
#else
    return NOT_HERE;
#endif
}

static bool is_asked(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], name)) return true;
    return false;
}

static bool print(const char *name, presence p, bool is_tested)
{
    static const char *const words[] = {"not here", "emulated", "ran on this processor", "broken"};
    printf("path %-12s %s\n", name, is_tested || p == BROKEN ? words[p] : "not among these tests");
    return p != BROKEN;
}

int main(int argc, char **argv)
{
    static const char *const simple[] = {"avx512-bf16", "avx512", "avx2", "generic"};
    const bool cpu = is_asked(argc, argv, "cpu");
    bool ok = print("amx", find_amx(), cpu);
    for (size_t i = 0; i < sizeof simple / sizeof *simple; i++)
        ok &= print(simple[i], find_cpu(simple[i]), cpu);
    ok &= print("cuda", find_cuda(), is_asked(argc, argv, "cuda"));
    return !ok;
}
