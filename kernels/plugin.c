#include "kernels/plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "kernels/device.h"

enum { MAX_PATH = 4096 };

#define PLUGIN_FILE "libheadway_%s.so"

/* The places searched, for the message if nothing is found. */
typedef struct search {
    const char *name;
    void *library;
    char path[MAX_PATH]; /* of the library, once there is one */
    char tried[512];
} search;

static hw_status open_path(search *s, const char *path, hw_error *err)
{
    s->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    snprintf(s->path, sizeof s->path, "%s", path);
    if (s->library) return HW_OK;
    return hw_fail(err, HW_ERR_UNSUPPORTED, "device \"%s\": cannot load its plug-in: %s", s->name, dlerror());
}

/* A file that exists but cannot be loaded is an error and ends the search, because its message says what is missing. */
static hw_status try_folder(search *s, const char *folder, int n_folder, hw_error *err)
{
    char path[MAX_PATH];
    size_t n_tried = strlen(s->tried);
    if (s->library || n_folder <= 0) return HW_OK;
    snprintf(path, sizeof path, "%.*s/" PLUGIN_FILE, n_folder, folder, s->name);
    snprintf(s->tried + n_tried, sizeof s->tried - n_tried, "%s%.*s", n_tried ? ", " : "", n_folder, folder);
    return access(path, F_OK) ? HW_OK : open_path(s, path, err);
}

static hw_status try_environment(search *s, hw_error *err)
{
    const char *list = getenv("HW_PLUGIN_PATH");
    hw_status st = HW_OK;
    while (!st && list && *list) {
        size_t n = strcspn(list, ":");
        st = try_folder(s, list, (int)n, err);
        list += n + (list[n] == ':');
    }
    return st;
}

/* In a build tree the plug-in is beside the program; installed, it is in the library folder, beside libheadway.so. */
static hw_status try_own_folders(search *s, hw_error *err)
{
    Dl_info info;
    char folder[MAX_PATH], libraries[MAX_PATH + sizeof HW_PLUGIN_FROM_BIN];
    static const char here;
    if (!dladdr(&here, &info) || !info.dli_fname) return HW_OK;
    const char *slash = strrchr(info.dli_fname, '/');
    if (slash) snprintf(folder, sizeof folder, "%.*s", (int)(slash - info.dli_fname), info.dli_fname);
    else { /* started through PATH: ask the kernel */
        ssize_t n = readlink("/proc/self/exe", folder, sizeof folder - 1);
        folder[n > 0 ? n : 0] = '\0';
        char *end = strrchr(folder, '/');
        if (end) *end = '\0';
    }
    snprintf(libraries, sizeof libraries, "%s/" HW_PLUGIN_FROM_BIN, folder);
    hw_status st = try_folder(s, folder, (int)strlen(folder), err);
    return st ? st : try_folder(s, libraries, (int)strlen(libraries), err);
}

static hw_status find(search *s, hw_error *err)
{
    char file[MAX_PATH];
    if (strchr(s->name, '/')) return open_path(s, s->name, err);
    hw_status st = try_environment(s, err);
    if (!st) st = try_own_folders(s, err);
    if (st || s->library) return st;
    snprintf(file, sizeof file, PLUGIN_FILE, s->name);
    if (!open_path(s, file, NULL)) return HW_OK;
    return hw_fail(err, HW_ERR_UNSUPPORTED,
                   "device \"%s\": its plug-in " PLUGIN_FILE
                   " is not in %s, nor where the loader looks; build "
                   "Headway where the CUDA toolkit is, or name the plug-in's folder in HW_PLUGIN_PATH",
                   s->name, s->name, s->tried);
}

static bool is_driver_here(void) { return dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) != NULL; }

/* A plug-in stays mapped, also one that made no device: the driver and the libraries behind it keep pointers into
 * it, threads and exit handlers until the process ends. */
hw_status hw_plugin_device_try(hw_device **out, const char *name, hw_device_place place, hw_dtype act,
                               bool *found, hw_error *err)
{
    search s = {.name = name};
    *out = NULL;
    hw_status st = find(&s, err);
    *found = st && is_driver_here();
    if (st) return st;
    hw_plugin_create_fn *create;
    void *symbol = dlsym(s.library, HW_PLUGIN_SYMBOL);
    memcpy(&create, &symbol, sizeof create); /* C has no cast from an object to a function */
    const hw_plugin_request request = {.version = HW_PLUGIN_VERSION,
                                       .table_bytes = sizeof(hw_kernels),
                                       .place = place,
                                       .act = act,
                                       .found = found};
    if (create) st = create(out, &request, err);
    else
        st = hw_fail(err, HW_ERR_UNSUPPORTED, "device \"%s\": %s is no plug-in of Headway: it has no %s",
                     name, s.path, HW_PLUGIN_SYMBOL);
    if (!st) ((hw_device_base *)(void *)*out)->library = s.library;
    return st;
}

hw_status hw_plugin_device_create(hw_device **out, const char *name, hw_device_place place, hw_dtype act,
                                  hw_error *err)
{
    bool unused;
    return hw_plugin_device_try(out, name, place, act, &unused, err);
}

const void *hw_plugin_symbol(const char *name, const char *symbol)
{
    search s = {.name = name};
    hw_error unused;
    return find(&s, &unused) ? NULL : dlsym(s.library, symbol);
}

bool hw_plugin_may_find_gpu(void) { return getenv("HW_PLUGIN_PATH") || is_driver_here(); }

void *hw_device_symbol(const hw_device *d, const char *name)
{
    void *library = ((const hw_device_base *)(const void *)d)->library;
    return library ? dlsym(library, name) : NULL;
}
