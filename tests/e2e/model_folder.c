#include "tests/e2e/model_folder.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PATH = 1024, LENGTH_BYTES = 8 };

static char folder[64];

typedef struct bytes {
    char *at; /* [n] and a zero behind them */
    size_t n;
} bytes;

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info, (void)kind, (void)where;
    return remove(path);
}

void remove_model(void)
{
    if (*folder) nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    *folder = '\0';
}

const char *in_model(const char *file)
{
    static char paths[4][MAX_PATH];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, MAX_PATH, "%s/%s", folder, file);
    return path;
}

const char *model_like(const char *of)
{
    char from[MAX_PATH], path[2 * MAX_PATH];
    remove_model();
    strcpy(folder, "/tmp/headway-model-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(from, sizeof from, "%s/%s", HW_SOURCE_DIR, of);
    DIR *d = opendir(from);
    cr_assert_not_null(d, "%s", from);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", from, e->d_name);
        cr_assert_eq(symlink(path, in_model(e->d_name)), 0);
    }
    closedir(d);
    return folder;
}

static bytes read_in_model(const char *file)
{
    bytes b = {0};
    FILE *f = fopen(in_model(file), "rb");
    cr_assert_not_null(f, "%s", file);
    cr_assert_eq(fseek(f, 0, SEEK_END), 0);
    b.n = (size_t)ftell(f);
    rewind(f);
    b.at = malloc(b.n + 1);
    cr_assert_eq(fread(b.at, 1, b.n, f), b.n);
    b.at[b.n] = '\0';
    fclose(f);
    return b;
}

void write_in_model(const char *file, const void *content, size_t n_bytes)
{
    unlink(in_model(file)); /* not through the link */
    FILE *f = fopen(in_model(file), "wb");
    cr_assert_not_null(f, "%s", file);
    cr_assert_eq(fwrite(content, 1, n_bytes, f), n_bytes);
    cr_assert_eq(fclose(f), 0);
}

void write_text_in_model(const char *file, const char *text) { write_in_model(file, text, strlen(text)); }

void replace_in(const char *file, const char *from, const char *to)
{
    bytes old = read_in_model(file);
    const char *end = strrchr(file, '.');
    size_t first = end && !strcmp(end, ".safetensors") ? LENGTH_BYTES : 0;
    char *found = memmem(old.at + first, old.n - first, from, strlen(from));
    cr_assert_not_null(found, "%s holds no '%s'", file, from);
    size_t before = (size_t)(found - old.at), after = old.n - before - strlen(from);
    char *edited = malloc(before + strlen(to) + after + 1);
    memcpy(edited, old.at, before);
    memcpy(edited + before, to, strlen(to));
    memcpy(edited + before + strlen(to), found + strlen(from), after);
    if (first) { /* little-endian, as the machines that run this are */
        uint64_t length;
        memcpy(&length, edited, sizeof length);
        length += strlen(to) - strlen(from); /* modulo 2^64: shorter works too */
        memcpy(edited, &length, sizeof length);
    }
    write_in_model(file, edited, before + strlen(to) + after);
    free(edited);
    free(old.at);
}

void cut_in_model(const char *file, size_t n_bytes)
{
    bytes b = read_in_model(file);
    cr_assert_gt(b.n, n_bytes);
    write_in_model(file, b.at, n_bytes);
    free(b.at);
}

void append_in_model(const char *file, size_t n_zeros)
{
    bytes b = read_in_model(file);
    char *longer = calloc(b.n + n_zeros, 1);
    memcpy(longer, b.at, b.n);
    write_in_model(file, longer, b.n + n_zeros);
    free(longer);
    free(b.at);
}

void remove_in_model(const char *file) { cr_assert_eq(unlink(in_model(file)), 0, "%s", file); }

char *nested_json(int levels)
{
    static const char open[] = "{\"a\":";
    const size_t n = sizeof open - 1;
    char *text = malloc((size_t)levels * (n + 1) + 2), *p = text;
    for (int i = 0; i < levels; i++, p += n) memcpy(p, open, n);
    *p++ = '1';
    for (int i = 0; i < levels; i++) *p++ = '}';
    *p = '\0';
    return text;
}
