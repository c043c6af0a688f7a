/* Pictures drawn by gnuplot, which is optional: without it one line says that a picture is missing, and everything else
 * works. All functions are Local. */
#ifndef HW_LAUNCH_REPORT_PLOT_H
#define HW_LAUNCH_REPORT_PLOT_H

#include <stdbool.h>
#include <stdio.h>

#include "runtime/base/status.h"

enum { HW_PLOT_MAX_SERIES = 16 };

/* One picture. Plain, but private to the functions below. begin, then lines or bars, then the matching end, which draws
 * and frees. */
typedef struct hw_plot {
    const char *path;  /* FILE.svg, borrowed until the end */
    char *text, *data; /* the commands, and the numbers before them */
    size_t n_text, n_data;
    FILE *commands, *numbers;
    int n_series, most_points;
    bool log_y;
} hw_plot;

/* Errors: HW_ERR_NO_MEMORY. */
hw_status hw_plot_begin(hw_plot *p, const char *path, const char *title, const char *x_label,
                        const char *y_label, hw_error *err);

/* Logarithmic axes. */
void hw_plot_log(hw_plot *p, bool x, bool y);

/* A line through n points, or one bar in each of n groups. At most HW_PLOT_MAX_SERIES of them. */
hw_status hw_plot_line(hw_plot *p, const char *label, const double *x, const double *y, int n, hw_error *err);
hw_status hw_plot_bars(hw_plot *p, const char *label, const double *values, int n, hw_error *err);

/* Whether gnuplot is installed. */
bool hw_plot_possible(void);

/* Frees the picture without drawing; replaces an end. */
void hw_plot_cancel(hw_plot *p);

/* Draws. Without gnuplot: a line on standard error and HW_OK. Errors: HW_ERR_FAILED when the file cannot be
 * written. */
hw_status hw_plot_end_lines(hw_plot *p, hw_error *err);
hw_status hw_plot_end_bars(hw_plot *p, const char *const *groups, int n, hw_error *err);

#endif
