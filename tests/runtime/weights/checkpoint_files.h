/* Files for the tests of checkpoints: a folder that goes away again, and safetensors files written byte by
 * byte. */
#ifndef HW_TESTS_RUNTIME_WEIGHTS_CHECKPOINT_FILES_H
#define HW_TESTS_RUNTIME_WEIGHTS_CHECKPOINT_FILES_H

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char test_folder[] = "/tmp/headway-test-XXXXXX";

static inline void make_folder(void) { cr_assert_not_null(mkdtemp(test_folder)); }

static inline int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info, (void)kind, (void)where;
    return remove(path);
}

static inline void remove_folder(void) { nftw(test_folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS); }

/* The path of a file in the folder; good until the fourth call after this one. */
static inline const char *in_folder(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_folder, name);
    return path;
}

static inline void write_bytes(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(in_folder(name), "wb");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(bytes, 1, n, f), n);
    cr_assert_eq(fclose(f), 0);
}

static inline void write_text(const char *name, const char *text) { write_bytes(name, text, strlen(text)); }

/* Header length, header, then n_data bytes: 0, 1, 2, ... 250, 0, ... (251 is prime, so a wrong offset
 * shows). */
static inline void write_safetensors(const char *name, const char *header, size_t n_data)
{
    size_t n = strlen(header);
    unsigned char *bytes = malloc(8 + n + n_data);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)n >> 8 * i);
    memcpy(bytes + 8, header, n);
    for (size_t i = 0; i < n_data; i++) bytes[8 + n + i] = (unsigned char)(i % 251);
    write_bytes(name, bytes, 8 + n + n_data);
    free(bytes);
}

#endif
