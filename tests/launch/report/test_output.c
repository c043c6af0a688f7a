#include "launch/report/output.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"

/* What a progress function that is at work writes to standard error. The caller frees it. */
static char *shown(hw_load_progress p, uint64_t done, uint64_t total)
{
    char *text = NULL;
    size_t n;
    FILE *kept = stderr;
    stderr = open_memstream(&text, &n);
    hw_load_progress_show(&p, done, total);
    fclose(stderr);
    stderr = kept;
    return text;
}

Test(output, a_bar_fills_as_bytes_arrive)
{
    static const struct {
        uint64_t done, total;
        size_t filled;
    } steps[] = {{0, 3000000000, 0},
                 {1500000000, 3000000000, 15},
                 {3000000000, 3000000000, 30},
                 {4, 3, 30},
                 {0, 0, 30}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        char *text = shown((hw_load_progress){.enabled = 1, .terminal = 1}, steps[i].done, steps[i].total);
        size_t filled = 0;
        for (const char *p = text; *p; p++) filled += *p == '#';
        cr_expect_eq(filled, steps[i].filled, "%s", text);
        cr_expect(text[0] == '\r' && !strchr(text, '\n'), "one line, over the last one: %s", text);
        free(text);
    }
    char *half = shown((hw_load_progress){.enabled = 1, .terminal = 1}, 1500000000, 3000000000);
    cr_expect(strstr(half, "50 % 1.5 GB of 3.0 GB"), "%s", half);
    free(half);
}

Test(output, where_there_is_no_terminal_lines_follow_each_other_slowly)
{
    char *text = shown((hw_load_progress){.enabled = 1}, 1500000000, 3000000000);
    cr_expect(!strchr(text, '\r') && strchr(text, '\n') == text + strlen(text) - 1, "%s", text);
    free(text);
    text = shown((hw_load_progress){.enabled = 1, .shown_at_ns = hw_clock_ns()}, 1500000000, 3000000000);
    cr_expect_str_eq(text, "", "twenty seconds have passed since it began?");
    free(text);
}

Test(output, there_is_no_bar_on_other_ranks_and_when_nobody_wants_it)
{
    cr_expect_not(hw_load_progress_start(1, false).enabled);
    cr_expect_not(hw_load_progress_start(0, true).enabled);
    char *text = shown(hw_load_progress_start(0, true), 1, 2);
    cr_expect_str_eq(text, "");
    free(text);
}
