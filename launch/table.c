#include "launch/table.h"

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

hw_status hw_table_write_csv(const hw_table *t, const char *path, hw_error *err)
{
    if (t->failed) return hw_fail(err, HW_ERR_NO_MEMORY, "%s: no memory for its figures", path);
    FILE *f = fopen(path, "w");
    if (!f) return hw_fail(err, HW_ERR_FAILED, "%s: cannot write: %s", path, strerror(errno));
    for (int c = 0; c < t->n_columns; c++) fprintf(f, "%s%s", c ? "," : "", t->columns[c].name);
    for (size_t i = 0; i < t->n_cells; i++) {
        fputc(i % (size_t)t->n_columns ? ',' : '\n', f);
        put_csv(f, &t->cells[i]);
    }
    fputc('\n', f);
    bool bad = ferror(f);
    if (fclose(f) || bad) return hw_fail(err, HW_ERR_FAILED, "%s: cannot write: %s", path, strerror(errno));
    return HW_OK;
}

/* ---- Markdown */

/* 91259229696000 as 91,259,229,696,000. */
static void put_grouped(FILE *f, uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n);
    for (int i = 0; i < len; i++) fprintf(f, "%s%c", i && (len - i) % 3 == 0 ? "," : "", digits[i]);
}

static void put_markdown(FILE *f, const hw_cell *cell)
{
    double x = cell->real, size = fabs(x);
    if (cell->kind == HW_CELL_TEXT) fputs(cell->text, f);
    else if (cell->kind == HW_CELL_COUNT) put_grouped(f, cell->count);
    else if (size < 1e-9) fputc('0', f);
    else if (x >= 1e15) fprintf(f, "%.4g", x);
    else if (x >= 1000) put_grouped(f, (uint64_t)llround(x));
    else fprintf(f, "%.4g", x);
}

void hw_table_write_markdown(const hw_table *t, FILE *f)
{
    for (int line = 0; line < 2; line++) {
        for (int c = 0; c < t->n_columns; c++) {
            if (!t->columns[c].label) continue;
            bool text = (size_t)c < t->n_cells && t->cells[c].kind == HW_CELL_TEXT && t->cells[c].text[0];
            fprintf(f, "| %s ", line ? (text ? "---" : "---:") : t->columns[c].label);
        }
        fprintf(f, "|\n");
    }
    for (size_t row = 0; row + (size_t)t->n_columns <= t->n_cells; row += (size_t)t->n_columns) {
        for (int c = 0; c < t->n_columns; c++) {
            if (!t->columns[c].label) continue;
            fprintf(f, "| ");
            put_markdown(f, &t->cells[row + (size_t)c]);
            fprintf(f, " ");
        }
        fprintf(f, "|\n");
    }
}
