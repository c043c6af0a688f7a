#include "runtime/base/library.h"

#include <dlfcn.h>
#include <glob.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Folders, as patterns of glob(3) behind the value of a variable; NULL: behind nothing. */
typedef struct place {
    const char *variable, *pattern;
} place;

#define PYTHON_PACKAGES(folder) "/lib/python3*/" folder "/nvidia/*/lib"

static const place active[] = {{"CUDA_HOME", "/lib64"},
                               {"CUDA_HOME", "/lib"},
                               {"CUDA_PATH", "/lib64"},
                               {"CUDA_PATH", "/lib"},
                               {"VIRTUAL_ENV", PYTHON_PACKAGES("site-packages")},
                               {"CONDA_PREFIX", PYTHON_PACKAGES("site-packages")},
                               {"CONDA_PREFIX", "/lib"},
                               {NULL, NULL}};
static const place usual[] = {{NULL, "/usr/local/cuda/lib64"},
                              {NULL, "/usr/local/cuda/lib"},
                              {"HOME", "/.local" PYTHON_PACKAGES("site-packages")},
                              {NULL, "/usr/local" PYTHON_PACKAGES("*-packages")},
                              {NULL, "/usr" PYTHON_PACKAGES("*-packages")},
                              {NULL, NULL}};

/* A file that is looked for. */
typedef struct search {
    hw_library *out;
    const char *file;
    char why[512]; /* what the loader said of the first file that was there and could not be loaded */
} search;

/* Whether it can be loaded. */
static bool load(search *s, const char *path)
{
    struct link_map *map;
    s->out->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!s->out->handle) return false;
    const bool named = !dlinfo(s->out->handle, RTLD_DI_LINKMAP, &map) && *map->l_name;
    snprintf(s->out->path, sizeof s->out->path, "%s", named ? map->l_name : path);
    return true;
}

static bool load_matching(search *s, const char *pattern)
{
    glob_t found;
    bool done = false;
    if (glob(pattern, 0, NULL, &found)) return false;
    for (size_t i = 0; i < found.gl_pathc && !done; i++) {
        done = load(s, found.gl_pathv[i]);
        const char *said = done ? NULL : dlerror();
        if (said && !*s->why) snprintf(s->why, sizeof s->why, "%s", said);
    }
    globfree(&found);
    return done;
}

static bool load_from(search *s, const place *places)
{
    char pattern[4096];
    bool done = false;
    for (const place *p = places; p->pattern && !done; p++) {
        const char *front = p->variable ? getenv(p->variable) : "";
        if (!front || (p->variable && !*front)) continue;
        snprintf(pattern, sizeof pattern, "%s%s/%s", front, p->pattern, s->file);
        done = load_matching(s, pattern);
    }
    return done;
}

static bool load_from_own_folder(search *s)
{
    static const char here;
    Dl_info info;
    char path[4096];
    if (!dladdr(&here, &info) || !info.dli_fname) return false;
    const char *slash = strrchr(info.dli_fname, '/');
    if (!slash) return false;
    snprintf(path, sizeof path, "%.*s/%s", (int)(slash - info.dli_fname), info.dli_fname, s->file);
    return load_matching(s, path);
}

hw_status hw_library_open(hw_library *out, const char *file, const char *variable, hw_error *err)
{
    search s = {.out = out, .file = file};
    const char *named = getenv(variable);
    *out = (hw_library){0};
    if (named && *named)
        return load(&s, named) ? HW_OK : hw_fail(err, HW_ERR_UNSUPPORTED, "%s: %s", variable, dlerror());
    if (load_from_own_folder(&s) || load_from(&s, active) || load(&s, file) || load_from(&s, usual))
        return HW_OK;
    if (*s.why) return hw_fail(err, HW_ERR_UNSUPPORTED, "%s", s.why);
    return hw_fail(
        err, HW_ERR_UNSUPPORTED,
        "%s is neither beside Headway nor below CUDA_HOME or /usr/local/cuda, among Python packages "
        "(VIRTUAL_ENV, CONDA_PREFIX), nor where the loader looks; name the file in %s",
        file, variable);
}
