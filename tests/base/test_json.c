#include "runtime/base/json.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static hw_error err;

static json_t *parse_bytes(const char *text, size_t n)
{
    json_t *v = NULL;
    err.message[0] = '\0';
    hw_status st = hw_json_parse(&v, text, n, "a.json", HW_ERR_MODEL, &err);
    cr_assert_eq(st, v ? HW_OK : HW_ERR_MODEL, "%s", err.message);
    return v;
}

static json_t *parse(const char *text) { return parse_bytes(text, strlen(text)); }

static void assert_refused(const char *text, const char *because)
{
    cr_assert_null(parse(text), "%s", text);
    cr_assert_not_null(strstr(err.message, because), "%s: %s", text, err.message);
    cr_assert_eq(strncmp(err.message, "a.json:", 7), 0, "%s", err.message);
}

Test(json, what_is_not_json_is_refused_with_line_and_column)
{
    assert_refused("", "a.json:1:0: not valid JSON");
    assert_refused("{\n  \"a\": tru }", "a.json:2:");
    assert_refused("{\"a\": 1} x", "end of file");
    assert_refused("{\"a\": 01}", "not valid JSON");
    assert_refused("{\"a\": NaN}", "not valid JSON");
    assert_refused("{\"a\": 1,}", "not valid JSON");
    assert_refused("\"\xff\"", "unable to decode byte 0xff");
    assert_refused("\"\\ud800\"", "not valid JSON");
}

Test(json, a_git_lfs_pointer_is_called_one)
{
    static const char text[] = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    json_t *value;
    cr_expect_eq(hw_json_parse(&value, text, sizeof text - 1, "some.json", HW_ERR_MODEL, &err), HW_ERR_MODEL);
    cr_expect_str_eq(err.message,
                     "some.json: a Git LFS pointer, not the file itself; run `git lfs pull` in its folder");
}

Test(json, duplicate_keys_are_refused_at_any_depth)
{
    assert_refused("{\"a\": 1, \"a\": 1}", "duplicate");
    assert_refused("{\"b\": [{\"a\": 1, \"\\u0061\": 2}]}", "duplicate");
}

Test(json, numbers_that_do_not_fit_are_refused)
{
    json_t *v = parse("[9223372036854775807, -9223372036854775808, 9007199254740993]");
    cr_assert_eq(json_integer_value(json_array_get(v, 0)), INT64_MAX);
    cr_assert_eq(json_integer_value(json_array_get(v, 1)), INT64_MIN);
    cr_assert_eq(json_integer_value(json_array_get(v, 2)),
                 9007199254740993); /* 2^53 + 1: no double holds it */
    json_decref(v);
    assert_refused("9223372036854775808", "too big");
    assert_refused("-9223372036854775809", "too big negative");
    assert_refused("1e999", "overflow");
}

static char *nested(int depth, const char *inner)
{
    char *text = calloc(1, 6 * (size_t)depth + strlen(inner) + 1);
    for (int i = 0; i < depth; i++) strcat(text, i & 1 ? "{\"a\":" : "[");
    strcat(text, inner);
    for (int i = depth - 1; i >= 0; i--) strcat(text, i & 1 ? "}" : "]");
    return text;
}

Test(json, nesting_ends_at_the_limit)
{
    char *text = nested(HW_JSON_MAX_DEPTH, "1");
    json_t *v = parse(text);
    cr_assert_not_null(v);
    json_decref(v);
    free(text);
    text = nested(HW_JSON_MAX_DEPTH + 1, "1");
    assert_refused(text, "nested deeper than 128 levels");
    free(text);
    char *open = malloc(1000001);
    memset(open, '[', 1000000);
    open[1000000] = '\0';
    assert_refused(open, "nested deeper");
    free(open);
}

Test(json, brackets_in_strings_do_not_nest)
{
    char *text = malloc(2000);
    strcpy(text, "[\"\\\"");
    memset(text + 4, '[', 1000);
    strcpy(text + 1004, "\\\\\"]");
    json_t *v = parse(text);
    cr_assert_not_null(v, "%s", err.message);
    cr_assert_eq(json_string_length(json_array_get(v, 0)), 1002);
    json_decref(v);
    free(text);
}

Test(json, zero_bytes_are_allowed_in_strings_only_as_escapes)
{
    json_t *v = parse("\"a\\u0000b\"");
    cr_assert_eq(json_string_length(v), 3);
    json_decref(v);
    cr_assert_null(parse_bytes("\"a\0b\"", 5));
    cr_assert_null(parse_bytes("{}\0", 3));
    assert_refused("{\"a\\u0000b\": 1}", "NUL byte in object key");
}

static hw_json_at at_text(const char *text)
{
    json_t *v = parse(text);
    cr_assert_not_null(v, "%s", err.message);
    return (hw_json_at){v, "config.json", HW_ERR_MODEL, &err};
}

#define ASSERT_SAYS(CALL, MESSAGE)                                                                           \
    do {                                                                                                     \
        cr_assert_eq((CALL), HW_ERR_MODEL);                                                                  \
        cr_assert_str_eq(err.message, MESSAGE);                                                              \
    } while (0)

Test(json, getters_read_what_is_there)
{
    hw_json_at at = at_text("{\"n\": 7, \"x\": 1.5, \"b\": false, \"s\": \"text\"}");
    int64_t n = 0;
    int size = 0;
    double x = 0, whole = 0;
    bool b = true;
    const char *s = NULL;
    cr_assert_eq(hw_json_int(at, "n", 7, 7, &n), HW_OK);
    cr_assert_eq(hw_json_size(at, "n", 0, 10, &size), HW_OK);
    cr_assert_eq(hw_json_number(at, "x", 0, 2, &x), HW_OK);
    cr_assert_eq(hw_json_number(at, "n", 0, 7, &whole), HW_OK);
    cr_assert_eq(hw_json_bool(at, "b", &b), HW_OK);
    cr_assert_eq(hw_json_string(at, "s", &s), HW_OK);
    cr_assert_eq(hw_json_need(at, "s"), HW_OK);
    cr_assert(n == 7 && size == 7 && x == 1.5 && whole == 7 && !b);
    cr_assert_str_eq(s, "text");
    json_decref((json_t *)at.object);
}

Test(json, a_missing_key_or_null_leaves_the_default)
{
    hw_json_at at = at_text("{\"k\": null}");
    const char *keys[] = {"k", "absent"};
    for (int i = 0; i < 2; i++) {
        int64_t n = 3;
        int size = 4;
        double x = 0.5;
        bool b = true;
        const char *s = "default";
        cr_assert_eq(hw_json_int(at, keys[i], 0, 0, &n), HW_OK);
        cr_assert_eq(hw_json_size(at, keys[i], 0, 9, &size), HW_OK);
        cr_assert_eq(hw_json_number(at, keys[i], 0, 0, &x), HW_OK);
        cr_assert_eq(hw_json_bool(at, keys[i], &b), HW_OK);
        cr_assert_eq(hw_json_string(at, keys[i], &s), HW_OK);
        cr_assert(n == 3 && size == 4 && x == 0.5 && b && !strcmp(s, "default"));
    }
    ASSERT_SAYS(hw_json_need(at, "k"), "config.json: key \"k\" is missing");
    ASSERT_SAYS(hw_json_need(at, "absent"), "config.json: key \"absent\" is missing");
    json_decref((json_t *)at.object);
}

Test(json, getters_say_what_was_found_and_wanted)
{
    hw_json_at at =
        at_text("{\"s\": \"12\", \"f\": 12.0, \"n\": -1, \"big\": 4294967297, \"l\": [], \"o\": {}, "
                "\"t\": true, \"z\": \"a\\u0000b\"}");
    int64_t n = 3;
    int size = 4;
    double x = 5;
    bool b = true;
    const char *s = "kept";
    ASSERT_SAYS(hw_json_int(at, "s", 0, 9, &n), "config.json: \"s\" is a string, wanted an integer");
    ASSERT_SAYS(hw_json_int(at, "f", 0, 9, &n),
                "config.json: \"f\" is a number with a fraction, wanted an integer");
    ASSERT_SAYS(hw_json_int(at, "n", 0, 9, &n), "config.json: \"n\" is -1, wanted 0 to 9");
    ASSERT_SAYS(hw_json_size(at, "big", 0, 9, &size), "config.json: \"big\" is 4294967297, wanted 0 to 9");
    ASSERT_SAYS(hw_json_number(at, "l", 0, 1, &x), "config.json: \"l\" is a list, wanted a number");
    ASSERT_SAYS(hw_json_number(at, "n", 0, 1, &x), "config.json: \"n\" is -1, wanted 0 to 1");
    ASSERT_SAYS(hw_json_bool(at, "o", &b), "config.json: \"o\" is an object, wanted true or false");
    ASSERT_SAYS(hw_json_bool(at, "n", &b), "config.json: \"n\" is an integer, wanted true or false");
    ASSERT_SAYS(hw_json_string(at, "t", &s), "config.json: \"t\" is true, wanted a string");
    ASSERT_SAYS(hw_json_string(at, "z", &s), "config.json: \"z\" holds a zero byte");
    cr_assert(n == 3 && size == 4 && x == 5 && b && !strcmp(s, "kept"));
    json_decref((json_t *)at.object);
}

static char folder[] = "/tmp/headway-test-json-XXXXXX";
static char path[sizeof folder + 16];

static void in_folder(void)
{
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.json", folder);
}

static void remove_folder(void)
{
    unlink(path);
    rmdir(folder);
}

static void write_text(const char *text)
{
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    fputs(text, f);
    fclose(f);
}

TestSuite(json_file, .init = in_folder, .fini = remove_folder);

Test(json_file, a_file_is_read_whole_and_ends_with_a_zero)
{
    char *text;
    size_t n;
    write_text("{\"a\": 1}");
    cr_assert_eq(hw_file_read(&text, &n, path, 8, HW_ERR_MODEL, &err), HW_OK);
    cr_assert_eq(n, 8);
    cr_assert_str_eq(text, "{\"a\": 1}");
    free(text);
}

Test(json_file, too_large_absent_and_irregular_files_are_refused)
{
    char *text;
    size_t n;
    cr_assert_eq(hw_file_read(&text, &n, path, 8, HW_ERR_MODEL, &err), HW_ERR_MODEL);
    cr_assert_not_null(strstr(err.message, "a.json: cannot open: No such file"), "%s", err.message);
    write_text("{\"a\": 12}");
    cr_assert_eq(hw_file_read(&text, &n, path, 8, HW_ERR_MODEL, &err), HW_ERR_MODEL);
    cr_assert_not_null(strstr(err.message, "9 bytes, more than the 8"), "%s", err.message);
    cr_assert_eq(hw_file_read(&text, &n, folder, 8, HW_ERR_MODEL, &err), HW_ERR_MODEL);
    cr_assert_not_null(strstr(err.message, "not a regular file"), "%s", err.message);
    unlink(path);
    cr_assert_eq(mkfifo(path, 0600), 0); /* nobody writes to it: opening it must not wait */
    cr_assert_eq(hw_file_read(&text, &n, path, 8, HW_ERR_INVALID, &err), HW_ERR_INVALID);
    cr_assert_null(text);
}

Test(json_file, the_top_must_be_an_object)
{
    json_t *v;
    write_text("{\"a\": 1}");
    cr_assert_eq(hw_json_load(&v, path, 100, HW_ERR_MODEL, &err), HW_OK);
    json_decref(v);
    write_text("[1]");
    cr_assert_eq(hw_json_load(&v, path, 100, HW_ERR_MODEL, &err), HW_ERR_MODEL);
    cr_assert_null(v);
    cr_assert_not_null(strstr(err.message, "not a JSON object"), "%s", err.message);
}
