#include "runtime/base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* jansson recurses once per level and allows 2048 levels. Strings are skipped; everything else is left to the parser. */
static bool too_deep(const char *text, size_t n_bytes)
{
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n_bytes; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\') i++;
            else if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > HW_JSON_MAX_DEPTH) return true;
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return false;
}

hw_status hw_json_parse(json_t **out, const char *text, size_t n_bytes, const char *name, hw_status failure,
                        hw_error *err)
{
    static const char lfs[] =
        "version https://git-lfs"; /* placeholder of large files in a clone without Git LFS */
    *out = NULL;
    if (too_deep(text, n_bytes))
        return hw_fail(err, failure, "%s: JSON nested deeper than %d levels", name, HW_JSON_MAX_DEPTH);
    json_error_t where;
    *out = json_loadb(text, n_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &where);
    if (*out) return HW_OK;
    if (json_error_code(&where) == json_error_out_of_memory)
        return hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory for %zu bytes of JSON", name, n_bytes);
    if (n_bytes >= sizeof lfs - 1 && !memcmp(text, lfs, sizeof lfs - 1))
        return hw_fail(err, failure,
                       "%s: a Git LFS pointer, not the file itself; run `git lfs pull` in its folder", name);
    return hw_fail(err, failure, "%s:%d:%d: not valid JSON: %s", name, where.line, where.column, where.text);
}

hw_status hw_file_read(char **out, size_t *n_bytes, const char *path, size_t max_bytes, hw_status failure,
                       hw_error *err)
{
    hw_status st = HW_OK;
    struct stat info;
    char *text = NULL;
    size_t n = 0, size;
    *out = NULL;
    *n_bytes = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return hw_fail(err, failure, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(fd, &info)) st = hw_fail(err, failure, "%s: cannot read: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode)) st = hw_fail(err, failure, "%s: not a regular file", path);
    else if ((uint64_t)info.st_size > max_bytes)
        st = hw_fail(err, failure, "%s: %lld bytes, more than the %zu that are read of such a file", path,
                     (long long)info.st_size, max_bytes);
    if (st) goto done;
    size = (size_t)info.st_size;
    if (!(text = malloc(size + 1))) {
        st = hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory for %zu bytes", path, size);
        goto done;
    }
    while (n < size) {
        ssize_t got = read(fd, text + n, size - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) st = hw_fail(err, failure, "%s: cannot read: %s", path, strerror(errno));
        if (got <= 0) break;
        n += (size_t)got;
    }
    text[n] = '\0';
done:
    close(fd);
    if (st) {
        free(text);
        return st;
    }
    *out = text;
    *n_bytes = n;
    return HW_OK;
}

hw_status hw_json_parse_object(json_t **out, const char *text, size_t n_bytes, const char *name,
                               hw_status failure, hw_error *err)
{
    hw_status st = hw_json_parse(out, text, n_bytes, name, failure, err);
    if (st || json_is_object(*out)) return st;
    json_decref(*out);
    *out = NULL;
    return hw_fail(err, failure, "%s: the top of the file is not a JSON object", name);
}

hw_status hw_json_load(json_t **out, const char *path, size_t max_bytes, hw_status failure, hw_error *err)
{
    char *text;
    size_t n_bytes;
    *out = NULL;
    hw_status st = hw_file_read(&text, &n_bytes, path, max_bytes, failure, err);
    if (st) return st;
    st = hw_json_parse_object(out, text, n_bytes, path, failure, err);
    free(text);
    return st;
}

static const char *type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number with a fraction";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: break;
    }
    return "null";
}

/* NULL for a missing key and for null: Hugging Face writes null where it means "not set". */
static const json_t *find(hw_json_at at, const char *key)
{
    const json_t *v = json_object_get(at.object, key);
    return v && !json_is_null(v) ? v : NULL;
}

hw_status hw_json_need(hw_json_at at, const char *key)
{
    if (find(at, key)) return HW_OK;
    return hw_fail(at.err, at.failure, "%s: key \"%s\" is missing", at.name, key);
}

hw_status hw_json_int(hw_json_at at, const char *key, int64_t min, int64_t max, int64_t *out)
{
    const json_t *v = find(at, key);
    if (!v) return HW_OK;
    if (!json_is_integer(v))
        return hw_fail(at.err, at.failure, "%s: \"%s\" is %s, wanted an integer", at.name, key, type_name(v));
    int64_t n = json_integer_value(v);
    if (n < min || n > max)
        return hw_fail(at.err, at.failure, "%s: \"%s\" is %lld, wanted %lld to %lld", at.name, key,
                       (long long)n, (long long)min, (long long)max);
    *out = n;
    return HW_OK;
}

hw_status hw_json_size(hw_json_at at, const char *key, int min, int max, int *out)
{
    int64_t n = *out;
    hw_status st = hw_json_int(at, key, min, max, &n);
    if (!st) *out = (int)n;
    return st;
}

hw_status hw_json_number(hw_json_at at, const char *key, double min, double max, double *out)
{
    const json_t *v = find(at, key);
    if (!v) return HW_OK;
    if (!json_is_number(v))
        return hw_fail(at.err, at.failure, "%s: \"%s\" is %s, wanted a number", at.name, key, type_name(v));
    double n = json_number_value(v);
    if (!(n >= min && n <= max))
        return hw_fail(at.err, at.failure, "%s: \"%s\" is %g, wanted %g to %g", at.name, key, n, min, max);
    *out = n;
    return HW_OK;
}

hw_status hw_json_bool(hw_json_at at, const char *key, bool *out)
{
    const json_t *v = find(at, key);
    if (!v) return HW_OK;
    if (!json_is_boolean(v))
        return hw_fail(at.err, at.failure, "%s: \"%s\" is %s, wanted true or false", at.name, key,
                       type_name(v));
    *out = json_is_true(v);
    return HW_OK;
}

hw_status hw_json_string(hw_json_at at, const char *key, const char **out)
{
    const json_t *v = find(at, key);
    if (!v) return HW_OK;
    if (!json_is_string(v))
        return hw_fail(at.err, at.failure, "%s: \"%s\" is %s, wanted a string", at.name, key, type_name(v));
    if (strlen(json_string_value(v)) != json_string_length(v))
        return hw_fail(at.err, at.failure, "%s: \"%s\" holds a zero byte", at.name, key);
    *out = json_string_value(v);
    return HW_OK;
}
