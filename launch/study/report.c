/* The report of a study: FOLDER/report.md, with a CSV file for every table and an SVG file for every
 * picture. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/study/study.h"

void hw_study_text(hw_study *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(s->report, format, args);
    va_end(args);
}

static hw_status path_of(const hw_study *s, char path[4096], const char *name, const char *suffix,
                         hw_error *err)
{
    if (snprintf(path, 4096, "%s/%s.%s", s->folder, name, suffix) < 4096) return HW_OK;
    return hw_fail(err, HW_ERR_INVALID, "the path of the output folder is too long");
}

hw_status hw_study_table(hw_study *s, hw_table *t, const char *name, bool in_report, hw_error *err)
{
    char path[4096];
    hw_status st = path_of(s, path, name, "csv", err);
    if (!st) st = hw_table_write_csv(t, path, err);
    if (!st && in_report) hw_table_write_markdown(t, s->report);
    if (!st)
        hw_study_text(s, "%s: [%s.csv](%s.csv)\n\n", in_report ? "\nFigures" : "All figures", name, name);
    hw_table_free(t);
    return st;
}

hw_status hw_study_plot_begin(hw_study *s, hw_study_plot *p, const char *name, const char *title,
                              const char *x_label, const char *y_label, hw_error *err)
{
    p->name = name;
    p->title = title;
    hw_status st = path_of(s, p->path, name, "svg", err);
    return st ? st : hw_plot_begin(&p->plot, p->path, title, x_label, y_label, err);
}

/* Removes the picture of an earlier run, which would not show this run's numbers. */
static bool skip(hw_study *s, hw_study_plot *p)
{
    if (s->can_draw) return false;
    hw_plot_cancel(&p->plot);
    unlink(p->path);
    hw_study_text(s, "(Picture \"%s\" is missing: gnuplot is not installed.)\n\n", p->title);
    return true;
}

hw_status hw_study_plot_lines(hw_study *s, hw_study_plot *p, hw_error *err)
{
    if (skip(s, p)) return HW_OK;
    hw_status st = hw_plot_end_lines(&p->plot, err);
    if (!st) hw_study_text(s, "![%s](%s.svg)\n\n", p->title, p->name);
    return st;
}

hw_status hw_study_plot_bars(hw_study *s, hw_study_plot *p, const char *const *groups, int n, hw_error *err)
{
    if (skip(s, p)) return HW_OK;
    hw_status st = hw_plot_end_bars(&p->plot, groups, n, err);
    if (!st) hw_study_text(s, "![%s](%s.svg)\n\n", p->title, p->name);
    return st;
}
