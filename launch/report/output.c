#include "launch/report/output.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clock.h"

hw_status hw_write(FILE *f, const char *name, const void *bytes, size_t n, hw_error *err)
{
    errno = 0;
    if (fwrite(bytes, 1, n, f) == n && !fflush(f)) return HW_OK;
    return hw_fail(err, HW_ERR_FAILED, "cannot write to %s: %s", name, strerror(errno ? errno : EIO));
}

hw_status hw_print(hw_error *err, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0) return hw_fail(err, HW_ERR_NO_MEMORY, "standard output: no memory");
    hw_status st = hw_write(stdout, "standard output", text, (size_t)n, err);
    free(text);
    return st;
}

hw_status hw_print_json(json_t *document, hw_error *err)
{
    char *text = document ? json_dumps(document, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(document);
    if (!text)
        return hw_fail(err, HW_ERR_NO_MEMORY, "JSON: no memory for the report, or a name in it is not UTF-8");
    hw_status st = hw_print(err, "%s\n", text);
    free(text);
    return st;
}

static char *format_scaled(char text[16], double n, const char *unit)
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P"};
    size_t i = 0;
    while (n >= 999.5 && i + 1 < sizeof prefixes / sizeof *prefixes) n /= 1000, i++;
    snprintf(text, 16, i && n < 99.95 ? "%.1f %s%s" : "%.0f %s%s", n, prefixes[i], unit);
    size_t end = strlen(text);
    if (end && text[end - 1] == ' ') text[end - 1] = '\0';
    return text;
}

char *hw_format_bytes(char text[16], double n_bytes) { return format_scaled(text, n_bytes, "B"); }
char *hw_format_count(char text[16], double n) { return format_scaled(text, n, ""); }

enum { BAR = 30 };

hw_load_progress hw_load_progress_start(int rank, bool quiet)
{
    return (hw_load_progress){
        .enabled = rank == 0 && !quiet, .terminal = isatty(STDERR_FILENO), .shown_at_ns = hw_clock_ns()};
}

void hw_load_progress_show(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    hw_load_progress *p = user;
    uint64_t now = hw_clock_ns();
    char done[16], total[16];
    const uint64_t pause_ns = p->terminal ? 100000000u : 20000000000u;
    if (!p->enabled || now - p->shown_at_ns < pause_ns) return;
    p->shown_at_ns = now;
    const double part = total_bytes ? (double)done_bytes / (double)total_bytes : 1;
    const int filled = part < 1 ? (int)(part * BAR) : BAR;
    fprintf(stderr, "%sloading [%.*s%*s] %3.0f %% %s of %s %s", p->terminal ? "\r" : "", filled,
            "##############################", BAR - filled, "", 100 * part,
            hw_format_bytes(done, (double)done_bytes), hw_format_bytes(total, (double)total_bytes),
            p->terminal ? "" : "\n");
}

void hw_load_progress_end(hw_load_progress *p)
{
    if (p->enabled && p->terminal) fprintf(stderr, "\r%*s\r", BAR + 48, "");
}
