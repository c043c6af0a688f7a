#include "launch/report/table.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

hw_table hw_table_begin(const hw_column *columns, int n_columns)
{
    assert(n_columns <= HW_TABLE_MAX_COLUMNS);
    return (hw_table){.columns = columns, .n_columns = n_columns};
}

void hw_table_free(hw_table *t)
{
    free(t->cells);
    *t = (hw_table){.n_columns = 0};
}

static void add(hw_table *t, const hw_cell *cell)
{
    if (t->n_cells == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 64;
        hw_cell *more = realloc(t->cells, capacity * sizeof *more);
        if (!more) {
            t->failed = true;
            return;
        }
        t->cells = more;
        t->capacity = capacity;
    }
    t->cells[t->n_cells++] = *cell;
}

void hw_table_text(hw_table *t, const char *format, ...)
{
    hw_cell cell = {.kind = HW_CELL_TEXT};
    va_list args;
    va_start(args, format);
    vsnprintf(cell.text, sizeof cell.text, format, args);
    va_end(args);
    add(t, &cell);
}

void hw_table_count(hw_table *t, uint64_t n) { add(t, &(hw_cell){.kind = HW_CELL_COUNT, .count = n}); }

void hw_table_real(hw_table *t, double x)
{
    if (isfinite(x)) add(t, &(hw_cell){.kind = HW_CELL_REAL, .real = x});
    else add(t, &(hw_cell){.kind = HW_CELL_TEXT});
}

/* ---- CSV */

static void put_csv(FILE *f, const hw_cell *cell)
{
    if (cell->kind == HW_CELL_COUNT) fprintf(f, "%" PRIu64, cell->count);
    else if (cell->kind == HW_CELL_REAL) fprintf(f, "%.9g", cell->real);
    else if (!strpbrk(cell->text, ",\"")) fputs(cell->text, f);
    else { /* RFC 4180: quoted, quotes doubled */ fputc('"', f);
        for (const char *p = cell->text; *p; p++) fprintf(f, "%s%c", *p == '"' ? "\"" : "", *p);
        fputc('"', f);
    }
}

void hw_table_print_csv(const hw_table *t, FILE *f)
{
    for (int c = 0; c < t->n_columns; c++) fprintf(f, "%s%s", c ? "," : "", t->columns[c].name);
    for (size_t i = 0; i < t->n_cells; i++) {
        fputc(i % (size_t)t->n_columns ? ',' : '\n', f);
        put_csv(f, &t->cells[i]);
    }
    fputc('\n', f);
}

hw_status hw_table_write_csv(const hw_table *t, const char *path, hw_error *err)
{
    if (t->failed) return hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory for its figures", path);
    FILE *f = fopen(path, "w");
    if (!f) return hw_fail(err, HW_ERR_FAILED, "%s: cannot write: %s", path, strerror(errno));
    hw_table_print_csv(t, f);
    bool bad = ferror(f);
    if (fclose(f) || bad) return hw_fail(err, HW_ERR_FAILED, "%s: cannot write: %s", path, strerror(errno));
    return HW_OK;
}

/* ---- for people */

static size_t n_rows(const hw_table *t) { return t->n_cells / (size_t)t->n_columns; }

static const hw_cell *cell_at(const hw_table *t, size_t row, int column)
{
    return &t->cells[row * (size_t)t->n_columns + (size_t)column];
}

static bool is_text(const hw_cell *c) { return c->kind == HW_CELL_TEXT && c->text[0]; }

/* Columns with a label, and something in them. */
static bool is_shown(const hw_table *t, int column)
{
    if (!t->columns[column].label) return false;
    for (size_t row = 0; row < n_rows(t); row++)
        if (cell_at(t, row, column)->kind != HW_CELL_TEXT || is_text(cell_at(t, row, column))) return true;
    return false;
}

/* 91259229696000 as 91,259,229,696,000. */
static void group(char text[32], uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n);
    char *to = text;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0) *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
}

/* `text` [64] */
static const char *format_cell(char *text, const hw_cell *cell)
{
    double x = cell->real, size = fabs(x);
    if (cell->kind == HW_CELL_TEXT) return cell->text;
    if (cell->kind == HW_CELL_COUNT) group(text, cell->count);
    else if (size < 1e-9) strcpy(text, "0");
    else if (x >= 1000 && x < 1e15) group(text, (uint64_t)llround(x));
    else snprintf(text, 64, "%.4g", x);
    return text;
}

void hw_table_write_markdown(const hw_table *t, FILE *f)
{
    char text[64];
    for (int line = 0; line < 2; line++) {
        for (int c = 0; c < t->n_columns; c++) {
            if (!is_shown(t, c)) continue;
            fprintf(f, "| %s ", !line ? t->columns[c].label : is_text(cell_at(t, 0, c)) ? "---" : "---:");
        }
        fprintf(f, "|\n");
    }
    for (size_t row = 0; row < n_rows(t); row++) {
        for (int c = 0; c < t->n_columns; c++)
            if (is_shown(t, c)) fprintf(f, "| %s ", format_cell(text, cell_at(t, row, c)));
        fprintf(f, "|\n");
    }
}

/* Characters, of UTF-8. */
static int width(const char *text)
{
    int n = 0;
    for (; *text; text++) n += (*text & 0xc0) != 0x80;
    return n;
}

/* The first column to the left, the others to the right. */
static void put_padded(FILE *f, const char *text, int column, int wide)
{
    const int gap = wide - width(text);
    if (column) fprintf(f, "  %*s%s", gap, "", text);
    else fprintf(f, "%s%*s", text, gap, "");
}

void hw_table_write_text(const hw_table *t, FILE *f)
{
    int widths[HW_TABLE_MAX_COLUMNS] = {0};
    char text[64];
    for (int c = 0; c < t->n_columns; c++) {
        if (!is_shown(t, c)) continue;
        widths[c] = width(t->columns[c].label);
        for (size_t row = 0; row < n_rows(t); row++) {
            const int n = width(format_cell(text, cell_at(t, row, c)));
            if (n > widths[c]) widths[c] = n;
        }
    }
    for (int c = 0; c < t->n_columns; c++)
        if (widths[c]) put_padded(f, t->columns[c].label, c, widths[c]);
    fputc('\n', f);
    for (size_t row = 0; row < n_rows(t); row++) {
        for (int c = 0; c < t->n_columns; c++)
            if (widths[c]) put_padded(f, format_cell(text, cell_at(t, row, c)), c, widths[c]);
        fputc('\n', f);
    }
}
