#include "launch/report/plot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MOST_MARKS = 64,
    MOST_NUMBERS = 18
}; /* points of a line, and numbers over bars, that can be told apart */

/* gnuplot's double-quoted strings; what could end or escape them becomes a space. */
static void put_string(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text; text++) fputc(strchr("\"\\`\n{}@&~^_", *text) ? ' ' : *text, f);
    fputc('"', f);
}

/* A file name as it is, in single quotes, where nothing is special but the quote itself. A line break cannot
 * be said. */
static void put_path(FILE *f, const char *path)
{
    fputc('\'', f);
    for (; *path; path++) {
        if (*path == '\'') fputc('\'', f);
        fputc(*path == '\n' ? ' ' : *path, f);
    }
    fputc('\'', f);
}

hw_status hw_plot_begin(hw_plot *p, const char *path, const char *title, const char *x_label,
                        const char *y_label, hw_error *err)
{
    *p = (hw_plot){.path = path};
    p->commands = open_memstream(&p->text, &p->n_text);
    p->numbers = open_memstream(&p->data, &p->n_data);
    if (!p->commands || !p->numbers) return hw_fail(err, HW_ERR_NO_MEMORY, "plot: no memory");
    fprintf(p->commands, "set terminal svg size 840,560 font 'sans,13' background rgb 'white'\nset output ");
    put_path(p->commands, path);
    fprintf(p->commands, "\nset title ");
    put_string(p->commands, title);
    fprintf(p->commands, "\nset xlabel ");
    put_string(p->commands, x_label);
    fprintf(p->commands, "\nset ylabel ");
    put_string(p->commands, y_label);
    /* A column under the picture: a label of any length fits. Colours that also differ without colour vision,
     * none too light. */
    fprintf(p->commands, "\nset grid\nset key outside below center vertical maxcols 1 Left reverse height 1\n"
                         "set linetype cycle 8\n");
    static const char *const colours[] = {"0072b2", "d55e00", "009e73", "cc79a7",
                                          "8c6d00", "56b4e9", "444444", "7f3fbf"};
    for (size_t i = 0; i < sizeof colours / sizeof *colours; i++)
        fprintf(p->commands, "set linetype %zu linecolor rgb '#%s' dashtype %zu\n", i + 1, colours[i],
                i % 4 + 1);
    return HW_OK;
}

void hw_plot_log(hw_plot *p, bool x, bool y)
{
    if (x) fprintf(p->commands, "set logscale x\n");
    if (y) fprintf(p->commands, "set logscale y\n");
    p->log_y = y;
}

static hw_status begin_series(hw_plot *p, hw_error *err)
{
    if (p->n_series == HW_PLOT_MAX_SERIES)
        return hw_fail(err, HW_ERR_INVALID, "plot: more than %d series", HW_PLOT_MAX_SERIES);
    fprintf(p->numbers, "$s%d << EOD\n", p->n_series);
    return HW_OK;
}

static void end_series(hw_plot *p, const char *label)
{
    fprintf(p->numbers, "EOD\nlabel%d = ", p->n_series++);
    put_string(p->numbers, label);
    fprintf(p->numbers, "\n");
}

hw_status hw_plot_line(hw_plot *p, const char *label, const double *x, const double *y, int n, hw_error *err)
{
    hw_status st = begin_series(p, err);
    if (st) return st;
    for (int i = 0; i < n; i++) fprintf(p->numbers, "%.9g %.9g\n", x[i], y[i]);
    if (n > p->most_points) p->most_points = n;
    end_series(p, label);
    return HW_OK;
}

hw_status hw_plot_bars(hw_plot *p, const char *label, const double *values, int n, hw_error *err)
{
    hw_status st = begin_series(p, err);
    if (st) return st;
    for (int i = 0; i < n; i++) fprintf(p->numbers, "%d %.9g\n", i, values[i]);
    end_series(p, label);
    return HW_OK;
}

bool hw_plot_possible(void)
{
    const char *path = getenv("PATH");
    char *copy = path ? strdup(path) : NULL, *rest = copy, name[4096];
    bool found = false;
    for (char *folder; copy && !found && (folder = strsep(&rest, ":"));)
        found = snprintf(name, sizeof name, "%s/gnuplot", folder) < (int)sizeof name && !access(name, X_OK);
    free(copy);
    return found;
}

void hw_plot_cancel(hw_plot *p)
{
    if (p->commands) fclose(p->commands);
    if (p->numbers) fclose(p->numbers);
    free(p->text);
    free(p->data);
    *p = (hw_plot){.path = NULL};
}

static hw_status draw(hw_plot *p, hw_error *err)
{
    bool written = !fclose(p->commands) & !fclose(p->numbers);
    hw_status st = written ? HW_OK : hw_fail(err, HW_ERR_NO_MEMORY, "plot: no memory");
    if (!st && !hw_plot_possible()) {
        fprintf(stderr, "gnuplot is not installed: %s was not drawn\n", p->path);
    } else if (!st) {
        /* gnuplot itself says little of a file that it cannot write. */
        FILE *probe = fopen(p->path, "w");
        if (!probe || fclose(probe))
            st = hw_fail(err, HW_ERR_FAILED, "%s: cannot write: %s", p->path, strerror(errno));
        FILE *gnuplot = st ? NULL : popen("gnuplot 2>/dev/null", "we");
        if (!st && !gnuplot)
            st = hw_fail(err, HW_ERR_FAILED, "%s: gnuplot cannot be started: %s", p->path, strerror(errno));
        if (!st) {
            fprintf(gnuplot, "%s%s", p->data, p->text);
            if (pclose(gnuplot)) st = hw_fail(err, HW_ERR_FAILED, "%s: gnuplot could not draw it", p->path);
        }
    }
    free(p->text);
    free(p->data);
    *p = (hw_plot){.path = NULL};
    return st;
}

hw_status hw_plot_end_lines(hw_plot *p, hw_error *err)
{
    fprintf(p->commands, "set autoscale xfix\n%splot ", p->log_y ? "" : "set yrange [0:*]\n");
    for (int i = 0; i < p->n_series; i++)
        fprintf(p->commands, "%s$s%d using 1:2 with %s linewidth 2 title label%d", i ? ", " : "", i,
                p->most_points > MOST_MARKS ? "lines" : "linespoints pointsize 0.5", i);
    fprintf(p->commands, "\n");
    return draw(p, err);
}

hw_status hw_plot_end_bars(hw_plot *p, const char *const *groups, int n, hw_error *err)
{
    double width = 0.8 / (p->n_series ? p->n_series : 1);
    bool numbers = p->n_series * n <= MOST_NUMBERS;
    if (p->n_series == 1) fprintf(p->commands, "unset key\n");
    fprintf(p->commands,
            "set style fill solid 0.8\nset boxwidth %g\nset yrange [0:*]\nset xrange [-0.5:%g]\nset xtics (",
            width, n - 0.5);
    for (int i = 0; i < n; i++) {
        fprintf(p->commands, "%s", i ? ", " : "");
        put_string(p->commands, groups[i]);
        fprintf(p->commands, " %d", i);
    }
    fprintf(p->commands, ")\nset offsets 0, 0, graph 0.08, 0\nplot ");
    for (int i = 0; i < p->n_series; i++) {
        double shift = (i - (p->n_series - 1) / 2.0) * width;
        fprintf(p->commands, "%s$s%d using ($1 + %g):2 with boxes linetype %d dashtype 1 title label%d",
                i ? ", " : "", i, shift, i + 1, i);
        if (numbers)
            fprintf(
                p->commands,
                ", $s%d using ($1 + %g):2:(sprintf('%%.5g', $2)) with labels offset 0,0.6 font ',10' notitle",
                i, shift);
    }
    fprintf(p->commands, "\n");
    return draw(p, err);
}
