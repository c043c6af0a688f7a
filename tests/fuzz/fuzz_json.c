/* hw_json_parse and the getters on any bytes. Beyond not crashing: what is accepted is within the ranges
 * asked for, and comes out of a dump and a second parse unchanged. */
#include <string.h>

#include "runtime/base/json.h"
#include "tests/fuzz/fuzz.h"

static void check_status(hw_status st, const hw_error *err)
{
    HW_FUZZ_CHECK(st == HW_OK || st == HW_ERR_MODEL);
    if (st) check_message(err);
}

static void get_everything(hw_json_at at, const char *key)
{
    int64_t n = -1;
    int size = 5;
    double x = 0.5;
    bool b = false;
    const char *s = "default";
    hw_status st;
    check_status(st = hw_json_int(at, key, -3, 1000, &n), at.err);
    HW_FUZZ_CHECK(st ? n == -1 : n >= -3 && n <= 1000);
    check_status(st = hw_json_size(at, key, 1, 1 << 30, &size), at.err);
    HW_FUZZ_CHECK(st ? size == 5 : size >= 1 && size <= 1 << 30);
    check_status(st = hw_json_number(at, key, 0, 1e6, &x), at.err);
    HW_FUZZ_CHECK(st ? x == 0.5 : x >= 0 && x <= 1e6);
    check_status(hw_json_bool(at, key, &b), at.err);
    check_status(st = hw_json_string(at, key, &s), at.err);
    HW_FUZZ_CHECK(st ? !strcmp(s, "default") : s != NULL);
    st = hw_json_need(at, key);
    check_status(st, at.err);
    HW_FUZZ_CHECK((st == HW_OK) ==
                  (json_object_get(at.object, key) && !json_is_null(json_object_get(at.object, key))));
}

static void walk(const json_t *v, hw_error *err)
{
    const char *key;
    json_t *child;
    size_t i;
    json_array_foreach(v, i, child) walk(child, err);
    json_object_foreach((json_t *)v, key, child)
    {
        get_everything((hw_json_at){v, "a.json", HW_ERR_MODEL, err}, key);
        walk(child, err);
    }
    if (json_is_object(v)) get_everything((hw_json_at){v, "a.json", HW_ERR_MODEL, err}, "model_type");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    hw_error err = {.rank = -1};
    json_t *v, *again;
    hw_status st = hw_json_parse(&v, (const char *)data, n_bytes, "a.json", HW_ERR_MODEL, &err);
    HW_FUZZ_CHECK((st == HW_OK) == (v != NULL));
    check_status(st, &err);
    if (st) return 0;
    walk(v, &err);
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    HW_FUZZ_CHECK(text);
    st = hw_json_parse(&again, text, strlen(text), "a.json", HW_ERR_MODEL, &err);
    HW_FUZZ_CHECK(!st && json_equal(v, again));
    free(text);
    json_decref(again);
    json_decref(v);
    return 0;
}
