#include "tests/support/npy.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/json.h"

/* What numpy.save writes for a (2, 3) matrix, by hand: 10 bytes, 59 of dictionary, spaces, a newline; 128
 * together. */
static const char dictionary[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
static const float matrix[6] = {1.0f, -2.5f, 3.0f, 0.0f, 1e-30f, 6.0f};
enum { FILE_BYTES = 128 + sizeof matrix };

typedef struct file_bytes {
    char at[FILE_BYTES + 64];
    size_t n;
} file_bytes;

/* A whole file with another dictionary; `fill` is what pads the header. */
static file_bytes file_of(const char *dict, char fill)
{
    file_bytes f = {.n = FILE_BYTES};
    memcpy(f.at, "\x93NUMPY\x01\x00\x76\x00", 10);
    memset(f.at + 10, fill, 118);
    memcpy(f.at + 10, dict, strlen(dict));
    f.at[127] = '\n';
    memcpy(f.at + 128, matrix, sizeof matrix);
    return f;
}

/* Reads the bytes through a temporary file. */
static hw_status read_bytes(hw_npy *m, const file_bytes *f, hw_error *err)
{
    char path[] = "/tmp/hw_npy_XXXXXX";
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, f->at, f->n), (ssize_t)f->n);
    close(fd);
    hw_status st = hw_npy_read(m, path, err);
    unlink(path);
    return st;
}

static void refused(file_bytes f, const char *why)
{
    hw_error err = {0};
    hw_npy m;
    cr_assert_eq(read_bytes(&m, &f, &err), HW_ERR_FAILED, "accepted, though: %s", why);
    cr_assert(strstr(err.message, why), "message is \"%s\", without \"%s\"", err.message, why);
    cr_assert_null(m.data);
}

Test(npy, reads_what_numpy_writes)
{
    hw_error err = {0};
    hw_npy m;
    file_bytes f = file_of(dictionary, ' ');
    cr_assert_eq(read_bytes(&m, &f, &err), HW_OK, "%s", err.message);
    cr_assert_eq(m.n_rows, 2);
    cr_assert_eq(m.n_cols, 3);
    cr_assert_eq(memcmp(m.data, matrix, sizeof matrix), 0);
    hw_npy_free(&m);
    hw_npy_free(&m);
    cr_assert_null(m.data);
}

Test(npy, reads_a_matrix_without_rows)
{
    hw_error err = {0};
    hw_npy m;
    file_bytes f = file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), }", ' ');
    f.n = 128;
    cr_assert_eq(read_bytes(&m, &f, &err), HW_OK, "%s", err.message);
    cr_assert_eq(m.n_rows, 0);
    hw_npy_free(&m);
}

/* The golden greedy ids come from another place of make.py than the matrix does: the first of them is where
 * the last row is largest. */
Test(npy, reads_golden_logits_in_the_right_order)
{
    hw_error err = {0};
    hw_npy m;
    json_t *golden;
    int n_prompt = 0, vocab_size = 0;
    const char *folder = HW_SOURCE_DIR "/tests/vectors/llama-gqa-uneven";
    char path[1024];
    snprintf(path, sizeof path, "%s/logits.npy", folder);
    cr_assert_eq(hw_npy_read(&m, path, &err), HW_OK, "%s", err.message);
    snprintf(path, sizeof path, "%s/golden.json", folder);
    cr_assert_eq(hw_json_load(&golden, path, 1 << 20, HW_ERR_FAILED, &err), HW_OK, "%s", err.message);
    hw_json_at at = {golden, path, HW_ERR_FAILED, &err};
    cr_assert_eq(hw_json_size(at, "n_prompt", 1, 1000, &n_prompt), HW_OK);
    cr_assert_eq(hw_json_size(at, "vocab_size", 1, 1000, &vocab_size), HW_OK);
    cr_assert_eq(m.n_rows, n_prompt);
    cr_assert_eq(m.n_cols, vocab_size);
    const float *last = m.data + (m.n_rows - 1) * m.n_cols; /* [vocab_size] */
    size_t best = 0;
    for (size_t i = 1; i < m.n_cols; i++)
        if (last[i] > last[best]) best = i;
    cr_assert_eq(best, json_integer_value(json_array_get(json_object_get(golden, "greedy"), 0)));
    json_decref(golden);
    hw_npy_free(&m);
}

Test(npy, refuses_other_kinds_of_arrays)
{
    refused(file_of("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", ' '),
            "want {'descr': '<f4'");
    refused(file_of("{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }", ' '),
            "want {'descr': '<f4'");
    refused(file_of("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", ' '),
            "want {'descr': '<f4'");
    refused(file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", ' '),
            "want {'descr': '<f4'");
    refused(file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }", ' '),
            "want {'descr': '<f4'");
}

Test(npy, refuses_headers_that_numpy_would_not_write)
{
    refused(file_of("{'descr':'<f4','fortran_order':False,'shape':(2,3)}", ' '), "want {'descr': '<f4'");
    refused(file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (02, 3), }", ' '),
            "want {'descr': '<f4'");
    refused(file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3), }", ' '),
            "want {'descr': '<f4'");
    refused(file_of(dictionary, '\0'), "want {'descr': '<f4'");
    refused(file_of(dictionary, '\t'), "want {'descr': '<f4'");
    file_bytes f = file_of(dictionary, ' ');
    f.at[127] = ' ';
    refused(f, "newline");
    f = file_of(dictionary, ' ');
    f.at[8]--;
    refused(f, "multiple of 64");
    f = file_of(dictionary, ' ');
    f.at[6] = 2; /* version 2.0 has a longer length */
    refused(f, "version 1.0");
}

Test(npy, refuses_data_of_another_size)
{
    file_bytes f = file_of(dictionary, ' ');
    f.n--;
    refused(f, "23 bytes of data");
    f.n += 5;
    refused(f, "28 bytes of data");
    f.n = 100;
    refused(f, "within the file's 100 bytes");
    f.n = 9;
    refused(f, "version 1.0");
    f.n = 0;
    refused(f, "version 1.0");
    /* 2^32 * 2^32 elements: the product does not fit, and must not come round to a small number. */
    refused(file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", ' '),
            "24 bytes of data");
    refused(file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 3), }", ' '),
            "want {'descr': '<f4'");
}

Test(npy, says_which_file_is_missing)
{
    hw_error err = {0};
    hw_npy m;
    cr_assert_eq(hw_npy_read(&m, "/nowhere/logits.npy", &err), HW_ERR_FAILED);
    cr_assert(strstr(err.message, "/nowhere/logits.npy"));
}
