/* Stop strings against a plain search over the whole text, however the text is cut into pieces. */
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/stop.h"

enum { MAX_TEXT = 64 };

/* The length of the text before the stop string that is complete first (of several that end together, the
 * longest); the whole text when there is none. */
static size_t naive(const char *text, const char *const *stops, int n_stops, bool *stopped)
{
    *stopped = true;
    for (size_t end = 1; end <= strlen(text); end++) {
        size_t longest = 0;
        for (int i = 0; i < n_stops; i++) {
            size_t n = strlen(stops[i]);
            if (n <= end && n > longest && !memcmp(text + end - n, stops[i], n)) longest = n;
        }
        if (longest) return end - longest;
    }
    *stopped = false;
    return strlen(text);
}

typedef struct given {
    char text[MAX_TEXT + 1];
    size_t n;
    bool stopped;
} given;

static void take(given *g, const char *text, size_t n)
{
    cr_assert_leq(g->n + n, MAX_TEXT);
    if (n) memcpy(g->text + g->n, text, n);
    g->n += n;
}

/* Bit i of `cuts` set: a new piece begins after byte i. */
static given run(const char *text, const char *const *stops, int n_stops, uint64_t cuts)
{
    given g = {.n = 0};
    hw_stop *s;
    hw_error err;
    const char *out;
    size_t n_out, n = strlen(text), begin = 0;
    cr_assert_eq(hw_stop_create(&s, stops, n_stops, &err), HW_OK);
    for (size_t end = 1; end <= n && !g.stopped; end++) {
        if (end < n && !(cuts >> (end - 1) & 1)) continue;
        cr_assert_eq(hw_stop_push(s, text + begin, end - begin, &out, &n_out, &g.stopped, &err), HW_OK);
        take(&g, out, n_out);
        begin = end;
    }
    if (!g.stopped) {
        hw_stop_finish(s, &out, &n_out);
        take(&g, out, n_out);
    }
    hw_stop_destroy(s);
    return g;
}

static void check(const char *text, const char *const *stops, int n_stops, uint64_t cuts)
{
    bool stopped;
    size_t want = naive(text, stops, n_stops, &stopped);
    given got = run(text, stops, n_stops, cuts);
    cr_assert(got.stopped == stopped && got.n == want && !memcmp(got.text, text, want),
              "\"%s\", cuts %llx, first stop \"%s\": got \"%.*s\"%s, wanted the first %zu bytes", text,
              (unsigned long long)cuts, stops[0], (int)got.n, got.text, got.stopped ? " stopped" : "", want);
}

/* Every way to cut a text of n bytes. */
static void check_all_cuts(const char *text, const char *const *stops, int n_stops)
{
    for (uint64_t cuts = 0; cuts < UINT64_C(1) << (strlen(text) - 1); cuts++)
        check(text, stops, n_stops, cuts);
}

#define CHECK_ALL_CUTS(text, ...)                                                                            \
    check_all_cuts(text, (const char *const[]){__VA_ARGS__},                                                 \
                   (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)))

Test(stop, a_stop_string_is_found_however_the_text_is_cut)
{
    CHECK_ALL_CUTS("hello world", "wor");
    CHECK_ALL_CUTS("hello world", "world");
    CHECK_ALL_CUTS("hello world", "h");
    CHECK_ALL_CUTS("hello world", "worlds");
    CHECK_ALL_CUTS("aaaaabaaab", "aab"); /* begins again inside a beginning of itself */
    CHECK_ALL_CUTS("abababac", "ababac");
    CHECK_ALL_CUTS("aaaa", "aaaaa");
    CHECK_ALL_CUTS("x\n\nUser:", "\nUser:");
    CHECK_ALL_CUTS("na\xc3\xafve \xe2\x82\xac", "\xe2\x82\xac");
}

Test(stop, of_several_the_first_to_be_complete_ends_the_text)
{
    CHECK_ALL_CUTS("abcdef", "def", "cd");
    CHECK_ALL_CUTS("abcdef", "bcdef", "d"); /* the short one is complete while the long one is open */
    CHECK_ALL_CUTS("abcdef", "cd", "bcd", "d");
    CHECK_ALL_CUTS("abcabd", "abd", "abcabe");
    CHECK_ALL_CUTS("one two one", "two", "one ", "e");
}

/* All texts of 9 letters a and b, with pairs of stop strings of up to 4 letters, in one piece, letter by
 * letter, and cut in a way that depends on the text. */
Test(stop, agrees_with_the_plain_search_on_every_short_text)
{
    char text[10] = {0}, stops[2][5];
    for (unsigned t = 0; t < 512; t++) {
        for (int i = 0; i < 9; i++) text[i] = (char)('a' + (t >> i & 1));
        for (unsigned pair = 0; pair < 1024; pair++) {
            for (int s = 0; s < 2; s++) {
                unsigned bits = pair >> 5 * s & 31;
                size_t n = 0;
                for (; bits > 1 && n < 4; bits >>= 1) stops[s][n++] = (char)('a' + (bits & 1));
                stops[s][n] = 0;
            }
            if (!*stops[0] || !*stops[1]) continue;
            const char *const both[2] = {stops[0], stops[1]};
            check(text, both, 2, 0);
            check(text, both, 2, ~UINT64_C(0));
            check(text, both, 2, t * 37);
        }
    }
}

Test(stop, text_that_cannot_begin_a_stop_string_is_given_at_once)
{
    const char *const stops[] = {"END"};
    hw_stop *s;
    const char *out;
    size_t n;
    bool stopped;
    cr_assert_eq(hw_stop_create(&s, stops, 1, NULL), HW_OK);
    cr_assert_eq(hw_stop_push(s, "no E", 4, &out, &n, &stopped, NULL), HW_OK);
    cr_expect_arr_eq(out, "no ", 3);
    cr_expect_eq(n, 3);
    cr_assert_eq(hw_stop_push(s, NULL, 0, &out, &n, &stopped, NULL),
                 HW_OK); /* half a character gives no text */
    cr_expect_eq(n, 0);
    cr_assert_eq(hw_stop_push(s, "N", 1, &out, &n, &stopped, NULL), HW_OK);
    cr_expect_eq(n, 0);
    cr_assert_eq(hw_stop_push(s, "d", 1, &out, &n, &stopped, NULL), HW_OK);
    cr_expect_arr_eq(out, "ENd", 3);
    cr_expect_eq(n, 3);
    cr_expect_not(stopped);
    hw_stop_finish(s, &out, &n);
    cr_expect_eq(n, 0);
    hw_stop_destroy(s);
}

Test(stop, without_stop_strings_everything_is_given_and_an_end_without_text_is_empty)
{
    hw_stop *s;
    const char *out;
    size_t n;
    bool stopped;
    cr_assert_eq(hw_stop_create(&s, NULL, 0, NULL), HW_OK);
    hw_stop_finish(s, &out, &n);
    cr_expect_eq(n, 0);
    cr_assert_eq(hw_stop_push(s, "abc", 3, &out, &n, &stopped, NULL), HW_OK);
    cr_expect(n == 3 && !stopped);
    hw_stop_destroy(s);
    hw_stop_destroy(NULL);
}

Test(stop, an_empty_stop_string_is_refused)
{
    const char *const stops[] = {"fine", ""};
    hw_stop *s = (hw_stop *)&s;
    hw_error err;
    cr_expect_eq(hw_stop_create(&s, stops, 2, &err), HW_ERR_INVALID);
    cr_expect_null(s);
    cr_expect_str_eq(err.message, "a stop string is empty");
}

/* It could match the second half of a character and leave the first behind. */
Test(stop, a_stop_string_that_is_not_utf8_is_refused_by_number_and_offset)
{
    static const char *const strings[] = {"\xc3\xa9", "b\xa9"};
    hw_stop *stop;
    hw_error err = {.rank = -1};
    cr_expect_eq(hw_stop_create(&stop, strings, 2, &err), HW_ERR_INVALID);
    cr_expect_null(stop);
    cr_expect_str_eq(err.message, "stop string 2 is not UTF-8: byte 0xa9 at offset 1");
    cr_expect_eq(hw_stop_create(&stop, strings, 1, &err), HW_OK);
    hw_stop_destroy(stop);
}
