#include "runtime/weights/safetensors.h"

#include <sys/stat.h>

#include "runtime/base/json.h"
#include "tests/runtime/weights/checkpoint_files.h"

static hw_error err;

/* A header whose file has `n_data` bytes of data. NULL when it is refused; then err has the message. */
static hw_safetensors *parse_data(const char *header, uint64_t n_data)
{
    hw_safetensors *f;
    size_t n = strlen(header);
    err.message[0] = '\0';
    hw_status st = hw_safetensors_parse(&f, header, n, 8 + n + n_data, "x.safetensors", &err);
    cr_assert_eq(st, f ? HW_OK : HW_ERR_MODEL, "%s", err.message);
    return f;
}

static void assert_refused(const char *header, uint64_t n_data, const char *because)
{
    cr_assert_null(parse_data(header, n_data), "%s", header);
    cr_assert_not_null(strstr(err.message, because), "%s: %s", header, err.message);
    cr_assert_eq(strncmp(err.message, "x.safetensors:", 14), 0, "%s", err.message);
}

static void assert_taken(const char *header, uint64_t n_data)
{
    hw_safetensors *f = parse_data(header, n_data);
    cr_assert_not_null(f, "%s: %s", header, err.message);
    hw_safetensors_close(f);
}

#define TENSOR(NAME, DTYPE, SHAPE, BEGIN, END)                                                               \
    "\"" NAME "\":{\"dtype\":\"" DTYPE "\",\"shape\":[" SHAPE "],\"data_offsets\":[" #BEGIN "," #END "]}"

Test(safetensors, tensors_are_listed_in_file_order_and_found_by_name)
{
    const char *header =
        "{\"__metadata__\":{\"format\":\"pt\"}," TENSOR("w", "BF16", "3,2", 4, 16) "," TENSOR(
            "b", "F32", "", 0, 4) "," TENSOR("a", "F16", "1,5", 16, 26) "}   ";
    hw_safetensors *f = parse_data(header, 26);
    cr_assert_not_null(f, "%s", err.message);
    cr_assert_eq(hw_safetensors_n_tensors(f), 3);
    const char *order[] = {"b", "w", "a"};
    for (size_t i = 0; i < 3; i++) {
        cr_assert_str_eq(hw_safetensors_at(f, i)->name, order[i]);
        cr_assert_eq(hw_safetensors_find(f, order[i]), hw_safetensors_at(f, i));
    }
    const hw_tensor_info *w = hw_safetensors_find(f, "w");
    cr_assert(w->dtype == HW_BF16 && w->n_dims == 2 && w->shape[0] == 3 && w->shape[1] == 2);
    cr_assert_eq(w->offset, 8 + strlen(header) + 4);
    cr_assert_eq(w->n_bytes, 12);
    cr_assert_eq(hw_safetensors_at(f, 0)->dtype, HW_F32);
    cr_assert_eq(hw_safetensors_at(f, 2)->dtype, HW_F16);
    cr_assert_null(hw_safetensors_find(f, "c"));
    cr_assert_null(hw_safetensors_find(f, "__metadata__"));
    cr_assert_str_eq(hw_safetensors_path(f), "x.safetensors");
    hw_safetensors_close(f);
}

Test(safetensors, empty_and_scalar_tensors_and_no_tensors_at_all_are_legal)
{
    assert_taken("{}", 0);
    assert_taken("{\"__metadata__\":{}}", 0);
    assert_taken("{" TENSOR("scalar", "F32", "", 0, 4) "}", 4);
    /* An empty tensor lies wherever its neighbours meet. */
    assert_taken(
        "{" TENSOR("a", "F32", "1", 0, 4) "," TENSOR("e", "F32", "0,7", 4, 4) "," TENSOR(
            "z", "F32", "1", 4, 8) "," TENSOR("y", "U8", "0", 0, 0) "," TENSOR("t", "U8", "0", 8, 8) "}",
        8);
}

Test(safetensors, each_dtype_is_checked_with_its_own_size)
{
    static const struct {
        const char *name;
        unsigned bits;
    } dtypes[] = {{"F64", 64}, {"I64", 64},    {"U64", 64},    {"C64", 64},    {"F32", 32},
                  {"I32", 32}, {"U32", 32},    {"F16", 16},    {"BF16", 16},   {"I16", 16},
                  {"U16", 16}, {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"I8", 8},
                  {"U8", 8},   {"BOOL", 8},    {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4}};
    char header[256];
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        for (unsigned wrong = 0; wrong < 2; wrong++) {
            unsigned n = dtypes[i].bits * 12 / 8 + wrong;
            snprintf(header, sizeof header,
                     "{\"t\":{\"dtype\":\"%s\",\"shape\":[3,4],\"data_offsets\":[0,%u]}}", dtypes[i].name, n);
            if (wrong) assert_refused(header, n, "shape [3, 4] of");
            else assert_taken(header, n);
        }
    assert_refused("{" TENSOR("t", "F4", "3", 0, 1) "}", 1, "12 bits, not whole bytes");
}

Test(safetensors, only_floating_formats_that_can_be_weights_get_a_type)
{
    const char *others[] = {"F64", "I64", "U8", "BOOL"};
    char header[256];
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        snprintf(header, sizeof header, "{\"t\":{\"dtype\":\"%s\",\"shape\":[0],\"data_offsets\":[0,0]}}",
                 others[i]);
        hw_safetensors *f = parse_data(header, 0);
        cr_assert_eq(hw_safetensors_at(f, 0)->dtype, HW_DTYPE_NONE);
        cr_assert_str_eq(hw_safetensors_at(f, 0)->dtype_name, others[i]);
        hw_safetensors_close(f);
    }
}

Test(safetensors, a_dtype_from_the_future_is_listed_by_its_name)
{
    hw_safetensors *f = parse_data("{" TENSOR("t", "F2_NEW", "5", 0, 2) "}", 2);
    cr_assert_not_null(f, "%s", err.message);
    cr_assert_eq(hw_safetensors_at(f, 0)->dtype, HW_DTYPE_NONE);
    cr_assert_str_eq(hw_safetensors_at(f, 0)->dtype_name, "F2_NEW");
    hw_safetensors_close(f);
    assert_taken("{" TENSOR("t", "ABCDEFGHIJKLMNO", "5", 0, 2) "}", 2);
    assert_refused("{" TENSOR("t", "ABCDEFGHIJKLMNOP", "5", 0, 2) "}", 2,
                   "has 16 characters, wanted 1 to 15");
    assert_refused("{" TENSOR("t", "", "5", 0, 2) "}", 2, "has 0 characters");
}

Test(safetensors, holes_overlaps_and_leftovers_are_refused)
{
    assert_refused("{" TENSOR("a", "U8", "4", 0, 4) "," TENSOR("b", "U8", "4", 6, 10) "}", 10,
                   "tensor \"b\": the 2 bytes before it belong to no tensor");
    assert_refused("{" TENSOR("a", "U8", "4", 2, 6) "}", 6, "the 2 bytes before it");
    assert_refused("{" TENSOR("a", "U8", "4", 0, 4) "," TENSOR("b", "U8", "4", 3, 7) "}", 7,
                   "tensor \"b\" overlaps tensor \"a\" by 1 bytes");
    assert_refused("{" TENSOR("a", "U8", "4", 0, 4) "," TENSOR("b", "U8", "4", 0, 4) "}", 4, "overlaps");
    assert_refused("{" TENSOR("e", "U8", "0", 2, 2) "," TENSOR("a", "U8", "4", 0, 4) "}", 4, "overlaps");
    assert_refused("{" TENSOR("a", "U8", "4", 0, 4) "}", 7, "3 bytes after the last tensor");
    assert_refused("{}", 1, "1 bytes after the last tensor");
    assert_refused("{" TENSOR("a", "U8", "4", 0, 4) "}", 3, "truncated");
}

Test(safetensors, sizes_that_overflow_are_refused)
{
    /* 2^32 * 2^32 elements; 2^61 elements of 8 bytes; and bits that wrap to the right byte count: 2^58 * 64
     * bits = 2^64. */
    assert_refused("{" TENSOR("a", "F32", "4294967296,4294967296", 0, 0) "}", 0,
                   "more bits than 64 bits can count");
    assert_refused("{" TENSOR("a", "F64", "2305843009213693952", 0, 0) "}", 0, "more bits");
    assert_refused("{" TENSOR("a", "F64", "288230376151711744", 0, 0) "}", 0, "more bits");
    assert_refused("{" TENSOR("a", "F32", "18446744073709551617", 0, 4) "}", 4, "not valid JSON");
    assert_refused("{" TENSOR("a", "NEW", "1", 9223372036854775806, 9223372036854775807) "}", 1,
                   "belong to no tensor");
    assert_refused("{" TENSOR("a", "NEW", "1", 0, 9223372036854775807) "}", 1, "truncated");
    /* Zero times anything is zero: no overflow once a dimension is 0, whatever comes first is another
     * matter. */
    assert_taken("{" TENSOR("a", "F32", "0,4294967296,4294967296", 0, 0) "}", 0);
}

Test(safetensors, entries_of_the_wrong_form_are_refused_by_tensor)
{
    assert_refused("{\"t\":3}", 0, "tensor \"t\": not an object");
    assert_refused("{\"t\":{\"shape\":[],\"data_offsets\":[0,4]}}", 4,
                   "tensor \"t\": key \"dtype\" is missing");
    assert_refused("{\"t\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "key \"shape\" is missing");
    assert_refused("{\"t\":{\"dtype\":\"F32\",\"shape\":[]}}", 4, "key \"data_offsets\" is missing");
    assert_refused("{\"t\":{\"dtype\":3,\"shape\":[],\"data_offsets\":[0,4]}}", 4, "\"dtype\" is an integer");
    assert_refused("{\"t\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,4]}}", 4,
                   "\"shape\" is not a list");
    assert_refused("{" TENSOR("t", "F32", "-1", 0, 4) "}", 4, "\"shape\"[0] is -1, wanted 0 or more");
    assert_refused("{" TENSOR("t", "F32", "1,1.0", 0, 4) "}", 4, "\"shape\"[1] is not an integer");
    assert_refused("{" TENSOR("t", "F32", "1", 4, 0) "}", 4, "data_offsets are [4, 0]");
    assert_refused("{" TENSOR("t", "F32", "1", -4, 0) "}", 4, "\"data_offsets\"[0] is -4");
    assert_refused("{\"t\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0]}}", 4,
                   "has 1 elements, wanted 2");
    assert_taken("{" TENSOR("t", "F32", "1,1,1,1,1,1,1,1", 0, 4) "}", 4);
    assert_refused("{" TENSOR("t", "F32", "1,1,1,1,1,1,1,1,1", 0, 4) "}", 4, "has 9 elements, wanted 0 to 8");
    assert_refused("{\"__metadata__\":[]}", 0, "__metadata__ is not an object");
    assert_refused("{\"__metadata__\":{\"a\":1}}", 0, "__metadata__: \"a\" is not a string");
}

Test(safetensors, headers_that_are_not_strict_json_are_refused)
{
    assert_refused("", 0, "does not begin with '{'");
    assert_refused(" {}", 0, "does not begin with '{'");
    assert_refused("[]", 0, "does not begin with '{'");
    assert_refused("{}{}", 0, "not valid JSON");
    assert_refused("{" TENSOR("t", "U8", "1", 0, 1) "," TENSOR("t", "U8", "1", 0, 1) "}", 1, "duplicate");
    assert_refused("{\"t\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
                   "duplicate");
    assert_refused("{\"\xff\":{}}", 0, "not valid JSON");
}

Test(safetensors, hostile_names_do_not_break_messages)
{
    assert_refused("{\"a\\n\\u001b[31m\":3}", 0, "tensor \"a??[31m\"");
    char header[4096] = "{\"";
    memset(header + 2, 'n', 3000);
    strcpy(header + 3002, "\":3}");
    assert_refused(header, 0, "nnn\": not an object"); /* the name is cut, what is wrong with it is not */
}

Test(safetensors, thousands_of_tensors_are_found)
{
    enum { N = 5000 };
    char *header = malloc(N * 100), *p = header, name[32];
    p += sprintf(p, "{");
    for (int i = 0; i < N; i++) /* 2557 has no factor in common with 5000: file order and name order differ */
        p += sprintf(p, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i ? "," : "",
                     i * 2557 % N, i, i + 1);
    sprintf(p, "}");
    hw_safetensors *f = parse_data(header, N);
    cr_assert_not_null(f, "%s", err.message);
    for (int i = 0; i < N; i++) {
        sprintf(name, "t%d", i * 2557 % N);
        cr_assert_eq(hw_safetensors_find(f, name), hw_safetensors_at(f, (size_t)i));
    }
    hw_safetensors_close(f);
    free(header);
}

TestSuite(safetensors_file, .init = make_folder, .fini = remove_folder);

static void assert_not_opened(const char *name, const char *because)
{
    hw_safetensors *f;
    cr_assert_eq(hw_safetensors_open(&f, in_folder(name), &err), HW_ERR_MODEL, "%s", because);
    cr_assert_null(f);
    cr_assert_not_null(strstr(err.message, because), "%s", err.message);
    cr_assert_not_null(strstr(err.message, name), "%s", err.message);
}

Test(safetensors_file, bytes_are_those_of_the_tensor)
{
    write_safetensors("a", "{" TENSOR("x", "U8", "300", 0, 300) "," TENSOR("y", "F32", "2,50", 300, 700) "}",
                      700);
    hw_safetensors *f;
    cr_assert_eq(hw_safetensors_open(&f, in_folder("a"), &err), HW_OK, "%s", err.message);
    const hw_tensor_info *y = hw_safetensors_find(f, "y");
    unsigned char bytes[400];
    cr_assert_eq(hw_safetensors_read(f, y, 0, 400, bytes, &err), HW_OK);
    for (int i = 0; i < 400; i++) cr_assert_eq(bytes[i], (300 + i) % 251);
    cr_assert_eq(hw_safetensors_read(f, y, 37, 3, bytes, &err), HW_OK);
    for (int i = 0; i < 3; i++) cr_assert_eq(bytes[i], (337 + i) % 251);
    cr_assert_eq(hw_safetensors_read(f, y, 400, 0, bytes, &err), HW_OK);
    cr_assert_eq(hw_safetensors_read(f, y, 0, 401, bytes, &err), HW_ERR_INVALID);
    cr_assert_eq(hw_safetensors_read(f, y, 401, 0, bytes, &err), HW_ERR_INVALID);
    cr_assert_eq(hw_safetensors_read(f, y, UINT64_MAX, 2, bytes, &err), HW_ERR_INVALID);
    hw_safetensors_close(f);
}

Test(safetensors_file, a_file_that_shrinks_is_an_error_and_not_a_crash)
{
    write_safetensors("a", "{" TENSOR("x", "U8", "9000", 0, 9000) "}", 9000);
    hw_safetensors *f;
    cr_assert_eq(hw_safetensors_open(&f, in_folder("a"), &err), HW_OK, "%s", err.message);
    cr_assert_eq(truncate(in_folder("a"), 4096), 0);
    char bytes[9000];
    cr_assert_eq(hw_safetensors_read(f, hw_safetensors_at(f, 0), 0, 9000, bytes, &err), HW_ERR_MODEL);
    cr_assert_not_null(strstr(err.message, "tensor \"x\": "), "%s", err.message);
    cr_assert_not_null(strstr(err.message, "shrank while it was read: it ends before byte 4096"), "%s",
                       err.message);
    hw_safetensors_close(f);
}

/* Cut anywhere, the file is refused; only the whole file opens. */
Test(safetensors_file, every_truncation_is_refused)
{
    const char *header = "{" TENSOR("x", "U8", "20", 0, 20) "}";
    size_t whole = 8 + strlen(header) + 20;
    hw_safetensors *f;
    for (size_t n = whole; n-- > 0;) {
        write_safetensors("a", header, 20);
        cr_assert_eq(truncate(in_folder("a"), (off_t)n), 0);
        assert_not_opened("a", n < 8 ? "too few" : "truncated");
    }
    write_safetensors("a", header, 20);
    cr_assert_eq(hw_safetensors_open(&f, in_folder("a"), &err), HW_OK);
    hw_safetensors_close(f);
}

Test(safetensors_file, what_is_no_safetensors_file_is_told_apart)
{
    assert_not_opened("absent", "cannot open: No such file");
    write_text("lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
    assert_not_opened("lfs", "git lfs pull");
    write_text("zip", "PK\x03\x04 and so on and so on");
    assert_not_opened("zip", "not a safetensors file");
    write_bytes("long", "\x01\xe1\xf5\x05\0\0\0\0{}", 10); /* 100 000 001 */
    assert_not_opened("long", "100000001 bytes, and at most 100000000");
    write_bytes("limit", "\x00\xe1\xf5\x05\0\0\0\0{}", 10); /* 100 000 000 */
    assert_not_opened("limit", "truncated: the header ends at byte 100000008, the file at 10");
    write_bytes("wrap", "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    assert_not_opened("wrap", "18446744073709551615");
    cr_assert_eq(mkfifo(in_folder("pipe"), 0600), 0);
    assert_not_opened("pipe", "not a regular file");
    cr_assert_eq(mkdir(in_folder("folder"), 0700), 0);
    assert_not_opened("folder", "not a regular file");
    cr_assert_eq(symlink("nowhere", in_folder("link")), 0);
    assert_not_opened("link", "a link to a file that is not there");
}

Test(safetensors_file, a_header_without_a_file_cannot_be_read_from)
{
    hw_safetensors *f = parse_data("{" TENSOR("t", "U8", "1", 0, 1) "}", 1);
    char byte;
    cr_assert_eq(hw_safetensors_read(f, hw_safetensors_at(f, 0), 0, 1, &byte, &err), HW_ERR_INVALID);
    hw_safetensors_close(f);
    hw_safetensors_close(NULL);
}

/* The file's own facts, from its config.json: 1279 tokens, 256 wide, stored in bfloat16. */
Test(safetensors_file, the_demo_model_opens)
{
    hw_safetensors *f;
    cr_assert_eq(hw_safetensors_open(&f, HW_SOURCE_DIR "/models/tales/model.safetensors", &err), HW_OK, "%s",
                 err.message);
    const hw_tensor_info *t = hw_safetensors_find(f, "model.embed_tokens.weight");
    cr_assert_not_null(t);
    cr_assert(t->dtype == HW_BF16 && t->n_dims == 2 && t->shape[0] == 1279 && t->shape[1] == 256);
    hw_safetensors_close(f);
}
