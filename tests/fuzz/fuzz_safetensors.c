/* safetensors on any bytes, in two ways. As a whole file, which goes through hw_safetensors_open and, where
 * it is accepted, is read back tensor by tensor. And as a header behind 8 bytes that say how long its file
 * claims to be, so that files larger than any input are tried too. Beyond not crashing: accepted tensors
 * cover the file's data exactly, and each is found by its name. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/weights/safetensors.h"
#include "tests/fuzz/fuzz.h"

static void check_accepted(const hw_safetensors *f, uint64_t header_bytes, uint64_t file_bytes)
{
    uint64_t end = 8 + header_bytes;
    for (size_t i = 0; i < hw_safetensors_n_tensors(f); i++) {
        const hw_tensor_info *t = hw_safetensors_at(f, i);
        HW_FUZZ_CHECK(t->offset == end);
        HW_FUZZ_CHECK(t->n_dims >= 0 && t->n_dims <= HW_TENSOR_MAX_DIMS);
        HW_FUZZ_CHECK(memchr(t->dtype_name, '\0', sizeof t->dtype_name));
        HW_FUZZ_CHECK(hw_safetensors_find(f, t->name) == t);
        if (t->dtype != HW_DTYPE_NONE) {
            __uint128_t n = hw_dtype_size(
                t->dtype); /* a factor at a time stays below 2^128 while the product is below 2^64 */
            for (int d = 0; d < t->n_dims; d++) {
                n *= t->shape[d];
                HW_FUZZ_CHECK(n <= UINT64_MAX);
            }
            HW_FUZZ_CHECK(n == t->n_bytes);
        }
        end += t->n_bytes;
    }
    HW_FUZZ_CHECK(end == file_bytes);
}

static void check_data(const hw_safetensors *f, const uint8_t *data, hw_error *err)
{
    for (size_t i = 0; i < hw_safetensors_n_tensors(f); i++) {
        const hw_tensor_info *t = hw_safetensors_at(f, i);
        char *bytes = malloc(t->n_bytes + 1);
        HW_FUZZ_CHECK(bytes);
        HW_FUZZ_CHECK(!hw_safetensors_read(f, t, 0, t->n_bytes, bytes, err));
        HW_FUZZ_CHECK(!memcmp(bytes, data + t->offset, t->n_bytes));
        HW_FUZZ_CHECK(hw_safetensors_read(f, t, 1, t->n_bytes, bytes, err) == HW_ERR_INVALID);
        free(bytes);
    }
}

static uint64_t first_number(const uint8_t *data)
{
    uint64_t n = 0;
    for (int i = 0; i < 8; i++) n |= (uint64_t)data[i] << 8 * i;
    return n;
}

static void try_file(const uint8_t *data, size_t n_bytes)
{
    static int fd = -1; /* one file in memory for all inputs; it lives as long as the process */
    char path[32];
    hw_error err = {.rank = -1};
    hw_safetensors *f;
    if (fd < 0) fd = memfd_create("fuzz", MFD_CLOEXEC);
    HW_FUZZ_CHECK(fd >= 0 && !ftruncate(fd, 0));
    HW_FUZZ_CHECK(pwrite(fd, data, n_bytes, 0) == (ssize_t)n_bytes);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (hw_safetensors_open(&f, path, &err)) {
        HW_FUZZ_CHECK(!f);
        check_message(&err);
        return;
    }
    check_accepted(f, first_number(data), n_bytes);
    check_data(f, data, &err);
    hw_safetensors_close(f);
}

static void try_header(const uint8_t *data, size_t n_bytes)
{
    hw_error err = {.rank = -1};
    hw_safetensors *f;
    if (n_bytes < 8) return;
    uint64_t file_bytes = first_number(data);
    if (hw_safetensors_parse(&f, (const char *)data + 8, n_bytes - 8, file_bytes, "header", &err)) {
        HW_FUZZ_CHECK(!f);
        check_message(&err);
        return;
    }
    check_accepted(f, n_bytes - 8, file_bytes);
    hw_safetensors_close(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    try_file(data, n_bytes);
    try_header(data, n_bytes);
    return 0;
}
