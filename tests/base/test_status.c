#include "runtime/base/status.h"

#include <criterion/criterion.h>
#include <string.h>

#include "runtime/base/host.h"

/* A format that the compiler does not check, for texts that are data. */
static const char *said(hw_error *err, const char *text)
{
    hw_fail(err, HW_ERR_FAILED, "%s", text);
    return err->message;
}

Test(status, fail_writes_the_message_and_returns_the_status)
{
    hw_error err;
    cr_assert_eq(hw_fail(&err, HW_ERR_MODEL, "%s: %d of %d", "a.json", 3, 7), HW_ERR_MODEL);
    cr_assert_str_eq(err.message, "a.json: 3 of 7");
}

Test(status, without_an_error_object_only_the_status_comes_back)
{
    cr_assert_eq(hw_fail(NULL, HW_ERR_NO_MEMORY, "%d", 1), HW_ERR_NO_MEMORY);
    cr_assert_eq(hw_context(NULL, HW_ERR_NO_MEMORY, "%d", 1), HW_ERR_NO_MEMORY);
}

Test(status, control_characters_are_shown_as_question_marks)
{
    hw_error err;
    cr_assert_str_eq(said(&err, "a\nb\tc\x1b[31md\x7f"), "a?b?c?[31md?");
    cr_assert_str_eq(said(&err, "\xc2\x9b"
                                "31m"),
                     "??31m");                            /* U+009B begins a terminal command like ESC [ */
    cr_assert_str_eq(said(&err, "\xc2\xa0"), "\xc2\xa0"); /* U+00A0, the first that is none */
}

Test(status, utf8_is_kept_and_what_is_not_utf8_is_not)
{
    hw_error err;
    const char *kept = "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x99\x82 \xf4\x8f\xbf\xbf";
    cr_assert_str_eq(said(&err, kept), kept);
    cr_assert_str_eq(said(&err, "\xff|\x80|\xc3|\xe2\x82|\xf0\x9f\x99"), "?|?|?|\?\?|\?\?\?");
    cr_assert_str_eq(said(&err, "\xc0\xaf"), "\?\?");             /* "/" in two bytes */
    cr_assert_str_eq(said(&err, "\xe0\x80\xaf"), "\?\?\?");       /* and in three */
    cr_assert_str_eq(said(&err, "\xed\xa0\x80"), "\?\?\?");       /* a surrogate */
    cr_assert_str_eq(said(&err, "\xf4\x90\x80\x80"), "\?\?\?\?"); /* beyond U+10FFFF */
}

Test(status, a_long_message_is_cut_between_characters)
{
    hw_error err;
    char text[3 * HW_ERROR_CAPACITY + 1] = "";
    for (int i = 0; i < HW_ERROR_CAPACITY; i++) strcat(text, "\xe2\x82\xac");
    said(&err, text);
    cr_assert_eq(strlen(err.message), HW_ERROR_CAPACITY - 1u);
    cr_assert_eq(strspn(err.message, "\xe2\x82\xac?"), HW_ERROR_CAPACITY - 1u);
    /* 1023 is 341 characters of three bytes: nothing is left over. One byte in front leaves two over. */
    cr_assert_null(strchr(err.message, '?'));
    text[0] = 'x', memmove(text + 1, text + 3, sizeof text - 3);
    cr_assert_str_eq(said(&err, text) + HW_ERROR_CAPACITY - 3, "\?\?");
}

Test(status, context_goes_in_front)
{
    hw_error err;
    hw_fail(&err, HW_ERR_MODEL, "shape is wrong");
    cr_assert_eq(hw_context(&err, HW_ERR_MODEL, "layer %d", 3), HW_ERR_MODEL);
    cr_assert_eq(hw_context(&err, HW_ERR_MODEL, "a\nb"), HW_ERR_MODEL);
    cr_assert_str_eq(err.message, "a?b: layer 3: shape is wrong");
}

Test(status, context_of_a_success_says_nothing)
{
    hw_error err = {.message = "untouched", .rank = -1};
    cr_assert_eq(hw_context(&err, HW_OK, "layer"), HW_OK);
    cr_assert_str_eq(err.message, "untouched");
}

Test(status, a_long_context_does_not_push_the_message_out)
{
    hw_error err;
    char path[4096];
    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    hw_fail(&err, HW_ERR_MODEL, "shape is wrong");
    hw_context(&err, HW_ERR_MODEL, "%s", path);
    cr_assert_not_null(strstr(err.message, "pppp: shape is wrong"), "%s", err.message);
}

Test(status, a_long_message_behind_a_long_context_is_cut_at_its_end)
{
    hw_error err;
    char text[4096];
    memset(text, 'm', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    said(&err, text);
    memset(text, 'p', sizeof text - 1);
    hw_context(&err, HW_ERR_MODEL, "%s", text);
    cr_assert_eq(strlen(err.message), HW_ERROR_CAPACITY - 1u);
    cr_assert_not_null(strstr(err.message, "pp: mm"));
}

Test(status, the_rank_of_an_error_outlives_its_context)
{
    hw_error err = {.rank = 5};
    hw_fail(&err, HW_ERR_DEVICE, "rank 3: no such file");
    cr_expect_eq(err.rank, -1, "a text is not asked");
    cr_expect_eq(hw_rank_context(&err, HW_OK, 2), HW_OK);
    cr_expect_eq(err.rank, -1);
    cr_expect_eq(hw_rank_context(&err, HW_ERR_DEVICE, 2), HW_ERR_DEVICE);
    hw_context(&err, HW_ERR_DEVICE, "loading");
    cr_expect_eq(err.rank, 2);
    cr_expect(!strncmp(err.message, "loading: rank 2 on ", 19) &&
                  strstr(err.message, ": rank 3: no such file"),
              "%s", err.message);
    cr_expect_eq(hw_rank_context(NULL, HW_ERR_DEVICE, 2), HW_ERR_DEVICE);
}

Test(status, exit_codes_are_those_of_the_manual)
{
    const int want[] = {[HW_OK] = 0,
                        [HW_ERR_CANCELLED] = 1,
                        [HW_ERR_FAILED] = 1,
                        [HW_ERR_INVALID] = 2,
                        [HW_ERR_UNSUPPORTED] = 2,
                        [HW_ERR_MODEL] = 3,
                        [HW_ERR_CACHE_FULL] = 4,
                        [HW_ERR_NO_MEMORY] = 4,
                        [HW_ERR_RANK] = 5,
                        [HW_ERR_DEVICE] = 6};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) cr_assert_eq(hw_exit_code((hw_status)i), want[i]);
}
